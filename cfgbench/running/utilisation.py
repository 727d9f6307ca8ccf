"""Energy and how well a device is used: joules by NVML, and the rate of a large matrix product as the ceiling.

NVML's counter of a whole GPU, in millijoules, moves about every 100 ms: joules of passes shorter than that are coarse,
and those of other processes on the GPU are in them. On a CPU there is no such counter for everyone to read.
"""

import time
from collections.abc import Callable
from functools import lru_cache

import torch

from cfgbench import machine

SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices
TRIES, LEAST_S = 3, 0.1  # the fastest of so many stretches, each at least so long

Counter = Callable[[], int]  # millijoules since the driver was loaded


def joules_since(counter: Counter | None) -> Callable[[], float | None]:
    """Start counting; call the result for the joules since, None without a counter."""
    begin = counter() if counter else 0
    return lambda: None if counter is None else (counter() - begin) / 1000


@lru_cache(maxsize=8)
def energy_counter(device: str) -> Counter | None:
    """NVML's counter of a CUDA device; None on a CPU, without the package nvidia-ml-py or where the GPU has none."""
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        index = int(device.partition(":")[2] or 0)
        name = machine.gpus()[index]  # as CUDA_VISIBLE_DEVICES has it
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else _by_uuid(pynvml, name)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # a missing package, driver or counter: NVML raises classes of its own
        return None
    return lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))


@lru_cache(maxsize=16)
def matmul_flops(dtype: torch.dtype, device: str, threads: int) -> float:
    """Floating-point operations per second of a large matrix product, multiply and add counted apart; about a second.

    `threads` is what torch has at present, and only tells results apart.
    """
    side = SIDES["cuda" if device.startswith("cuda") else "cpu"]
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    return max(2 * side**3 / _seconds(matrix) for _ in range(TRIES))


def clock(device: str) -> float:
    """Seconds of a clock, once a device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _seconds(matrix: torch.Tensor) -> float:
    """Of one product, from as many as take a while."""
    count = 1
    while True:
        begin = clock(str(matrix.device))
        for _ in range(count):
            torch.mm(matrix, matrix)
        seconds = clock(str(matrix.device)) - begin
        if seconds >= LEAST_S:
            return seconds / count
        count *= 2


def _by_uuid(pynvml: object, name: str) -> object:
    return pynvml.nvmlDeviceGetHandleByUUID(name)  # type: ignore[attr-defined]
