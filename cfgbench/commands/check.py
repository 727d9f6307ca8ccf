"""`cfgbench check`: the conformance suite on one guidance method."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("check", help="check that a guidance method keeps what it promises")
    parser.add_argument("method", metavar="METHOD", help="for example apg, or my_module:my_method")
    parser.add_argument("--model", default="digits", help="digits, gaussians or a plug-in (default: digits)")
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from cfgbench import conformance, plugins

    plugins.search(Path.cwd())
    findings = conformance.check(options.method, options.model)
    for finding in findings:
        print("FAIL" if finding.problems else "ok  ", finding.check)
        for problem in finding.problems:
            print(f"     {problem}")
    return 1 if any(finding.problems for finding in findings) else 0
