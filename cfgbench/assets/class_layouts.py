"""What the planner reads off class-conditional checkpoints in diffusers' layout, without loading weights. No torch.

DiT pipelines, whose label after the last stands for no class; and U-Nets with class embeddings in pixel space, where
the user says which of them stands for none, if one does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfgbench.assets import layouts
from cfgbench.assets.checkpoints import Checkpoint
from cfgbench.assets.layouts import Layout


@dataclass(frozen=True)
class ClassLayout(Layout):
    """How a family's pipelines are saved."""

    text: tuple[str, ...] = ()
    embeddings: str = "num_class_embeds"  # the field of the denoiser's configuration with the number of classes
    has_null: bool = False  # one label more than that, for no class
    has_vae: bool = False

    def files(self, **arguments: Any) -> dict[str, Path]:
        """Every file that the samples depend on; all belong to the main network."""
        found = self.open(**arguments)
        files = {"model_index.json": found.require("model_index.json")}
        files["scheduler"] = found.require("scheduler/scheduler_config.json")
        for part in (self.denoiser, *(["vae"] if self.has_vae else [])):
            files |= found.network_files(part)
        return {f"main/{name}": file for name, file in files.items()}

    def num_classes(self, **arguments: Any) -> int:
        """Classes to draw; ValueError where the network knows none."""
        return len(self.labels(**arguments))

    def labels(self, null_class: int | None = None, **arguments: Any) -> list[int]:
        """The network's label of each class, in order; ValueError where it has none such."""
        found = self.open(**arguments)
        count = self.config(found).get(self.embeddings)
        if not isinstance(count, int) or self.config(found).get("class_embed_type") is not None:
            raise ValueError(f"the {self.denoiser} of {found.name} has no class embeddings ({self.embeddings})")
        if self.config(found).get("sample_size") is None:
            raise ValueError(f"{self.denoiser}/config.json of {found.name} lacks 'sample_size', the size of its images")
        if null_class is not None and not 0 <= null_class < count:
            raise ValueError(f"null_class = {null_class}; the labels of {found.name} are 0 to {count - 1}")
        return [label for label in range(count) if label != null_class]

    def null_label(self, null_class: int | None = None, **arguments: Any) -> int | None:
        """The network's label of no class; None where it has none."""
        count = len(self.labels(null_class, **arguments))
        return count if self.has_null else null_class

    def lacks(self, **arguments: Any) -> dict[str, str]:
        """The networks and capabilities that a checkpoint leaves out, with the reason."""
        missing = {}
        if self.null_label(**arguments) is None:
            missing["unconditional"] = "say which of its classes stands for none by `null_class`, if one does"
        if not self.learned_variance(self.open(**arguments)):
            missing["learned_variance"] = f"its {self.denoiser} predicts no variance"
        return missing

    def about(self, **arguments: Any) -> list[str]:
        """How many classes there are, and what the unconditional prediction is told."""
        found, null = self.open(**arguments), self.null_label(**arguments)
        told = "no label stands for no class" if null is None else f"label {null} stands for no class"
        return [f"{self.name} {Path(found.name).name}: {self.num_classes(**arguments)} classes; {told}"]

    def factor(self, found: Checkpoint) -> int:
        """Pixels of the image per latent pixel, each way; 1 where the network draws pixels."""
        return super().factor(found) if self.has_vae else 1

    def config(self, found: Checkpoint) -> Mapping[str, Any]:
        """The denoiser's configuration."""
        return found.json(f"{self.denoiser}/config.json")

    def learned_variance(self, found: Checkpoint) -> bool:
        """Whether the network predicts a variance beside the noise."""
        config = self.config(found)
        return (config.get("out_channels") or 0) == 2 * int(config.get("in_channels", 0)) != 0


def schedule_settings(config: Mapping[str, Any]) -> dict[str, object]:
    """What a checkpoint's scheduler fixes for every sampler, clipping of the clean image included."""
    clips = bool(config.get("clip_sample", str(config.get("_class_name")) in ("DDPMScheduler", "DDIMScheduler")))
    limits = {"clip_sample": clips, "clip_sample_range": config.get("clip_sample_range", 1.0)}
    return {**layouts.schedule_settings(config), **limits}


DIT = ClassLayout("dit", ("DiTPipeline",), "transformer", embeddings="num_embeds_ada_norm", has_null=True, has_vae=True)
UNET2D = ClassLayout("unet2d", ("DDPMPipeline", "DDIMPipeline"))
