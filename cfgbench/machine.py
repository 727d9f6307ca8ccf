"""What machine this is: asked of the system first, so that planning needs no torch."""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cfgbench.records import Machine

PACKAGES = ("cfgbench", "torch", "diffusers", "numpy", "scipy", "scikit-learn", "open_clip_torch")

_MALLOC = {-1: 256 << 20, -2: 16 << 20, -3: 32 << 20}  # glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (largest)


def has_cuda() -> bool:
    """Whether a CUDA device is visible, by the driver library alone."""
    return cuda_devices() > 0


@functools.lru_cache(maxsize=1)
def cuda_devices() -> int:
    """How many CUDA devices are visible."""
    try:
        driver = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    known = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if known else 0


def gpus() -> tuple[str, ...]:
    """The visible CUDA devices as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in given.split(",")] if given else [str(k) for k in range(cuda_devices())]
    return tuple(names[: cuda_devices()])


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Physical memory."""
    import psutil

    return int(psutil.virtual_memory().total)


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees for its next tensors; False where the C library has no such switch.

    glibc hands large blocks back to the system at once, and the system clears every page before it is used again: in
    passes of small networks that can take as long as the arithmetic.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(set_option(option, value) == 1 for option, value in _MALLOC.items())


def describe(device: str, threads: int) -> Machine:
    """The provenance block of a record."""
    return Machine(
        device=device_name(device),
        processor=processor(),
        cores=cores(),
        memory_bytes=memory_bytes(),
        driver=_driver(device),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=_versions(),
        commit=commit(),
        threads=threads,
    )


@functools.lru_cache(maxsize=8)
def kind(device: str) -> str:
    """What decides how a sample is rounded, in words: the processor or the GPU, and the version of torch."""
    name = device_name(device)
    return f"{processor() if name == 'cpu' else name}, torch {_versions().get('torch', 'unknown')}"


def device_name(device: str) -> str:
    """`cpu`, or the name of a CUDA device; `cuda` where the device is another machine's."""
    if not device.startswith("cuda") or not has_cuda():
        return device
    import torch

    return torch.cuda.get_device_name(device)


@functools.lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of a source checkout, with `+` where files differ from it; None for an installed package."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "cfgbench", "experiments")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _driver(device: str) -> str | None:
    if not device.startswith("cuda") or not has_cuda():
        return None
    import torch

    return f"CUDA {torch.version.cuda}, {torch.cuda.get_device_capability(device)}"


@functools.lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """What decides the bits of a result beside the processor: versions, and the digest of this package's files."""
    package = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".safetensors", ".npz"):
            package.update(path.name.encode() + path.read_bytes())
    return {"python": platform.python_version(), **_versions(), "cfgbench files": package.hexdigest()[:16]}


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
