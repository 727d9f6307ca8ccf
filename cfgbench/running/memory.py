"""Memory of a timed pass: what the allocator or the system reports, and the tensors that are alive at the peak.

On a GPU the allocator counts everything. On a CPU the system only knows the resident size of the process, which keeps
what was freed and so says nothing about one pass; there the bytes of live tensors are counted in a pass of its own
(scratch buffers inside an operation are not seen).
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Peak(NamedTuple):
    """Bytes at the peak of a pass; None where the machine cannot tell."""

    total: int | None  # allocated on a GPU, resident on a CPU
    added: int | None  # above what was held before
    reserved: int | None  # by the GPU allocator


@contextmanager
def peak(device: str) -> Iterator[Callable[[], Peak]]:
    """Watch the peak inside the block; call the result to read it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        yield lambda: _allocated(device, held)
    else:
        known = _reset_resident_peak()
        yield lambda: Peak(_resident_peak() if known else None, None, None)


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors made inside the block while they are alive; `peak` is the most there were."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._live = 0
        self._seen: set[int] = set()
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                self._seen.add(tensor.untyped_storage()._cdata)  # views of weights are not made inside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return output

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._live -= size


def _allocated(device: str, held: int) -> Peak:
    most = torch.cuda.max_memory_allocated(device)
    return Peak(most, most - held, torch.cuda.max_memory_reserved(device))


def _reset_resident_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return None
