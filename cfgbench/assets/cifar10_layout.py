"""The folder that `cfgbench train cifar10` writes, which is read as networks of ADM's are. No torch."""

from pathlib import Path

import numpy as np

from cfgbench.assets import adm_layout


def files(path: str, **_: object) -> dict[str, Path]:
    """Weight file of each network; ValueError says how to train those that are missing."""
    return adm_layout.files(_trained(path))


def lacks(path: str, **_: object) -> dict[str, str]:
    """The networks that a folder leaves out, with the reason."""
    return adm_layout.lacks(_trained(path))


def noise_levels(path: str, **_: object) -> np.ndarray:
    """Sigma per training timestep (1000,), increasing."""
    return adm_layout.noise_levels(_trained(path))


def pixels(path: str, **_: object) -> tuple[int, int]:
    """Height and width of an image."""
    return adm_layout.pixels(_trained(path))


def _trained(path: str) -> str:
    """The folder, known to hold a diffusion model and what it looks like."""
    folder = Path(path).expanduser()
    weights = any((folder / f"diffusion{suffix}").is_file() for suffix in adm_layout.SUFFIXES)
    lacking = None if weights else "diffusion.safetensors"
    lacking = lacking if (folder / adm_layout.CONFIG).is_file() else adm_layout.CONFIG
    if lacking is not None:
        raise ValueError(
            f"{(folder / lacking).absolute()} is missing; make it where there is a GPU by "
            f"`cfgbench train cifar10 --data FOLDER --output {path}`, with a folder of CIFAR-10"
        )
    return path
