"""`cfgbench run`: sweep, score, time, report."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cfgbench.commands import Commands, experiment_parser, output_folder, positive
from cfgbench.errors import InputError

if TYPE_CHECKING:
    from cfgbench.plan import Plan


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = experiment_parser(commands, "run", "sweep, score, time, report; run again to go on", _run)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--workers", type=positive, help="worker processes (default: one per core; one on a GPU)")
    parser.add_argument("--threads", type=positive, default=1, help="threads of the timed passes (default: 1)")
    parser.add_argument("--no-profile", action="store_true", help="skip the timed passes")
    parser.add_argument("--check-scores", action="store_true", help="let torchmetrics recompute the scores")


def _run(options: argparse.Namespace) -> int:
    from cfgbench import experiment, machine, overview, plan, report, runner
    from cfgbench.console import Bar

    made = plan.plan(experiment.load(options.experiment, options.overrides))
    folder = output_folder(made.experiment.name, options)
    device = _device(options.device, machine.has_cuda())
    workers = options.workers or (1 if device.startswith("cuda") else machine.cores())
    for note in made.notes:
        print(note, file=sys.stderr)
    settings = runner.Options(folder, device, workers, not options.no_profile, options.threads)
    with Bar(len(made.tasks), runner.finished(made, folder)) as bar:
        outcome = runner.run(made, settings, bar)
    agrees = _check_scores(made, folder, device) if options.check_scores else True
    report.build(folder)
    print(overview.outcome(outcome, folder), file=sys.stderr)
    print(report.answer(folder))
    return 1 if outcome.failed or outcome.untimed or not agrees else 0


def _check_scores(made: "Plan", folder: Path, device: str) -> bool:
    from cfgbench import witness

    verdict = witness.check(made, folder, device)
    print(verdict)
    return verdict.agrees


def _device(given: str | None, has_cuda: bool) -> str:
    if given is None:
        return "cuda" if has_cuda else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", given):
        raise InputError(f"--device {given!r}; allowed: cpu, cuda, cuda:N")
    if given != "cpu" and not has_cuda:
        raise InputError(f"--device {given!r}: this machine shows no CUDA device; allowed: cpu")
    return given
