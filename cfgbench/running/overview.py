"""Text about a plan before it runs and about a run when it has ended."""

from pathlib import Path

from cfgbench.console import title
from cfgbench.planning.plan import Plan
from cfgbench.running.runner import Outcome, is_finished
from cfgbench.running.shards import Shard
from cfgbench.store import Store


def describe(plan: Plan, folder: Path) -> str:
    """The cells of a plan, which of them are finished, and what the others will cost."""
    store = Store(folder)
    lines, todo = [], []
    for task in plan.tasks:
        finished = is_finished(task, store)
        passes = task.cell.classifier_evaluations
        cost = f"{task.cell.evaluations} passes" + (f" + {passes} classifier" if passes else "")
        lines.append(f"{task.cell.id}  {title(task.cell):<60} {cost:<28} {'done' if finished else ''}".rstrip())
        if not finished:
            todo.append(task)
    network = sum(task.num_samples * task.cell.evaluations for task in todo)
    classes = len({task.cell.cost_class for task in plan.tasks})
    total = (
        f"{len(plan.tasks)} cells of {plan.experiment.num_samples} samples, {len(plan.tasks) - len(todo)} done; "
        f"at most {network:,} network passes to go; {classes} cost classes to time"
    )
    return "\n".join([*plan.notes, *lines, total])


def outcome(outcome: Outcome, folder: Path) -> str:
    """What a run did, and what to do about what failed."""
    text = f"{outcome.computed} cells computed, {outcome.skipped} were finished before; results in {folder}"
    text += _failures(outcome, folder)
    for reason in outcome.untimed:
        text += f"\nnot timed: {reason}"
    return text


def share(outcome: Outcome, shard: Shard, folder: Path) -> str:
    """What a shard did, and what comes after it."""
    text = f"shard {shard}: its blocks are drawn, in {folder}"
    return text + _failures(outcome, folder) + "\nwhen every shard has ended, the same command without --shard scores"


def _failures(outcome: Outcome, folder: Path) -> str:
    if not outcome.failed:
        return ""
    return (
        f"\n{len(outcome.failed)} cells failed; the traceback is in the field `error` of "
        f"{folder}/records/{outcome.failed[0]}.json; run the same command to try them again"
    )
