"""The command line: parse, call, print. Heavy modules are imported by the command that needs them.

Exit codes: 0 done, 1 some cells failed, a witness contradicts a score or a method breaks a promise, 2 bad input, 130
and 143 interrupted (what is finished is kept).
"""

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cfgbench import __version__
from cfgbench.commands import costs
from cfgbench.errors import InputError
from cfgbench.units import memory, seconds

if TYPE_CHECKING:
    from cfgbench.plan import Plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if os.name != "posix":  # file locks and fork servers
            raise InputError("cfgbench runs on Linux and macOS; on Windows use WSL")
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


def _report(options: argparse.Namespace) -> int:
    from cfgbench import report

    for path in report.build(options.folder):
        print(path)
    print(report.answer(options.folder))
    return 0


def _score(options: argparse.Namespace) -> int:
    from cfgbench import report
    from cfgbench.console import Bar
    from cfgbench.external import arms, manifest, score

    notes: list[str] = []
    if options.manifest and options.arms:
        raise InputError("give the samples either as s=SCALE:PATH or in --manifest, not both")
    given = manifest.load(options.manifest) if options.manifest else arms.from_arguments(options.arms, notes)
    metrics = tuple(options.metrics.split(",")) if options.metrics else ()
    request = score.Request(options.name, tuple(given), options.reference, options.encoder, metrics, tuple(notes))
    folder = _folder(options.name, options)
    for note in notes:
        print(note, file=sys.stderr)
    with Bar() as bar:
        fresh = score.run(request, folder, bar)
    report.build(folder)
    print(f"{fresh} arms scored; results in {folder}", file=sys.stderr)
    print(report.answer(folder))
    return 0


def _recommend(options: argparse.Namespace) -> int:
    from cfgbench.recommend import rules, script, words
    from cfgbench.recommend.budget import Budget
    from cfgbench.tables.results import load

    budget = Budget(options.max_latency, options.max_memory, options.max_nfe, options.batch_size)
    made = rules.recommend(load(options.folder), budget, options.prefer)
    print(json.dumps(script.to_json(made), indent=1) if options.json else words.to_text(made))
    return 1 if made.exceeded else 0


def _compare(options: argparse.Namespace) -> int:
    from cfgbench.comparison import matching, write

    pairs = matching.read(options.folders, options.scores)
    for sentence in (sentence for pair in pairs for sentence in write.sentences(pair)):
        print(sentence)
    sides = [pairs[0].first, *(pair.second for pair in pairs)]
    name = "-vs-".join(side.results.folder.resolve().name for side in sides)
    for path in write.write(pairs, options.output or Path("results") / name):
        print(path)
    return 0


def _figures(options: argparse.Namespace) -> int:
    from cfgbench import paper

    if options.folder is None:
        print(paper.listing())
        return 0
    names = paper.chosen(options.only, options.published)
    output = options.output or Path("results") / "paper" / options.folder.resolve().name
    written = paper.render(options.folder, output, names, options.width, options.formats)
    for path in written:
        print(path)
    for name in sorted(set(names) - {path.stem for path in written}):
        print(f"{name} does not apply to this experiment", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> int:
    from cfgbench import conformance, plugins

    plugins.search(Path.cwd())
    findings = conformance.check(options.method, options.model)
    for finding in findings:
        print("FAIL" if finding.problems else "ok  ", finding.check)
        for problem in finding.problems:
            print(f"     {problem}")
    return 1 if any(finding.problems for finding in findings) else 0


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


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with overrides wherever they stand: argparse takes those before the first flag only."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if any(text.startswith("-") or not hasattr(options, "overrides") for text in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


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
    score = commands.add_parser("score", help="score images or features that were made elsewhere, with error bars")
    score.add_argument("arms", nargs="*", metavar="s=SCALE:PATH", help="a folder of images, an ADM or feature .npz")
    score.add_argument("--reference", required=True, help="a name such as digits, a folder of images or an .npz")
    score.add_argument("--name", default="scores", help="of the model in tables (default: scores)")
    score.add_argument("--encoder", help="the network that features come from (default: that of the reference)")
    score.add_argument("--metrics", help="for example fid,kid (default: all that can be had)")
    score.add_argument("--manifest", type=Path, help="a CSV of images: path, scale, and method, seed, class, prompt")
    score.add_argument("--output", type=Path, help="results folder (default: results/<name>)")
    score.set_defaults(command=_score)
    _recommend_command(commands)
    _figures_command(commands)
    _compare_command(commands)
    train = commands.add_parser("train", help="train the networks of a testbed")
    train.add_argument("testbed", choices=["digits"])
    train.add_argument("--output", type=Path, help="folder of the weights (default: those of the package)")
    train.add_argument("--only", nargs="+", metavar="NETWORK", help="names of networks to train")
    train.set_defaults(command=_train)
    costs.add(commands)
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


def _recommend_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("recommend", help="name scale, sampler, steps and dtype to use, within a budget")
    parser.add_argument("folder", type=Path, help="for example results/digits")
    parser.add_argument("--max-latency", type=seconds, metavar="TIME", help="p50 of one batch, such as 2s or 500ms")
    parser.add_argument("--max-memory", type=memory, metavar="SIZE", help="peak, such as 12GB or 800MB")
    parser.add_argument("--max-nfe", type=_positive, metavar="N", help="network evaluations per image")
    parser.add_argument("--prefer", metavar="SCORE", help="for example clip_score: maximised among those tied in FID")
    parser.add_argument("--batch-size", type=_positive, metavar="N", help="of the limits (default: the smallest timed)")
    parser.add_argument("--json", action="store_true", help="for scripts; the keys stay")
    parser.set_defaults(command=_recommend)


def _figures_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("figures", help="figures and LaTeX tables for a paper; without a folder, list them")
    parser.add_argument("folder", nargs="?", type=Path, help="for example results/digits")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names from the list (default: all that apply)")
    parser.add_argument("--width", choices=["single", "double"], default="double", help="columns of a paper")
    parser.add_argument("--formats", nargs="+", choices=["pdf", "png", "svg"], default=["pdf"])
    parser.add_argument("--published", action="store_true", help="also draw our curves beside those of papers")
    parser.add_argument("--output", type=Path, help="a folder (default: results/paper/<folder>)")
    parser.set_defaults(command=_figures)


def _compare_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("compare", help="two or more results folders in one table and figure")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="the first is what others are held to")
    parser.add_argument("--scores", nargs="+", metavar="SCORE", help="for example fid recall (default: all)")
    parser.add_argument("--output", type=Path, help="a folder (default: results/A-vs-B)")
    parser.set_defaults(command=_compare)
    check = commands.add_parser("check", help="check that a guidance method keeps what it promises")
    check.add_argument("method", metavar="METHOD", help="for example apg, or my_module:my_method")
    check.add_argument("--model", default="digits", help="digits, gaussians or a plug-in (default: digits)")
    check.set_defaults(command=_check)


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
