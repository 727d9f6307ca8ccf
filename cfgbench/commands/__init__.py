"""One module per command, each with `add(commands)`: its arguments, and the function that they call.

A command's function takes the parsed options and returns the exit code; heavy modules are imported inside it.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from cfgbench.errors import InputError

Commands = argparse._SubParsersAction  # add_parser(name, help=...) makes the parser of one command
NAMES = (  # as --help lists them
    *("run", "plan", "doctor", "report", "score", "recommend", "figures", "compare", "claims"),
    *("reference", "protocol", "check", "verify", "train", "costs", "shapes", "bench"),
)


def experiment_parser(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    help_text: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """The parser of a command that takes an experiment file and overrides."""
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("experiment", type=Path, help="a YAML file, for example experiments/digits.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example num_samples=200 steps=10")
    parser.add_argument("--output", type=folder_path, help="results folder (default: results/<name>)")
    parser.set_defaults(command=function)
    return parser


def output_folder(name: str, options: argparse.Namespace) -> Path:
    """The results folder: as given, or results/<name>; InputError where a file is in its place."""
    folder: Path = options.output or Path("results") / name
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"results cannot go to {folder}: {place} is a file; name another folder with --output")
    return folder


def folder_path(text: str) -> Path:
    """A folder from the command line, there or yet to be made."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no folder; name one, or leave the option out for the default")
    return Path(text)


def positive(text: str) -> int:
    """A whole number from 1 up, from the command line."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return value


def device_name(given: str | None, has_cuda: bool) -> str:
    """The device of a command: as given, or cuda where there is one; InputError where it is not there."""
    if given is None:
        return "cuda" if has_cuda else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", given):
        raise InputError(f"--device {given!r}; allowed: cpu, cuda, cuda:N")
    if given != "cpu" and not has_cuda:
        raise InputError(f"--device {given!r}: this machine shows no CUDA device; allowed: cpu")
    return given
