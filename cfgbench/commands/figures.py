"""`cfgbench figures`: a paper's figures and LaTeX tables."""

import argparse
import sys
from pathlib import Path

from cfgbench.commands import Commands, folder_path


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("figures", help="figures and LaTeX tables for a paper; without a folder, list them")
    parser.add_argument("folder", nargs="?", type=Path, help="for example results/digits")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names from the list (default: all that apply)")
    parser.add_argument("--width", choices=["single", "double"], default="double", help="columns of a paper")
    parser.add_argument("--formats", nargs="+", choices=["pdf", "png", "svg"], default=["pdf"])
    parser.add_argument("--published", action="store_true", help="also draw our curves beside those of papers")
    parser.add_argument("--output", type=folder_path, help="a folder (default: results/paper/<folder>)")
    parser.set_defaults(command=_figures)


def _figures(options: argparse.Namespace) -> int:
    from cfgbench.reading import paper

    if options.folder is None:
        print(paper.listing())
        return 0
    names = paper.chosen(options.only, options.published)
    output = options.output or Path("results") / "paper" / options.folder.resolve().name
    written = paper.render(options.folder, output, names, options.width, options.formats)
    for path in written:
        print(path)
    for name in sorted(set(names) - {path.stem for path in written}):
        print(f"{name} does not apply to this experiment", file=sys.stderr)
    return 0
