"""What text-to-image families share: text encoded once and kept, latents, decoding; a family adds its three calls.

A condition is a dict of tensors, each with the batch first. Prompts are encoded one at a time, so that an encoding does
not depend on what else was encoded, by the family's own diffusers pipeline, of which only the text part is loaded, and
only while something is left to encode.
"""

import fcntl
import gc
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import diffusers
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cfgbench.assets import clip_models, layouts
from cfgbench.assets.checkpoints import Checkpoint
from cfgbench.assets.layouts import Layout
from cfgbench.assets.prompts import Prompts
from cfgbench.assets.shapes import Shape
from cfgbench.cell import digest
from cfgbench.generation.pixels import to_uint8
from cfgbench.models import Flow, Level, Schedule, loading
from cfgbench.models.loading import quiet

Encoding = dict[str, Tensor]  # of one prompt, or of a batch


class Wording(NamedTuple):
    """A text to encode: a prompt, or what the network is told instead of one, which some pipelines encode otherwise."""

    text: str
    instead: bool = False


@dataclass(frozen=True)
class TextToImage(ABC):
    """A loaded checkpoint with its settings. Implements `cfgbench.models.Model` and `Prompted`."""

    layout: Layout
    checkpoint: Checkpoint
    networks: dict[str, nn.Module]  # "main" and "decoder"
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype  # of the text encoders, as of the networks
    height: int | None = None  # pixels; None is the checkpoint's own
    width: int | None = None
    negative_prompt: str | None = None
    unconditional: str | None = None  # what no prompt is: empty | zeros; None is the pipeline's own
    guide: str | None = None  # a CLIP, as `clip_models.parse` reads it
    learned_variance: bool = False

    @abstractmethod
    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        """One text as the network reads it, tensors (1, ...); `pipeline` has its text part only."""

    @abstractmethod
    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        """The network's prediction (n, ...) at x (n, *latent_shape), timestep () and a batch's condition."""

    def configured(self, **settings: Any) -> Self:
        """The same networks with other settings; ValueError for sizes that the network cannot have."""
        changed = replace(self, **settings)
        if self.schedule.flow is None:
            return changed
        flow = replace(self.schedule.flow, shift=self.layout.shift(self.checkpoint, changed.size))
        return replace(changed, schedule=replace(self.schedule, flow=flow))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.layout.size(self.checkpoint, self.height, self.width)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the latents of an image."""
        channels = cast(Any, self.networks["main"]).config.in_channels // self.layout.packed**2
        factor = self.layout.factor(self.checkpoint)
        return channels, self.size[0] // factor, self.size[1] // factor

    def conditions(self, labels: np.ndarray) -> dict[str, Encoding]:
        """Raises TypeError: this model is asked by prompts."""
        raise TypeError("a text-to-image model is asked by prompts, not by class labels")

    def text_conditions(self, prompts: Prompts) -> dict[str, Encoding]:
        """The prompts as "cond", and what the model is told instead of them as "uncond"."""
        folder = prompts.cache / self.encoding_digest
        told = Wording(self.negative_prompt or "", instead=True)
        encode_missing(self, [told, *map(Wording, prompts.whole)], folder)
        cond = [load_file(encoding_file(folder, Wording(text))) for text in prompts.texts]
        nothing = self._nothing(load_file(encoding_file(folder, told)))
        return {"cond": self._batch(cond), "uncond": self._batch([nothing] * len(cond))}

    @property
    def encoding_digest(self) -> str:
        """Names everything that encodings depend on beside the prompt."""
        layout, checkpoint = self.text_source
        texts = layout.text_digest(checkpoint)
        return digest([self.layout.name, texts, str(self.dtype), self.device.type, *self._encoding_settings()])

    @property
    def text_source(self) -> tuple[Layout, Checkpoint]:
        """The checkpoint that has the text encoders."""
        return self.layout, self.checkpoint

    def embed(self, condition: Encoding) -> Encoding:
        """The condition: it is made of tensors already."""
        return condition

    def predict(self, x: Tensor, level: Level, condition: Encoding, network: str = "main") -> Tensor:
        """The prediction at x, in the checkpoint's parameterisation."""
        return self.call(self.networks[network], x, level.timestep.to(x.device), condition)

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """Raises TypeError: there is no classifier."""
        raise TypeError("a text-to-image model has no classifier of classes")

    def with_guide(self) -> Self:
        """The model with its CLIP loaded, in fp32; ValueError where none is named."""
        return replace(self, networks={**self.networks, "guide": self._clip.network})

    def guide_condition(self, prompts: Prompts) -> Tensor:
        """Unit vectors of the prompts (n, d)."""
        vectors = [clip_models.text_vector(*self._clip_arguments, text) for text in prompts.texts]
        return torch.from_numpy(np.stack(vectors)).to(self.device)

    def guide_gradient(self, latents: Tensor, condition: Tensor) -> Tensor:
        """The gradient of CLIP's logit of the decoded picture and the prompt, one picture at a time."""
        parts = zip(latents[:, None], condition, strict=True)
        return torch.cat([self._guide_gradient(part, vector) for part, vector in parts])

    def _guide_gradient(self, latents: Tensor, vector: Tensor) -> Tensor:
        with torch.enable_grad():
            latents = latents.detach().requires_grad_(True)
            picture = self.picture(latents.view_as(latents).to(self._decoder_dtype))
            seen = clip_models.prepared(self._clip, (picture.float() / 2 + 0.5).clamp(0, 1))
            network = self._clip.network
            logit = network.logit_scale.exp() * (network.encode_image(seen, normalize=True) @ vector).sum()
            (gradient,) = torch.autograd.grad(logit, latents)
        return gradient

    @property
    def _clip(self) -> clip_models.Clip:
        return clip_models.load(*self._clip_arguments)

    @property
    def _clip_arguments(self) -> tuple[str, str | None, str | None, str]:
        if self.guide is None:
            raise ValueError(f"{self.checkpoint.name} has no guide; name a CLIP by the parameter `guide`")
        given = {"model": clip_models.MODEL, "pretrained": None, "path": None, **clip_models.parse(self.guide)}
        return str(given["model"]), given["pretrained"], given["path"], str(self.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 RGB images (n, 3, height, width), one at a time to bound memory."""
        images = [self.picture(part.to(self._decoder_dtype)) for part in latents[:, None]]
        return to_uint8(torch.cat(images).float().cpu().numpy())

    @property
    def _decoder_dtype(self) -> torch.dtype:
        return next(self.networks["decoder"].parameters()).dtype

    def picture(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, height, width) in [-1, 1], about, of latents in the dtype of the decoder; differentiable."""
        vae: Any = self.networks["decoder"]
        decoded: Tensor = vae.decode(self._to_vae(latents), return_dict=False)[0]
        return decoded

    def _to_vae(self, latents: Tensor) -> Tensor:
        """Latents in the scaling of the autoencoder."""
        config: Any = self.networks["decoder"].config
        scale, shift = float(config.scaling_factor), float(getattr(config, "shift_factor", None) or 0.0)
        return latents / scale + shift

    def _nothing(self, encoding: Encoding) -> Encoding:
        """What the network is told instead of a prompt, from the encoding of the negative prompt or of ""."""
        if self.negative_prompt is not None:
            return encoding
        kind = self.layout.unconditional(self.checkpoint, self.unconditional)
        return {
            name: torch.zeros_like(part) if kind == "zeros" and part.is_floating_point() else part
            for name, part in encoding.items()
        }

    def _batch(self, encodings: Sequence[Encoding]) -> Encoding:
        return {name: torch.cat([one[name] for one in encodings]).to(self.device) for name in encodings[0]}

    def _encoding_settings(self) -> tuple[str | int | None, ...]:
        """Settings that change encodings."""
        return ()


def assemble(family: type[TextToImage], layout: Layout, checkpoint: Checkpoint, place: "Place") -> Any:
    """A model of a family with its networks loaded."""
    networks = {
        "main": load_network(checkpoint, layout.denoiser, place),
        "decoder": load_network(checkpoint, layout.autoencoder, place),
    }
    schedule = _schedule(layout, checkpoint)
    return family(layout, checkpoint, networks, schedule, torch.device(place.device), place.dtype)


def _schedule(layout: Layout, checkpoint: Checkpoint) -> Schedule:
    config = layouts.scheduler_config(checkpoint)
    if layout.max_shift is None:
        alphas = layouts.alphas_cumprod(config)
        return Schedule(alphas, config.get("prediction_type", "epsilon"), layouts.schedule_settings(config))
    flow = Flow(layout.shift(checkpoint, layout.size(checkpoint)), to_step=layout.to_step)
    sigmas = layouts.flow_levels(config, flow.shift)
    return Schedule(1 / (1 + sigmas**2), "flow_prediction", flow=flow)


@dataclass(frozen=True)
class Place:
    """Where and as what networks are loaded."""

    device: str
    dtype: torch.dtype


def load_network(checkpoint: Checkpoint, part: str, place: Place) -> nn.Module:
    """A network of a checkpoint by the class that its index names."""
    if isinstance(checkpoint, Shape):
        return _random_network(checkpoint, part, place)
    return loading.load(checkpoint, part, place.dtype).to(place.device)


def _random_network(shape: Shape, part: str, place: Place) -> nn.Module:
    """A network as its class sets it up, the same every time, made where it is used."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[] if place.device in ("cpu", "meta") else [place.device]), quiet():
        torch.manual_seed(0)
        torch.set_default_dtype(place.dtype)
        try:
            with torch.device(place.device):
                network: nn.Module = loading.network_class(shape, part).from_config(shape.json(f"{part}/config.json"))
        finally:
            torch.set_default_dtype(before)
    return nn.Module.to(network.eval().requires_grad_(False), dtype=place.dtype)  # the class's own `to` warns


def _random_encoding(shape: Shape, wording: Wording, model: TextToImage) -> Encoding:
    """Random numbers that belong to a text."""
    seed = int(hashlib.sha256(wording.text.encode(errors="surrogatepass")).hexdigest()[:8], 16)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator).to(model.dtype) for name, size in shape.encoding.items()}


@contextmanager
def text_part(model: TextToImage) -> Iterator[Any]:
    """The text part of a checkpoint's pipeline, in memory for so long only."""
    layout, checkpoint = model.text_source
    left_out = (layout.denoiser, layout.autoencoder, *layout.unused(checkpoint))
    networks = loading.networks(checkpoint, model.dtype, left_out)
    with loading.sentences(checkpoint.folder), quiet():
        pipeline = getattr(diffusers, layout.pipelines[0]).from_pretrained(
            checkpoint.folder,
            **dict.fromkeys(left_out),
            **networks,
            variant=checkpoint.variant,
            use_safetensors=True,
            local_files_only=True,
        )
    try:
        yield pipeline.to(model.device)
    finally:
        del pipeline
        gc.collect()
        if model.device.type == "cuda":
            torch.cuda.empty_cache()


@torch.no_grad()
def encode_missing(model: TextToImage, wordings: Sequence[Wording], folder: Path) -> None:
    """Encode those of the texts that a folder has no file of; one process at a time does, others wait."""
    if all(encoding_file(folder, wording).exists() for wording in wordings):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        missing = [wording for wording in dict.fromkeys(wordings) if not encoding_file(folder, wording).exists()]
        if not missing:
            return
        source = model.text_source[1]
        with nullcontext() if isinstance(source, Shape) else text_part(model) as pipeline:
            for wording in missing:
                made = (
                    _random_encoding(source, wording, model)
                    if isinstance(source, Shape)
                    else model.encode(pipeline, wording)
                )
                encoding = {name: part.cpu().contiguous() for name, part in made.items()}
                write(encoding, encoding_file(folder, wording))


def encoding_file(folder: Path, wording: Wording) -> Path:
    """The file of a text's encoding, named by its content."""
    name = hashlib.sha256(wording.text.encode(errors="surrogatepass")).hexdigest()[:32]
    return folder / f"{name}{'-instead' if wording.instead else ''}.safetensors"


def write(encoding: Encoding, path: Path) -> None:
    """Write a file of tensors, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(encoding, temporary)
    temporary.replace(path)
