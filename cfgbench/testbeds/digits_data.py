"""The digits testbed without torch: images, labels, halves, noise schedule and which weight files a model needs.

Data: scikit-learn's `load_digits`, 1797 grey 8x8 images of 17 levels (0..16), mapped to [-1, 1]. Half A (898 images)
trains, half B (899) is held out; both keep the class proportions, without which FID triples.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfgbench.generation.pixels import to_uint8

CLASSES = 10
NULL_LABEL = 10  # the label that stands for "no class" in classifier-free guidance
IMAGE_SHAPE = (1, 8, 8)
TRAINING_TIMESTEPS = 1000
USED_TIMESTEPS = 980  # beyond, sigma explodes (32 at t = 979, 20,000 at t = 999) and learned gradients with it

WEIGHTS = Path(__file__).parent.parent / "weights" / "digits"
DATASET = WEIGHTS / "dataset.npz"  # written by cfgbench/training/digits_dataset.py
CLASSIFIER, FEATURES, FEATURES_HALF_A, CLIP = "classifier", "features", "features-half-a", "clip"
SNAPSHOTS = (100, 200, 400)  # steps of the run SNAPSHOT_OF at which its averaged weights are kept
SNAPSHOT_OF = "diffusion-p0.1-800-seed0"
LATENT_SIZE = 32  # values that the GAN makes an image of
GAN_STEPS, GAN_SEEDS = 1500, (0, 1, 2)


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) float32 in [-1, 1] and labels (n,) int64 in 0..9."""

    images: np.ndarray
    labels: np.ndarray


@cache
def all_digits() -> Digits:
    """All 1797 digits in scikit-learn's order."""
    images, labels = _dataset()["images"], _dataset()["labels"]
    return Digits((images / 8 - 1).astype(np.float32).reshape(-1, *IMAGE_SHAPE), labels.astype(np.int64))


def split_indices() -> tuple[np.ndarray, np.ndarray]:
    """Indices of half A (train) and half B (held out) into `all_digits()`, disjoint and stratified by class."""
    return _dataset()["train"], _dataset()["held_out"]


def train_half() -> Digits:
    """Half A, the 898 digits every guiding network was trained on."""
    return _subset(split_indices()[0])


def held_out_half() -> Digits:
    """Half B, the 899 digits no guiding network has seen."""
    return _subset(split_indices()[1])


def cosine_alphas_cumprod(timesteps: int) -> np.ndarray:
    """alphas_cumprod (timesteps,) float64 of the cosine schedule (Nichol & Dhariwal 2021, eq. 17), betas <= 0.999."""
    phase = (np.arange(timesteps + 1) / timesteps + 0.008) / 1.008
    alpha_bar = np.cos(phase * np.pi / 2) ** 2
    betas: np.ndarray = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    return np.cumprod(1 - betas)


def alphas_cumprod() -> np.ndarray:
    """The (980,) float64 part of the training schedule that is sampled from; sigma ends at 32."""
    return cosine_alphas_cumprod(TRAINING_TIMESTEPS)[:USED_TIMESTEPS]


def noise_levels(**_: object) -> np.ndarray:
    """Sigma per training timestep (980,), increasing; the same for every configuration."""
    return np.sqrt(1 / alphas_cumprod() - 1)


