"""`cfgbench claims`: published claims about guidance, decided from the records by rules written down before."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands, folder_path


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("claims", help="decide published claims about guidance from the published results")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), help="of results (default: results)")
    parser.add_argument("--measure", action="store_true", help="first measure what no sweep records; about two minutes")
    parser.add_argument("--output", type=folder_path, help="a folder (default: claims in that of the results)")
    parser.set_defaults(command=_claims)


def _claims(options: argparse.Namespace) -> int:
    from cfgbench.claims import evidence, ledger, write

    measured = options.folder / "claims" / "records"
    if options.measure:
        from cfgbench import probes

        for path in probes.measure(measured):
            print(path)
    decisions = ledger.judge(evidence.read(options.folder, ledger.experiments(), measured))
    for path in write.write(ledger.sections(), decisions, options.output or options.folder / "claims"):
        print(path)
    for path in write.write_shares(decisions, options.folder) if options.output is None else ():
        print(path)
    print(write.tally(decisions))
    return 0
