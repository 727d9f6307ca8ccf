"""`cfgbench score`: scores of images or features that were made elsewhere."""

import argparse
import sys
from pathlib import Path

from cfgbench.commands import Commands, device_name, folder_path, output_folder
from cfgbench.errors import InputError


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("score", help="score images or features that were made elsewhere, with error bars")
    parser.add_argument("arms", nargs="*", metavar="s=SCALE:PATH", help="a folder of images, an ADM or feature .npz")
    parser.add_argument(
        "--reference", required=True, help="a name such as digits, images (a folder, parquet), an .npz or {path: ...}"
    )
    parser.add_argument("--name", default="scores", help="of the model in tables (default: scores)")
    parser.add_argument(
        "--encoder",
        action="append",
        default=[],
        metavar="NAME",
        help="the network that features come from, inception or '{name: clip, model: ViT-B-32}'; may be repeated "
        "(default: that of the reference)",
    )
    parser.add_argument("--metrics", help="for example fid,kid (default: all that can be had)")
    parser.add_argument("--manifest", type=Path, help="a CSV of images: path, scale, and method, seed, class, prompt")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--output", type=folder_path, help="results folder (default: results/<name>)")
    parser.set_defaults(command=_score)


def _score(options: argparse.Namespace) -> int:
    from cfgbench import machine
    from cfgbench.console import Bar
    from cfgbench.external import arms, manifest, score
    from cfgbench.reading import report

    notes: list[str] = []
    if options.manifest and options.arms:
        raise InputError("give the samples either as s=SCALE:PATH or in --manifest, not both")
    given = manifest.load(options.manifest) if options.manifest else arms.from_arguments(options.arms, notes)
    metrics = tuple(options.metrics.split(",")) if options.metrics else ()
    request = score.Request(
        name=options.name,
        arms=tuple(given),
        reference=options.reference,
        encoders=tuple(options.encoder),
        metrics=metrics,
        notes=tuple(notes),
        device=device_name(options.device, machine.has_cuda()),
    )
    folder = output_folder(options.name, options)
    for note in notes:
        print(note, file=sys.stderr)
    with Bar() as bar:
        fresh = score.run(request, folder, bar)
    report.build(folder)
    print(f"{fresh} arms scored; results in {folder}", file=sys.stderr)
    print(report.answer(folder))
    return 0
