"""How fast products of large matrices are on a device."""

import time
from functools import cache

SIDES = {"cpu": 1024, "cuda": 8192}  # of the matrices
REPEATS = 3


@cache
def rate(device: str, dtype: str) -> float:
    """Operations a second in a dtype, multiply and add apart; the best of a few products."""
    import torch

    from cfgbench.generation import precision

    side = SIDES[torch.device(device).type]
    matrix = torch.ones(side, side, device=device, dtype=precision.TORCH[dtype])
    seconds = []
    with precision.switches(dtype):
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            float((matrix @ matrix)[0, 0])  # waits for the device
            seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
