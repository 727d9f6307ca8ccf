"""The command line: parse, call, print. Heavy modules are imported by the command that needs them.

Exit codes: 0 done, 1 some cells failed, 2 bad input, 130 and 143 interrupted (what is finished is kept).
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from cfgbench import __version__
from cfgbench.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"cfgbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        name = "SIGTERM" if interrupt.args else "Ctrl-C"
        text = f"\ncfgbench: stopped by {name}; what is finished is kept, run the same command to go on"
        print(text, file=sys.stderr)
        return 143 if interrupt.args else 130
    except BrokenPipeError:  # `| head` has read enough; nor shall Python's last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"cfgbench: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt("SIGTERM")


def _plan(options: argparse.Namespace) -> int:
    from cfgbench import experiment, overview, plan

    made = plan.plan(experiment.load(options.experiment, options.overrides))
    print(overview.describe(made, _folder(made.experiment.name, options)))
    return 0


def _run(options: argparse.Namespace) -> int:
    from cfgbench import experiment, machine, overview, plan, report, runner
    from cfgbench.console import Bar

    made = plan.plan(experiment.load(options.experiment, options.overrides))
    folder = _folder(made.experiment.name, options)
    device = _device(options.device, machine.has_cuda())
    workers = options.workers or (1 if device.startswith("cuda") else machine.cores())
    for note in made.notes:
        print(note, file=sys.stderr)
    settings = runner.Options(folder, device, workers, not options.no_profile, options.threads)
    with Bar() as bar:
        outcome = runner.run(made, settings, bar)
    if options.check_scores:
        from cfgbench import witness

        print(witness.check(made, folder, device))
    report.build(folder)
    print(overview.outcome(outcome, folder), file=sys.stderr)
    print(report.answer(folder))
    return 1 if outcome.failed or outcome.untimed else 0


def _report(options: argparse.Namespace) -> int:
    from cfgbench import report

    for path in report.build(options.folder):
        print(path)
    print(report.answer(options.folder))
    return 0


def _train(options: argparse.Namespace) -> int:
    from cfgbench.digits_data import WEIGHTS
    from cfgbench.training import digits

    try:
        digits.train(options.output or WEIGHTS, options.only, print)
    except ValueError as error:
        raise InputError(str(error)) from None
    return 0


def _device(given: str | None, has_cuda: bool) -> str:
    if given is None:
        return "cuda" if has_cuda else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", given):
        raise InputError(f"--device {given!r}; allowed: cpu, cuda, cuda:N")
    if given != "cpu" and not has_cuda:
        raise InputError(f"--device {given!r}: this machine shows no CUDA device; allowed: cpu")
    return given


def _folder(name: str, options: argparse.Namespace) -> Path:
    folder: Path = options.output or Path("results") / name
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cfgbench", description=sys.modules["cfgbench"].__doc__)
    parser.add_argument("--version", action="version", version=f"cfgbench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = _experiment_command(commands, "run", "sweep, score, time, report; run again to go on", _run)
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    run.add_argument("--workers", type=_positive, help="worker processes (default: one per core; one on a GPU)")
    run.add_argument("--threads", type=_positive, default=1, help="threads of the timed passes (default: 1)")
    run.add_argument("--no-profile", action="store_true", help="skip the timed passes")
    run.add_argument("--check-scores", action="store_true", help="let torchmetrics recompute the scores")
    _experiment_command(commands, "plan", "print the cells of an experiment and what they will cost", _plan)
    report = commands.add_parser("report", help="rebuild tables and figures from the records of a results folder")
    report.add_argument("folder", type=Path, help="for example results/digits")
    report.set_defaults(command=_report)
    train = commands.add_parser("train", help="train the networks of a testbed")
    train.add_argument("testbed", choices=["digits"])
    train.add_argument("--output", type=Path, help="folder of the weights (default: those of the package)")
    train.add_argument("--only", nargs="+", metavar="NETWORK", help="names of networks to train")
    train.set_defaults(command=_train)
    return parser


def _experiment_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help_text: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("experiment", type=Path, help="a YAML file, for example experiments/digits.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example num_samples=200 steps=10")
    parser.add_argument("--output", type=Path, help="results folder (default: results/<name>)")
    parser.set_defaults(command=function)
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
