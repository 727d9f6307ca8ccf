"""`cfgbench verify`: finished samples drawn again, and compared."""

import argparse
import sys
from pathlib import Path

from cfgbench.commands import Commands, device_name, positive


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("verify", help="draw some finished samples again, otherwise batched, and compare")
    parser.add_argument("folder", type=Path, help="for example results/digits")
    parser.add_argument("--cells", type=positive, default=3, metavar="N", help="drawn at random (default: 3)")
    parser.add_argument(
        "--samples",
        type=positive,
        default=8,
        metavar="N",
        help="of each cell: of its first, whose pictures are kept, and where blocks are there of all (default: 8)",
    )
    parser.add_argument("--batch-size", type=positive, default=3, metavar="N", help="(default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of cells and samples (default: 0)")
    parser.add_argument("--dtype", help="another one than recorded, to see the difference; no verdict")
    parser.add_argument("--scores", action="store_true", help="draw the cells as a whole and compare their scores too")
    parser.add_argument("--experiment", type=Path, help="the file, for its prompts (default: the one that was run)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--workers", type=positive, default=1, help="worker processes (default: 1)")
    parser.set_defaults(command=_verify)


def _verify(options: argparse.Namespace) -> int:
    from cfgbench import machine, plugins
    from cfgbench.console import counting, title
    from cfgbench.running import verification
    from cfgbench.running.pool import LocalPool

    plugins.search(Path.cwd())
    device = device_name(options.device, machine.has_cuda())
    request = verification.Request(
        cells=options.cells,
        samples=options.samples,
        batch_size=options.batch_size,
        seed=abs(options.seed),
        dtype=options.dtype,
        device=device,
        scores=options.scores,
        experiment=options.experiment,
    )
    pool = LocalPool(options.workers)
    findings = []
    try:
        chosen = verification.choose(options.folder, request)
        with counting("samples drawn again", verification.size(chosen, request)) as drawn:
            for finding in verification.compare(options.folder, chosen, request, pool, drawn):
                findings.append(finding)
                mark = {True: "ok  ", False: "FAIL", None: "    "}[finding.agrees]
                print(f"{mark} {finding.cell.id}  {title(finding.cell)}: {finding.text}", flush=True)
    finally:
        pool.close()
    failed = sum(finding.agrees is False for finding in findings)
    if failed:
        print(f"{failed} of {len(findings)} comparisons differ by more than rounding", file=sys.stderr)
    return 1 if failed else 0
