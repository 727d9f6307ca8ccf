"""`cfgbench compare`: two or more results folders side by side."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands, folder_path


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("compare", help="two or more results folders in one table and figure")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="the first is what others are held to")
    parser.add_argument("--scores", nargs="+", metavar="SCORE", help="for example fid recall (default: all)")
    parser.add_argument("--output", type=folder_path, help="a folder (default: results/A-vs-B)")
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from cfgbench.reading.comparison import matching, write

    pairs = matching.read(options.folders, options.scores)
    for sentence in (sentence for pair in pairs for sentence in write.sentences(pair)):
        print(sentence)
    sides = [pairs[0].first, *(pair.second for pair in pairs)]
    name = "-vs-".join(side.results.folder.resolve().name for side in sides)
    for path in write.write(pairs, options.output or Path("results") / name):
        print(path)
    return 0
