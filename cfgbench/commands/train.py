"""`cfgbench train`: train the networks of a testbed."""

import argparse
from pathlib import Path

from cfgbench.commands import Commands, device_name, folder_path, positive
from cfgbench.errors import InputError

_OF_CIFAR10 = ("data", "device", "steps", "width", "batch_size")


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("train", help="train the networks of a testbed; run again to go on")
    parser.add_argument("testbed", choices=["digits", "cifar10"])
    parser.add_argument("--output", type=folder_path, help="folder of the weights (default of digits: the package)")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="names of networks to train")
    own = parser.add_argument_group("of cifar10")
    own.add_argument("--data", type=Path, help="folder with train*.parquet, or with a folder of images for each class")
    own.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    own.add_argument("--steps", type=positive, help="of the diffusion model; a quarter of them for the classifier")
    own.add_argument("--width", type=positive, help="channels of the diffusion model, a multiple of 32")
    own.add_argument("--batch-size", type=positive)
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> int:
    try:
        _TESTBEDS[options.testbed](options)
    except ValueError as error:
        raise InputError(str(error)) from None
    return 0


def _digits(options: argparse.Namespace) -> None:
    from cfgbench.testbeds.digits_data import WEIGHTS
    from cfgbench.training import digits

    for name in _OF_CIFAR10:
        if getattr(options, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for cifar10; the recipe of digits is fixed")
    digits.train(options.output or WEIGHTS, options.only, print)


def _cifar10(options: argparse.Namespace) -> None:
    for name in ("data", "output"):
        if getattr(options, name) is None:
            raise InputError(f"cfgbench train cifar10 needs --{name} FOLDER")
    if options.width is not None and options.width % 32:
        raise InputError(f"--width {options.width}: use a multiple of 32")
    import torch

    from cfgbench import machine
    from cfgbench.training import cifar10

    device = torch.device(device_name(options.device, machine.has_cuda()))
    sizes = cifar10.Sizes(options.steps, options.width, options.batch_size)
    cifar10.train(cifar10.Run(options.data, options.output, device), sizes, options.only, print)


_TESTBEDS = {"digits": _digits, "cifar10": _cifar10}
