"""`cfgbench bench`: how fast cfgbench is beside what people write themselves, and beside the floor."""

import argparse
import sys
from pathlib import Path

from cfgbench.commands import Commands, folder_path


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("bench", help="time cfgbench itself against other ways to do the same work")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of benchmarks (default: all; about forty minutes)")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    parser.add_argument(
        "--output", type=folder_path, default=Path("results/bench"), help="a folder (default: results/bench)"
    )
    parser.set_defaults(command=_bench)


def _bench(options: argparse.Namespace) -> int:
    from cfgbench.bench import BENCHMARKS, write
    from cfgbench.errors import unknown
    from cfgbench.registry import resolve

    for name in options.names:
        if name not in BENCHMARKS:
            raise unknown("benchmark", name, "the command line", set(BENCHMARKS))
    for name in options.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr)
        result = resolve(BENCHMARKS[name])(options.quick)
        write.write({name: result}, options.output)
        for finding in result.findings:
            print(f"{finding.what}: {finding.value:.3g}{finding.unit} ({finding.low:.3g} to {finding.high:.3g})")
    print(options.output / "summary.md")
    return 0
