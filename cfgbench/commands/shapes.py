"""`cfgbench shapes`: parameters, operations and memory of published architectures, without their weights."""

import argparse
import json

from cfgbench.commands import Commands


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("shapes", help="parameters, FLOPs and memory of SD 1.5, SDXL, SD3, FLUX; no weights")
    parser.add_argument("names", nargs="*", metavar="NAME", help="for example sdxl (default: all at full depth)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(command=_shapes)


def _shapes(options: argparse.Namespace) -> int:
    from cfgbench.assets import shapes
    from cfgbench.errors import unknown
    from cfgbench.reading.tables import text

    for name in options.names:
        if name not in shapes.names():
            raise unknown("shape", name, "the command line", shapes.names())

    from cfgbench.assets import shape_costs

    full = [name for name in shapes.names() if not name.endswith("-shallow")]
    costs = sorted(map(shape_costs.measure, options.names or full), key=lambda cost: cost.parameters)
    if options.json:
        print(json.dumps([cost._asdict() for cost in costs], indent=2))
        return 0
    header = (
        "shape",
        "pixels",
        "denoiser",
        "autoencoder",
        "TFLOP a pass",
        "TFLOP to decode",
        "bf16",
        "fp32",
        "guidance",
    )
    rows = []
    for cost in costs:
        weights = cost.parameters + cost.autoencoder_parameters
        texts = [cost.name, f"{cost.width}x{cost.height}"]
        texts += [f"{cost.parameters / 1e9:.3f} B", f"{cost.autoencoder_parameters / 1e6:.1f} M"]
        texts += [f"{cost.pass_flops / 1e12:.2f}", f"{cost.decode_flops / 1e12:.2f}"]
        texts += [f"{2 * weights / 1e9:.1f} GB", f"{4 * weights / 1e9:.1f} GB"]
        texts += ["in the network, or CFG: 2 passes" if cost.embedded_guidance else "CFG: 2 passes"]
        rows.append(tuple(map(text.Text, texts)))
    caption = (
        "Counted from the published configurations on PyTorch's meta device, per image; multiply and add apart. "
        "Text encoders are left out: they run once per prompt. The autoencoder is loaded whole, and decodes."
    )
    print(text.to_markdown(text.Table(caption, header, tuple(rows))))
    return 0
