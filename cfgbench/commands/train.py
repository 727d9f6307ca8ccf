"""`cfgbench train`: train the networks of a testbed."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands
from cfgbench.errors import InputError


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("train", help="train the networks of a testbed")
    parser.add_argument("testbed", choices=["digits"])
    parser.add_argument("--output", type=Path, help="folder of the weights (default: those of the package)")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="names of networks to train")
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> int:
    from cfgbench.digits_data import WEIGHTS
    from cfgbench.training import digits

    try:
        digits.train(options.output or WEIGHTS, options.only, print)
    except ValueError as error:
        raise InputError(str(error)) from None
    return 0