def reference(half: str, parameters: dict[str, object]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (n, 1, 8, 8) and labels (n,) of the half called "heldout" or "train"."""
    images, labels = {"heldout": held_out_half, "train": train_half}[half]()
    return to_uint8(images), labels


def encoder_files() -> dict[str, Path]:
    """The weight file behind each thing the digits encoder provides."""
    return {
        "features": weight_path(FEATURES),
        "log_probs": weight_path(FEATURES),
        "clip_scores": weight_path(CLIP),
    }


def diffusion_name(p_uncond: float, training_steps: int, training_seed: int, attention: bool = False) -> str:
    """Name of a diffusion network and stem of its file, e.g. `diffusion-p0.1-800-seed0`.

    Raises ValueError where no such network was trained.
    """
    if attention:
        allowed = (p_uncond, training_steps, training_seed) == (0.1, 800, 0)
    else:
        p_uncond_trained = {800: (0.1, 0.2, 0.5), 1600: (0.1,)}.get(training_steps, ())
        allowed = p_uncond in p_uncond_trained and training_seed in (0, 1, 2)
    if not allowed:
        raise ValueError(
            f"no digits network with p_uncond {p_uncond}, training_steps {training_steps}, training_seed "
            f"{training_seed}, attention {attention}: allowed are 800 steps with p_uncond 0.1, 0.2 or 0.5 and 1600 "
            "steps with p_uncond 0.1, each with training_seed 0, 1 or 2; 100, 200 or 400 steps with p_uncond 0.1, "
            "training_seed 0; attention with 800 steps, p_uncond 0.1, training_seed 0"
        )
    return f"diffusion-{'attention-' if attention else ''}p{p_uncond:g}-{training_steps}-seed{training_seed}"


def gan_name(training_seed: int) -> str:
    """Name of a GAN's generator and stem of its file; ValueError where no such network was trained."""
    if training_seed not in GAN_SEEDS:
        raise ValueError(f"no digits GAN with training_seed {training_seed}: allowed are {GAN_SEEDS}")
    return f"gan-{GAN_STEPS}-seed{training_seed}"


def snapshot_name(run: str, steps: int) -> str:
    """Name of the averaged weights of a training run after its first `steps` steps."""
    return f"{run}-at{steps}"


def weight_path(name: str, folder: Path = WEIGHTS) -> Path:
    """File of the network called `name`."""
    return folder / f"{name}.safetensors"


def require_weights(path: Path) -> Path:
    """The path, if the file is there; raises FileNotFoundError saying how to make it."""
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}; `cfgbench train digits` makes them in about eight minutes")
    return path


def network_files(
    p_uncond: float = 0.1,
    training_steps: int = 800,
    training_seed: int = 0,
    attention: bool = False,
    weak_steps: int | None = None,
) -> dict[str, Path]:
    """Weight file of each network ("main", "classifier", where asked for "weak") of one model configuration.

    The weak network is an early snapshot of the run with p_uncond 0.1, 800 steps and seed 0, whatever "main" is.
    Raises ValueError for a configuration that was not trained.
    """
    names = {"main": _main_name(p_uncond, training_steps, training_seed, attention), "classifier": CLASSIFIER}
    if weak_steps is not None:
        if weak_steps not in SNAPSHOTS:
            raise ValueError(f"no digits snapshot with weak_steps {weak_steps}: allowed are {SNAPSHOTS} and null")
        names["weak"] = snapshot_name(SNAPSHOT_OF, weak_steps)
    return {network: weight_path(name) for network, name in names.items()}


def gan_files(training_seed: int = 0) -> dict[str, Path]:
    """Weight file of the generator of one GAN; ValueError for one that was not trained."""
    return {"main": weight_path(gan_name(training_seed))}


def weight_files(
    p_uncond: float = 0.1,
    training_steps: int = 800,
    training_seed: int = 0,
    attention: bool = False,
    weak_steps: int | None = None,
) -> list[Path]:
    """The files a model configuration is made of, for hashing without torch."""
    return list(network_files(p_uncond, training_steps, training_seed, attention, weak_steps).values())


@cache
def _dataset() -> dict[str, np.ndarray]:
    with np.load(DATASET) as arrays:
        return dict(arrays)


def _main_name(p_uncond: float, training_steps: int, training_seed: int, attention: bool) -> str:
    if (p_uncond, training_seed, attention) == (0.1, 0, False) and training_steps in SNAPSHOTS:
        return snapshot_name(SNAPSHOT_OF, training_steps)
    return diffusion_name(p_uncond, training_steps, training_seed, attention)


def _subset(indices: np.ndarray) -> Digits:
    images, labels = all_digits()
    return Digits(images[indices], labels[indices])
