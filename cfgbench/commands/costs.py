"""`cfgbench costs`: what a second model costs to train, to hold and to write."""

import argparse
import sys
from pathlib import Path

from cfgbench.errors import InputError

FOLDER = Path("results") / "costs"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command and its options."""
    parser = commands.add_parser("costs", help="measure what a second model costs: training, memory, lines of code")
    parser.add_argument("--repeats", type=int, default=41, help="timed stretches of every training (default: 41)")
    parser.add_argument("--output", type=Path, default=FOLDER, help=f"a folder (default: {FOLDER})")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Measure and write; prints the files."""
    if not 1 <= options.repeats <= 1000:
        raise InputError(f"--repeats {options.repeats}; needs 1 to 1000, and 6 for intervals")
    from cfgbench.costs import measure, write

    record = measure.measure(options.repeats, lambda text: print(text, file=sys.stderr))
    for path in write.write(record, options.output):
        print(path)
    return 0
