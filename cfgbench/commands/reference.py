"""`cfgbench reference`: a reference set as one .npz of statistics."""

import argparse
import sys
from pathlib import Path

from cfgbench.commands import Commands, device_name, positive
from cfgbench.errors import InputError, unwritable


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("reference", help="write the statistics of reference pictures as an .npz like ADM's")
    parser.add_argument("pictures", help="a folder of images, an .npz, parquet files or '{path: coco, size: 256, ...}'")
    parser.add_argument("--encoder", default="inception", help="inception (the default) or '{name: clip, ...}'")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="the file to write")
    parser.add_argument(
        "--images",
        type=positive,
        default=0,
        metavar="N",
        help="keep the first N pictures too, for precision and recall",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--workers", type=positive, default=1, help="worker processes (default: 1)")
    parser.set_defaults(command=_reference)


def _reference(options: argparse.Namespace) -> int:
    import numpy as np

    from cfgbench import machine, plugins
    from cfgbench.console import Bar
    from cfgbench.external import encoding
    from cfgbench.external.references import pictures
    from cfgbench.references import sets, statistics_file
    from cfgbench.running import preparation
    from cfgbench.running.pool import LocalPool

    plugins.search(Path.cwd())
    if options.output.suffix != ".npz":
        raise InputError(f"--output {options.output}; the file is an .npz")
    (encoder,) = encoding.parse([options.encoder])
    asked = sets.features_of(encoder, device_name(options.device, machine.has_cuda()))
    found = pictures(options.pictures, "the reference")
    for note in found.notes:
        print(note, file=sys.stderr)
    pool = LocalPool(options.workers)
    try:
        with Bar() as bar:
            preparation.encode([(found, asked)], pool, bar.stage)
    finally:
        pool.close()
    images = np.stack(list(found.read(options.images))) if options.images else None
    try:
        statistics_file.write(options.output, found.load(asked), encoder, asked.needs, images)
    except OSError as error:
        raise unwritable(options.output, error) from None
    print(f"statistics of {encoder} in {options.output}; name it as `reference` in an experiment")
    return 0
