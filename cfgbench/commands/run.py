"""`cfgbench run`: sweep, score, time, report."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cfgbench.commands import Commands, device_name, experiment_parser, output_folder, positive
from cfgbench.errors import InputError

if TYPE_CHECKING:
    from cfgbench.planning.plan import Plan
    from cfgbench.running.pool import Executor
    from cfgbench.running.runner import Options


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = experiment_parser(commands, "run", "sweep, score, time, report; run again to go on", _run)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--workers", type=positive, help="worker processes (default: one per core, or one per GPU)")
    parser.add_argument("--threads", type=positive, default=1, help="threads of the timed passes (default: 1)")
    parser.add_argument("--no-profile", action="store_true", help="skip the timed passes")
    parser.add_argument("--executor", choices=["local", "ray"], default="local", help="who works (default: local)")
    parser.add_argument("--address", help="of a Ray cluster: auto or HOST:PORT (default: one of this machine alone)")
    parser.add_argument("--shard", metavar="I/N", help="draw this part of the blocks only, as job I of an array of N")
    parser.add_argument("--check-scores", action="store_true", help="let torchmetrics recompute the scores")


def _run(options: argparse.Namespace) -> int:
    from cfgbench.console import Bar
    from cfgbench.planning import experiment, plan
    from cfgbench.reading import report
    from cfgbench.running import overview, runner, shards

    shard = None if options.shard is None else shards.parse(options.shard)
    made = plan.plan(experiment.load(options.experiment, options.overrides))
    folder = output_folder(made.experiment.name, options)
    for note in made.notes:
        print(note, file=sys.stderr)
    settings, executor = _on_ray(options, folder) if options.executor == "ray" else (_locally(options, folder), None)
    if shard is not None:
        with Bar() as bar:
            outcome = runner.draw_share(made, shard, settings, bar, executor)
        print(overview.share(outcome, shard, folder), file=sys.stderr)
        return 1 if outcome.failed else 0
    with Bar(len(made.tasks), runner.finished(made, folder)) as bar:
        outcome = runner.run(made, settings, bar, executor)
    agrees = _check_scores(made, folder, settings.device) if options.check_scores else True
    report.refresh(folder)
    print(overview.outcome(outcome, folder), file=sys.stderr)
    print(report.answer(folder))
    return 1 if outcome.failed or outcome.untimed or not agrees else 0


def _locally(options: argparse.Namespace, folder: Path) -> "Options":
    from cfgbench import machine
    from cfgbench.running import runner

    if options.address is not None:
        raise InputError("--address names a Ray cluster; add --executor ray")
    device = device_name(options.device, machine.has_cuda())
    workers = options.workers or {"cpu": machine.cores(), "cuda": len(machine.gpus())}.get(device, 1)
    return runner.Options(folder, device, workers, not options.no_profile, options.threads)


def _on_ray(options: argparse.Namespace, folder: Path) -> "tuple[Options, Executor]":
    from cfgbench.running import runner
    from cfgbench.running.ray_pool import RayPool

    pool = RayPool(folder.resolve(), options.address, options.device, options.workers)
    if not options.no_profile:
        print("speed is not timed on a cluster; run again without --executor ray to time one machine", file=sys.stderr)
    return runner.Options(folder.resolve(), pool.device, pool.workers, profile=False), pool


def _check_scores(made: "Plan", folder: Path, device: str) -> bool:
    from cfgbench.running import witness

    verdict = witness.check(made, folder, device)
    print(verdict)
    return verdict.agrees
