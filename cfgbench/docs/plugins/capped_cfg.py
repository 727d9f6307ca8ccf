"""A guidance method of one's own: CFG whose step away from the conditional prediction is never longer than it is.

Name it `capped_cfg:capped_cfg` in an experiment beside this file; check it with `cfgbench check capped_cfg:capped_cfg`.
"""

from torch import Tensor

from cfgbench.generation.sampling import Step
from cfgbench.plugins import declare


@declare(passes=2, ends={1.0: "unguided"}, label="capped CFG", source="an example")
def capped_cfg(step: Step, guidance_scale: float, cap: float = 1.0) -> Tensor:
    """CFG with the update's norm at most `cap` times that of the conditional prediction, per sample."""
    cond, uncond = step.predict_all("cond", "uncond")
    update = (guidance_scale - 1) * (cond - uncond)
    ratio = update.flatten(1).norm(dim=1) / cond.flatten(1).norm(dim=1)  # (n,): never a norm over the batch
    share = (cap / ratio.clamp(min=1e-9)).clamp(max=1)
    guided: Tensor = cond + update * share.reshape(-1, *[1] * (cond.ndim - 1))
    return guided
