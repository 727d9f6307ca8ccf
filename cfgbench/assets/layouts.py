"""What the planner reads off a text-to-image checkpoint without loading weights: files, noise levels, size, "nothing".

One layout per family: the pipeline classes it stands for and the parts that these are saved in. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench.assets import checkpoints, clip_models, shapes
from cfgbench.assets.checkpoints import Checkpoint
from cfgbench.cell import digest

_CLASSES = {"DiTPipeline": "dit", "DDPMPipeline": "unet2d", "DDIMPipeline": "unet2d"}  # families in class_layouts.py
_LEADING = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler")  # default spacing


@dataclass(frozen=True)
class Layout:
    """How a family's pipelines are saved."""

    name: str  # of the family in the registry
    pipelines: tuple[str, ...]  # class names in model_index.json; the first is the one whose loop is ours
    denoiser: str = "unet"
    autoencoder: str = "vae"
    text: tuple[str, ...] = ("text_encoder", "tokenizer")
    packed: int = 1  # latent pixels, each way, that the pipeline packs into one before the network sees them
    to_step: bool = False  # of a flow: the pipeline's even times end at 1 / steps
    max_shift: float | None = None  # of a flow: the pipeline's own, where its times are shifted by the image's size

    def open(self, path: str, revision: str | None = None, variant: str | None = None, **_: object) -> Checkpoint:
        """The checkpoint, known to be of this family."""
        found = shapes.find(path) if shapes.is_random(path) else checkpoints.locate(path, revision, variant)
        pipeline = str(found.index().get("_class_name"))
        if pipeline not in self.pipelines:
            other = next((layout.name for layout in LAYOUTS if pipeline in layout.pipelines), _CLASSES.get(pipeline))
            hint = f"write `model: {{name: {other or 'pipeline'}, path: ...}}`" + ("" if other else ", which runs any")
            raise ValueError(f"{path} holds a {pipeline}, not a {self.pipelines[0]}; {hint}")
        return found

    def files(self, **arguments: Any) -> dict[str, Path]:
        """Every file that the samples depend on: of the main network, and of a CLIP that may guide it."""
        found = self.open(**arguments)
        files = {"model_index.json": found.require("model_index.json")}
        files["scheduler"] = found.require("scheduler/scheduler_config.json")
        for part in (self.denoiser, self.autoencoder):
            files |= found.network_files(part)
        files |= self.text_files(found)
        guide = arguments.get("guide")
        guides = {} if guide is None else {"guide": clip_models.weights(**clip_models.parse(guide))}
        return {f"main/{name}": file for name, file in files.items()} | guides

    def text_files(self, found: Checkpoint) -> dict[str, Path]:
        """Those files that text encodings depend on; a part that the checkpoint leaves out has none."""
        files: dict[str, Path] = {}
        for part in self.text:
            if _is_there(found, part):
                files |= found.tokenizer_files(part) if "tokenizer" in part else found.network_files(part)
        return files

    def text_digest(self, found: Checkpoint) -> str:
        """Names the text encoders of a checkpoint."""
        return digest({name: checkpoints.digest(file) for name, file in self.text_files(found).items()})

    def noise_levels(self, **arguments: Any) -> np.ndarray:
        """Sigma per training timestep, increasing; of a flow, at times shifted as those of samplers are."""
        found = self.open(**arguments)
        if self.max_shift is not None:
            return flow_levels(scheduler_config(found), self.shift(found, self.size(found, **arguments)))
        alphas = alphas_cumprod(scheduler_config(found))
        return np.asarray(np.sqrt(1 / alphas - 1))

    def lacks(self, **arguments: Any) -> dict[str, str]:
        """The scales of the family that a checkpoint's network is not told, and why."""
        found = self.open(**arguments)
        told = found.json(f"{self.denoiser}/config.json").get("guidance_embeds")
        return {} if told else {"embedded_guidance": f"{found.name} has no such input"}

    def notes(self, **arguments: Any) -> list[str]:
        """What settings that were left out stand for; ValueError for those that the checkpoint has no use for."""
        found = self.open(**arguments)
        height, width = self.size(found, **arguments)
        if "embedded_guidance" in arguments and (lacking := self.lacks(**arguments)):
            raise ValueError(f"embedded_guidance is given, and {lacking['embedded_guidance']}; leave it out")
        given, nothing = arguments.get("negative_prompt"), self.unconditional(found, arguments.get("unconditional"))
        if given is not None and arguments.get("unconditional") is not None:
            raise ValueError(f"negative_prompt replaces `unconditional: {nothing}`, which would say nothing; give one")
        told = "the negative prompt" if given is not None else {"empty": "an empty prompt", "zeros": "zeros"}[nothing]
        notes = [f"{self.name} {Path(found.name).name}: {height} x {width} pixels; unconditional is {told}"]
        return [*notes, *([f"{found.name}: weights are random, which is for speed alone"] if _is_shape(found) else [])]

    def size(
        self, found: Checkpoint, height: int | None = None, width: int | None = None, **_: object
    ) -> tuple[int, int]:
        """Height and width of an image in pixels, the checkpoint's own where left out; ValueError for impossible ones.

        Pipelines whose network does not say its size take 128 latent pixels.
        """
        own = found.json(f"{self.denoiser}/config.json").get("sample_size") or 128
        sides = (own, own) if isinstance(own, int) else own
        unit = self.factor(found) * self.patch(found)
        for name, side in (("height", height), ("width", width)):
            if side is not None and side % unit:
                raise ValueError(f"{name} = {side} is no multiple of {unit} pixels")
        return height or sides[0] * self.factor(found), width or sides[1] * self.factor(found)

    def pixels(self, **arguments: Any) -> tuple[int, int]:
        """Height and width of an image; of a repository that is not here, as its published configuration has them."""
        try:
            found = self.open(**arguments)
        except ValueError:
            known = shapes.of_repository(arguments["path"])
            if known is None:
                raise
            found = known
        return self.size(found, **arguments)

    def factor(self, found: Checkpoint) -> int:
        """Pixels of the image per latent pixel, each way."""
        config = found.json(f"{self.autoencoder}/config.json")
        widths = config.get("block_out_channels") or config.get("encoder_block_out_channels")
        if not isinstance(widths, list):
            raise ValueError(f"{found.folder}/{self.autoencoder}/config.json lacks block_out_channels; get it again")
        return int(2 ** (len(widths) - 1))

    def patch(self, found: Checkpoint) -> int:
        """Latent pixels, each way, that are one to the network."""
        return self.packed * int(found.json(f"{self.denoiser}/config.json").get("patch_size") or 1)

    def shift(self, found: Checkpoint, size: tuple[int, int]) -> float:
        """By how much the times of a flow are shifted at an image's size."""
        config = scheduler_config(found)
        if not config.get("use_dynamic_shifting"):
            return float(config.get("flow_shift") or config.get("shift") or 1.0)
        unit = self.factor(found) * self.patch(found)
        fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", self.max_shift)
        mu = low + (high - low) * (size[0] // unit * (size[1] // unit) - fewest) / (most - fewest)
        return float(mu if config.get("time_shift_type") == "linear" else np.exp(mu))

    def unused(self, found: Checkpoint) -> tuple[str, ...]:
        """Parts that neither drawing nor encoding needs, such as a safety checker, and those that are left out."""
        needed = {self.denoiser, self.autoencoder, "scheduler", *self.text}
        named = (name for name, value in found.index().items() if isinstance(value, list))
        return tuple(name for name in named if name not in needed or name not in found.parts())

    def unconditional(self, found: Checkpoint, given: str | None = None) -> str:
        """What stands for no prompt: `empty`, the encoding of "", or `zeros`; by default as in the pipeline."""
        return given or ("zeros" if found.index().get("force_zeros_for_empty_prompt") else "empty")


def scheduler_config(found: Checkpoint) -> Mapping[str, Any]:
    """The checkpoint's scheduler configuration."""
    return found.json("scheduler/scheduler_config.json")


def alphas_cumprod(config: Mapping[str, Any]) -> np.ndarray:
    """Cumulative products (T,) float64 of a scheduler configuration; ValueError where it says too little."""
    try:
        kind, count = config.get("beta_schedule", "linear"), int(config["num_train_timesteps"])
        given = config.get("trained_betas")
        betas = np.asarray(given, dtype=np.float64) if given else _betas(kind, config, count)
    except KeyError as error:
        raise ValueError(f"scheduler/scheduler_config.json lacks {error}") from None
    products: np.ndarray = np.cumprod(1 - betas)
    return _zero_terminal(products) if config.get("rescale_betas_zero_snr") else products


def _zero_terminal(products: np.ndarray) -> np.ndarray:
    """Shifted and scaled so that the last is (next to) zero: pure noise (Lin et al. 2023, algorithm 1)."""
    roots = np.sqrt(products)
    rescaled = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return np.asarray(np.maximum(rescaled**2, 2.0**-24))  # diffusers' own floor


def flow_levels(config: Mapping[str, Any], shift: float) -> np.ndarray:
    """Sigma = t / (1 - t) of a flow at its training times (T,), shifted, increasing.

    The last time is half a timestep short of 1, where sigma is infinite. ValueError for times made in other ways.
    """
    others = ("shift_terminal", "invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    for name in (name for name in others if config.get(name)):
        raise ValueError(f"scheduler/scheduler_config.json has {name} = {config[name]}, which is not supported")
    count = int(config.get("num_train_timesteps", 1000))
    even = np.minimum(np.arange(1, count + 1), count - 0.5) / count
    return np.asarray(shift * even / (1 - even))


def _betas(kind: str, config: Mapping[str, Any], count: int) -> np.ndarray:
    if kind == "linear":
        return np.linspace(config["beta_start"], config["beta_end"], count)
    if kind == "scaled_linear":
        return np.asarray(np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, count) ** 2)
    if kind == "squaredcos_cap_v2":
        bars = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.asarray(np.minimum(1 - bars[1:] / bars[:-1], 0.999))
    raise ValueError(f"scheduler/scheduler_config.json has beta_schedule {kind!r}, which is not supported")


def schedule_settings(config: Mapping[str, Any]) -> dict[str, object]:
    """What a checkpoint fixes for every sampler; where it is silent, as its own scheduler class has it."""
    own = str(config.get("_class_name", ""))
    spacing = "leading" if own in _LEADING else "linspace"
    settings: dict[str, object] = {
        "timestep_spacing": config.get("timestep_spacing", spacing),
        "steps_offset": config.get("steps_offset", 0),
        "set_alpha_to_one": config.get("set_alpha_to_one", own != "PNDMScheduler"),
        "rescale_betas_zero_snr": config.get("rescale_betas_zero_snr", False),
    }
    return settings


def _is_shape(found: Checkpoint) -> bool:
    return isinstance(found, shapes.Shape)


def _is_there(found: Checkpoint, part: str) -> bool:
    return part in found.parts()


STABLE_DIFFUSION = Layout("stable_diffusion", ("StableDiffusionPipeline",))
SDXL = Layout(
    "sdxl",
    ("StableDiffusionXLPipeline",),
    text=("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
)
SD3 = Layout(
    "sd3",
    ("StableDiffusion3Pipeline",),
    "transformer",
    text=(*SDXL.text, "text_encoder_3", "tokenizer_3"),
    max_shift=1.16,
)
FLUX = Layout("flux", ("FluxPipeline",), "transformer", text=SDXL.text, packed=2, to_step=True, max_shift=1.15)
PIXART = Layout("pixart", ("PixArtAlphaPipeline",), "transformer")
SANA = Layout("sana", ("SanaPipeline",), "transformer", max_shift=1.16)
KANDINSKY22 = Layout("kandinsky22", ("KandinskyV22Pipeline",), autoencoder="movq", text=())
KANDINSKY22_PRIOR = Layout(
    "the prior of kandinsky22",
    ("KandinskyV22PriorPipeline",),
    "prior",
    "prior",
    text=("text_encoder", "tokenizer", "image_encoder"),
)
LAYOUTS = (STABLE_DIFFUSION, SDXL, SD3, FLUX, PIXART, SANA, KANDINSKY22)
