"""The command line: parse, call, print. Each command is a module of `cfgbench/commands/`.

Exit codes: 0 done, 1 some cells failed, a witness contradicts a score or a method breaks a promise, 2 bad input, 130
and 143 interrupted (what is finished is kept).
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from cfgbench import __version__
from cfgbench.commands import NAMES
from cfgbench.errors import InputError


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
    for name in NAMES:
        import_module(f"cfgbench.commands.{name}").add(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
