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
from cfgbench.errors import InputError, is_want_of_memory

LEAST_BYTES = 512 << 20  # of address space; a report takes 400 MB, a worker some 3 GB
_NAMES: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_KEPT = "what is finished is kept, run the same command to go on"
_SHOW_CURSOR = "\x1b[?25h"  # what changes on a terminal hides it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parse(arguments)
    _listen()
    try:
        if os.name != "posix":  # file locks and fork servers
            raise InputError("cfgbench runs on Linux and macOS; on Windows use WSL")
        _check_memory()
        code: int = options.command(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"cfgbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        signum = interrupt.args[0] if interrupt.args else signal.SIGINT
        print(f"\ncfgbench: stopped by {_NAMES[signum]}; {_KEPT}", file=sys.stderr)
        return 128 + signum
    except BrokenPipeError:  # `| head` has read enough; nor shall Python's last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"cfgbench: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except (MemoryError, ImportError) as error:
        reason = f"{type(error).__name__}: {error}".strip(": ")
        if not is_want_of_memory(reason):
            raise
        print(f"cfgbench: memory is too small ({reason}); {_KEPT}", file=sys.stderr)
        return 2
    return code


def _check_memory() -> None:
    """InputError where a process may have too little memory for the libraries: OpenBLAS then waits for it forever."""
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if resource.RLIM_INFINITY != allowed < LEAST_BYTES:
        raise InputError(f"memory is too small: `ulimit -v` allows {allowed >> 20} MB, of at least {LEAST_BYTES >> 20}")


def _listen() -> None:
    """Let the first Ctrl-C or SIGTERM raise KeyboardInterrupt, and a second one end the process at once.

    What is cleaned up after the first may take seconds; what is left undone, the next run does.
    """
    heard: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        heard.append(signum)
        if len(heard) == 1:
            raise KeyboardInterrupt(signum)
        text = f"\ncfgbench: stopped at once by a second {_NAMES[signum]}; {_KEPT}\n"
        os.write(2, ((_SHOW_CURSOR if os.isatty(2) else "") + text).encode())
        os._exit(128 + signum)

    for signum in _NAMES:
        if signal.getsignal(signum) != signal.SIG_IGN:  # as in the background, or under nohup
            signal.signal(signum, stop)


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
