"""Kandinsky 2.2: a prior draws an image embedding for each prompt, and a U-Net draws the image that has it.

Both stages are guided: `prior_scale` is the prior's, `guidance_scale` the decoder's. What the prior drew is kept by
everything that it depends on, so that a sweep of the decoder's scale draws it once.
"""

from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cfgbench.assets import checkpoints
from cfgbench.assets.checkpoints import Checkpoint
from cfgbench.assets.layouts import KANDINSKY22, KANDINSKY22_PRIOR, Layout, scheduler_config
from cfgbench.assets.prompts import Prompts
from cfgbench.cell import digest
from cfgbench.generation import noise, schedulers
from cfgbench.models.text_to_image import (
    Encoding,
    Place,
    TextToImage,
    Wording,
    assemble,
    encode_missing,
    encoding_file,
    load_network,
    write,
)

_NOTHING = Wording("", instead=True)


@dataclass(frozen=True)
class Kandinsky22(TextToImage):
    """A condition is {"image": (n, d)}, an embedding; "uncond" is that of a picture of zeros."""

    prior_checkpoint: Checkpoint | None = None
    prior_scale: float = 4.0
    prior_steps: int = 25

    @property
    def text_source(self) -> tuple[Layout, Checkpoint]:
        assert self.prior_checkpoint is not None
        return KANDINSKY22_PRIOR, self.prior_checkpoint

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        pooled, text, mask = pipeline._encode_prompt(wording.text, self.device, 1, False)
        encoding = {"pooled": pooled, "text": text, "mask": mask}
        return encoding | ({"image": pipeline.get_zero_embed()} if wording.instead else {})

    def text_conditions(self, prompts: Prompts) -> dict[str, Encoding]:
        folder = prompts.cache / self.encoding_digest
        encode_missing(self, [_NOTHING, *map(Wording, prompts.whole)], folder)
        nothing = load_file(encoding_file(folder, _NOTHING))["image"].to(self.device)
        drawn = folder / f"{self._drawing_digest(prompts)}-drawn.safetensors"
        if not drawn.exists():
            cond = self._batch([load_file(encoding_file(folder, Wording(text))) for text in prompts.texts])
            uncond = self._batch([load_file(encoding_file(folder, _NOTHING))] * len(prompts.texts))
            write({"image": self._draw(prompts, cond, uncond).cpu()}, drawn)
        image = load_file(drawn)["image"].to(self.device)
        return {"cond": {"image": image}, "uncond": {"image": nothing.expand(len(image), -1)}}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        added = {"image_embeds": condition["image"].to(x.dtype)}
        prediction: Tensor = network(x, timestep, None, added_cond_kwargs=added, return_dict=False)[0]
        return prediction

    def picture(self, latents: Tensor) -> Tensor:
        vae: Any = self.networks["decoder"]
        decoded: Tensor = vae.decode(latents, force_not_quantize=True)["sample"]
        return decoded

    def _drawing_digest(self, prompts: Prompts) -> str:
        """Names everything that the prior's embeddings of these samples depend on, beside the text encoder."""
        _, checkpoint = self.text_source
        files = {name: checkpoints.digest(file) for name, file in checkpoint.network_files("prior").items()}
        scheduler = dict(scheduler_config(checkpoint))
        samples = [prompts.seed, list(prompts.indices), list(prompts.texts)]
        return digest([files, scheduler, self.prior_scale, self.prior_steps, samples])

    @torch.no_grad()
    def _draw(self, prompts: Prompts, cond: Encoding, uncond: Encoding) -> Tensor:
        """Image embeddings (n, d) fp32, by the prior's own scheduler with noise from the samples' own streams."""
        _, checkpoint = self.text_source
        prior: Any = self.networks["prior"]
        unclip: Any = diffusers.UnCLIPScheduler
        scheduler = unclip.from_config(dict(scheduler_config(checkpoint)))
        scheduler.set_timesteps(self.prior_steps, device=self.device)
        draws = noise.StepNoise(prompts.seed, prompts.indices, noise.CONDITION)
        x = torch.from_numpy(draws.draw((prior.config.embedding_dim,))).to(self.device, torch.float32)
        following = [*scheduler.timesteps[1:], None]
        for timestep, after in zip(scheduler.timesteps, following, strict=True):
            prediction = self._predict(prior, x, timestep, cond)
            if self.prior_scale != 1:
                other = self._predict(prior, x, timestep, uncond)
                prediction = other + self.prior_scale * (prediction - other)
            with schedulers.noise_from(scheduler, draws):
                x = scheduler.step(prediction, timestep, x, prev_timestep=after).prev_sample
        embeddings: Tensor = prior.post_process_latents(x)
        return embeddings.float()

    def _predict(self, prior: Any, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        pooled, text = (condition[name].to(self.dtype) for name in ("pooled", "text"))
        output = prior(x.to(self.dtype), timestep, pooled, text, condition["mask"])
        return output.predicted_image_embedding.float()  # type: ignore[no-any-return]


def load(
    path: str,
    prior_path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Kandinsky22:
    """Both checkpoints' networks; ValueError where a file is missing or damaged."""
    place = Place(device, dtype)
    model: Kandinsky22 = assemble(Kandinsky22, KANDINSKY22, KANDINSKY22.open(path, revision, variant), place)
    prior = KANDINSKY22_PRIOR.open(prior_path, None, variant)
    model.networks["prior"] = load_network(prior, "prior", place)
    return model.configured(prior_checkpoint=prior, learned_variance=True)
