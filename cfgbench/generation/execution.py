"""How a network computes what it computes: as it is, in another memory layout, compiled, or as captured CUDA graphs.

All of them give the same numbers up to rounding, so that one is an axis of a sweep like a dtype: speed is measured for
each, and their samples are compared in pairs.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cfgbench.registry import EXECUTIONS

SHAPES = 64  # for which a network may be compiled anew: the batch sizes of a run, alone and as joint passes


def apply(networks: dict[str, nn.Module], name: str) -> None:
    """Let networks, in place, compute in this way. Once per loaded model."""
    entry = EXECUTIONS[name]
    for network in {id(network): network for network in networks.values()}.values():
        if entry.channels_last:
            network.to(memory_format=torch.channels_last)
        if entry.mode is not None:
            torch._dynamo.config.recompile_limit = SHAPES
            network.compile(mode=entry.mode, dynamic=False, fullgraph=True)  # a kernel per shape: bits have no history
        if entry.graphs:
            _own_outputs(network)


def _own_outputs(network: nn.Module) -> None:
    """Copy what a captured graph returns: it stands in memory that the graph's next run writes over."""
    call = cast(Callable[..., object], network._compiled_call_impl)

    def copied(*arguments: object, **named: object) -> object:
        output = call(*arguments, **named)
        return pytree.tree_map(lambda part: part.clone() if isinstance(part, Tensor) else part, output)

    network._compiled_call_impl = copied
