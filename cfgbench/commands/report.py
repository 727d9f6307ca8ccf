"""`cfgbench report`: tables, figures and the report, from the records alone."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("report", help="rebuild tables and figures from the records of a results folder")
    parser.add_argument("folder", type=Path, help="for example results/digits")
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> int:
    from cfgbench.reading import report

    for path in report.build(options.folder):
        print(path)
    print(report.answer(options.folder))
    return 0
