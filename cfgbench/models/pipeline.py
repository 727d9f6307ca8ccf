"""Any other diffusers pipeline that takes a prompt and `guidance_scale`: run as it is, one call for a batch.

Its loop, scheduler, text encoding and meaning of the scale are its own, so only CFG can be asked for, and nothing is
shared between cells. Passes of its denoiser are counted as they happen.
"""

import inspect
from dataclasses import dataclass, field, replace
from typing import Any, Self

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from cfgbench.assets import checkpoints
from cfgbench.assets.prompts import Prompts
from cfgbench.generation import noise
from cfgbench.generation.pixels import to_uint8
from cfgbench.models import Level, Schedule, loading

_DENOISERS = ("transformer", "unet")
_NEEDED = ("prompt", "guidance_scale", "num_inference_steps", "generator")


@dataclass
class Passes:
    """Rows that went through the denoiser since it was set to zero."""

    rows: int = 0

    def count(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A hook before the denoiser's forward pass."""
        first = next(value for value in (*arguments, *named.values()) if isinstance(value, Tensor))
        self.rows += len(first)


@dataclass(frozen=True)
class Pipeline:
    """A loaded pipeline with its settings. Implements `cfgbench.models.Model`, `Prompted` and `Counting`."""

    pipeline: Any
    networks: dict[str, nn.Module]
    device: torch.device
    num_inference_steps: int = 50
    height: int | None = None  # pixels; None is the pipeline's own
    width: int | None = None
    negative_prompt: str | None = None
    counted: Passes = field(default_factory=Passes)
    schedule: Schedule = field(default_factory=lambda: Schedule(np.ones(1), "sample"))
    latent_shape: tuple[int, ...] = (0,)  # the pipeline draws its noise itself
    learned_variance: bool = False

    def configured(self, **settings: Any) -> Self:
        """The same pipeline with other settings; ValueError for one that it does not take."""
        for name in settings.keys() - inspect.signature(self.pipeline.__call__).parameters.keys():
            raise ValueError(f"{type(self.pipeline).__name__} takes no {name}")
        return replace(self, **settings)

    def conditions(self, labels: np.ndarray) -> dict[str, Any]:
        """Raises TypeError: this model is asked by prompts."""
        raise TypeError("a text-to-image model is asked by prompts, not by class labels")

    def text_conditions(self, prompts: Prompts) -> dict[str, Any]:
        """The prompts and the seed of each sample's generator: different ones within a stream.

        torch's generators on the CPU read 32 bits of a seed, so streams begin at random ones of these.
        """
        begin = int(noise.generator(prompts.seed, 0, noise.INITIAL).integers(2**32))
        return {"cond": {"prompts": list(prompts.texts), "seeds": [(begin + i) % 2**32 for i in prompts.indices]}}

    def embed(self, condition: dict[str, Any]) -> dict[str, Any]:
        """The condition, to which a method adds the scale."""
        return condition

    @torch.no_grad()
    def predict(self, x: Tensor, level: Level, condition: dict[str, Any], network: str = "main") -> Tensor:
        """Pictures (n, 3, height, width) in [0, 1]."""
        self.counted.rows = 0
        settings = {name: getattr(self, name) for name in ("height", "width", "negative_prompt")}
        given = {name: value for name, value in settings.items() if value is not None}
        if "negative_prompt" in given:
            given["negative_prompt"] = [given["negative_prompt"]] * len(x)
        images = self.pipeline(
            prompt=condition["prompts"],
            guidance_scale=condition["guidance_scale"],
            num_inference_steps=self.num_inference_steps,
            generator=[torch.Generator().manual_seed(seed) for seed in condition["seeds"]],
            output_type="np",
            **given,
        ).images
        return torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).to(x.device, torch.float32)

    def evaluations_inside(self, samples: int) -> float:
        """Passes of the denoiser per sample in the last prediction of so many."""
        return self.counted.rows / samples

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """Raises TypeError: there is no classifier."""
        raise TypeError("a text-to-image model has no classifier of classes")

    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 RGB images (n, 3, height, width)."""
        return to_uint8(2 * latents.float().cpu().numpy() - 1)


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Pipeline:
    """The checkpoint's pipeline; ValueError where it does not take what is asked of it."""
    found = checkpoints.locate(path, revision, variant)
    left_out = [name for name, entry in found.index().items() if isinstance(entry, list) and name not in found.parts()]
    parts = loading.networks(found, dtype, left_out)
    with loading.sentences(found.folder), loading.quiet():
        anything: Any = diffusers.DiffusionPipeline
        pipeline = anything.from_pretrained(
            found.folder,
            **dict.fromkeys(left_out),
            **parts,
            variant=found.variant,
            use_safetensors=True,
            local_files_only=True,
        )
    pipeline.set_progress_bar_config(disable=True)
    lacking = [name for name in _NEEDED if name not in inspect.signature(pipeline.__call__).parameters]
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    main = next((networks[name] for name in _DENOISERS if name in networks), None)
    if lacking or main is None:
        raise ValueError(f"{type(pipeline).__name__} takes no {lacking[0] if lacking else 'denoiser that is known'}")
    others = {name: network for name, network in networks.items() if network is not main}
    model = Pipeline(pipeline.to(device), {"main": main, **others}, torch.device(device))
    main.register_forward_pre_hook(model.counted.count, with_kwargs=True)
    return model
