"""The folder of what is kept between runs of all experiments: digests of large files, features of reference sets.

It may be deleted at any time, which only costs time.
"""

import os
from contextlib import suppress
from pathlib import Path


def home() -> Path:
    """`cfgbench` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cfgbench"


def keep(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; a folder that cannot be written only costs time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(path)
