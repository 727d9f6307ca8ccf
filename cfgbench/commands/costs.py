"""`cfgbench costs`: what a second model costs to train, to hold and to write."""

import argparse
import sys
from pathlib import Path

from cfgbench.commands import Commands, folder_path, positive

FOLDER = Path("results") / "costs"


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("costs", help="measure what a second model costs: training, memory, lines of code")
    parser.add_argument("--repeats", type=positive, default=41, help="timed stretches of every training (default: 41)")
    parser.add_argument("--output", type=folder_path, default=FOLDER, help=f"a folder (default: {FOLDER})")
    parser.set_defaults(command=_costs)


def _costs(options: argparse.Namespace) -> int:
    from cfgbench.costs import measure, write

    record = measure.measure(options.repeats, lambda text: print(text, file=sys.stderr))
    for path in write.write(record, options.output):
        print(path)
    return 0
