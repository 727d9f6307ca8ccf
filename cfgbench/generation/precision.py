"""The arithmetic of a run: true dtypes where the device has them, rounding where it has not.

Emulation rounds weights once and every layer's output as it is made, and computes in fp32 between: measured close to
true half-precision arithmetic. It says nothing about speed.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TORCH = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "bf16_emulated": torch.float32,
    "fp16_emulated": torch.float32,
}
_ROUNDED = {"bf16_emulated": torch.bfloat16, "fp16_emulated": torch.float16}


def is_emulated(dtype: str) -> bool:
    """Whether a dtype stands for rounding, whose latency means nothing."""
    return dtype in _ROUNDED


def apply(networks: dict[str, nn.Module], dtype: str, full: Collection[str] = ()) -> None:
    """Put networks, in place, into a dtype; those named in `full`, into fp32 at least. Once per loaded model."""
    exact = {id(networks[name]) for name in full if name in networks}
    for network in {id(network): network for network in networks.values()}.values():
        half = id(network) in exact and TORCH[dtype].itemsize < torch.float32.itemsize
        wanted = torch.float32 if half else TORCH[dtype]
        if next(network.parameters(), torch.empty(0)).dtype != wanted:  # else parts may be in fp32 on purpose
            network.to(wanted)
        if dtype in _ROUNDED and id(network) not in exact:
            _emulate(network, _ROUNDED[dtype])


@contextmanager
def switches(dtype: str) -> Iterator[None]:
    """TF32 on for `tf32` and off for all else, restored on leaving."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def _emulate(network: nn.Module, low: torch.dtype) -> None:
    with torch.no_grad():
        for values in (*network.parameters(), *network.buffers()):
            if values.is_floating_point():
                values.copy_(values.to(low))
    for module in network.modules():
        if not any(module.children()):
            module.register_forward_hook(_rounding_hook(low))


def _rounding_hook(low: torch.dtype) -> Any:
    def round_output(module: nn.Module, arguments: tuple[object, ...], output: object) -> object:
        if isinstance(output, Tensor) and output.is_floating_point():
            return output.to(low).to(output.dtype)
        return output

    return round_output
