"""`cfgbench protocol`: whether the scores of a results folder can be compared with published ones, and why not."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands
from cfgbench.errors import InputError


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("protocol", help="say which scores can be compared with published ones, and why not")
    parser.add_argument("folder", type=Path, nargs="?", help="of results; without one, list the protocols")
    parser.add_argument("--protocol", metavar="NAME", help="(default: the one that the experiment names)")
    parser.set_defaults(command=_protocol)


def _protocol(options: argparse.Namespace) -> int:
    from cfgbench.planning import protocols

    if options.folder is None:
        for known, protocol in protocols.all_protocols().items():
            print(f"{known}\n    {protocol.title}\n    {protocol.source}")
        return 0

    from cfgbench.reading.tables import protocol as tables
    from cfgbench.reading.tables import text
    from cfgbench.reading.tables.results import load

    results = load(options.folder)
    name: str = options.protocol or results.plan.protocol or ""
    if not name:
        names = ", ".join(protocols.all_protocols())
        raise InputError(f"the experiment of {options.folder} names no protocol; give --protocol, one of {names}")
    protocols.find(name, "--protocol")
    found = tables.checked(results, name)
    print(text.to_markdown(tables.protocol_table(results, found, name)))
    for line in tables.lines(found, name):
        print(line)
    comparable = [one for one in found if one.check.comparable]
    return 0 if comparable and all(one.inside is not False for one in comparable) else 1
