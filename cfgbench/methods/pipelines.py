"""Guidance inside a pipeline that runs its own loop: all that can be said to it is its `guidance_scale`."""

from torch import Tensor

from cfgbench.generation.sampling import Request, Step


def pipeline_cfg(step: Step, guidance_scale: float) -> Tensor:
    """The pictures of the pipeline called with this scale, whatever it does with it."""
    return step.predict(Request({**step.embedded("cond"), "guidance_scale": guidance_scale}))


def pipeline_unguided(step: Step) -> Tensor:
    """The pictures of the pipeline called with scale 1, at which most pipelines do without the second pass."""
    return pipeline_cfg(step, 1.0)
