"""Checkpoints in diffusers' layout: where their files are, whether these are whole, and their digests. No torch.

A checkpoint is a local folder or a repository in the local hub cache. Nothing is downloaded here: what is missing is
named, with where it was looked for and how to get it. All problems are ValueError, to which the caller adds the place.
"""

import functools
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeInt, TypeAdapter

from cfgbench import cache

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGE = 50_000_000  # bytes from which a file's digest is remembered between runs
_HEADER = 100_000_000  # bytes that a safetensors header may have
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_TOKENIZER = (".json", ".txt", ".model", ".jinja")
_STEMS = ("diffusion_pytorch_model", "model")  # of diffusers' and of transformers' weights


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a part of a pipeline in each subfolder."""

    name: str  # as the user says it
    folder: Path
    revision: str | None = None
    variant: str | None = None  # of the weight files, as in diffusion_pytorch_model.fp16.safetensors

    def index(self) -> Mapping[str, Any]:
        """`model_index.json`: the pipeline's class and what its parts are."""
        return self.json("model_index.json")

    def parts(self) -> dict[str, tuple[str, str]]:
        """Library and class of each part that the index says is there; ValueError where it says no such thing."""
        listed = {part: entry for part, entry in self.index().items() if isinstance(entry, list)}
        for part, entry in listed.items():
            if len(entry) != 2 or not (entry[0] is None or all(isinstance(name, str) for name in entry)):
                raise ValueError(
                    f"{self.folder}/model_index.json is damaged: it names no class for {part}, which should be a "
                    "library and a class, or two nulls; get it again"
                )
        return {part: (entry[0], entry[1]) for part, entry in listed.items() if entry[0] is not None}

    def json(self, file: str) -> Mapping[str, Any]:
        """The content of a JSON file."""
        return _json(self.require(file))

    def require(self, file: str) -> Path:
        """The path of a file; ValueError says how to get it where it is missing."""
        return require(self.folder / file, self.name, "model", self.revision)

    def network_files(self, part: str) -> dict[str, Path]:
        """Configuration and whole safetensors files of a network, by their path in the checkpoint."""
        names = [f"{part}/config.json", *self._weights(part)]
        return {name: self.require(name) for name in names}

    def tokenizer_files(self, part: str) -> dict[str, Path]:
        """All files of a tokenizer."""
        folder = self.folder / part
        found = sorted(path for path in folder.glob("*") if path.suffix in _TOKENIZER)
        if not found:
            self.require(f"{part}/tokenizer_config.json")
        return {f"{part}/{path.name}": path for path in found}

    def _weights(self, part: str) -> Iterator[str]:
        """Names of a network's weight files, each checked to be whole."""
        infix = f".{self.variant}" if self.variant else ""
        plain = [f"{part}/{stem}{infix}.safetensors" for stem in _STEMS]
        indices = [f"{part}/{stem}.safetensors.index{infix}.json" for stem in _STEMS]
        single = next((name for name in plain if _is_named(self.folder / name)), None)
        index = next((name for name in indices if _is_named(self.folder / name)), None)
        if single is not None:
            check_whole(self.require(single))
            yield single
        elif index is not None:
            yield index
            yield from self._shards(part, index)
        else:
            raise ValueError(self._no_weights(part, plain))

    def _shards(self, part: str, index: str) -> Iterator[str]:
        shards = self.json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
            raise ValueError(f"{self.folder / index} is damaged: its weight_map names no files; get it again")
        for shard in sorted(set(shards.values())):
            if Path(shard).name != shard:
                raise ValueError(f"{self.folder / index} names a shard {shard!r} outside its folder")
            check_whole(self.require(f"{part}/{shard}"))
            yield f"{part}/{shard}"

    def _no_weights(self, part: str, wanted: list[str]) -> str:
        folder = self.folder / part
        there = sorted(path.name for path in folder.glob("*"))
        pickles = [name for name in there if name.endswith(_PICKLES)]
        others = [name for name in there if name.endswith(".safetensors")]
        text = f"no {' or '.join(wanted)} in {self.folder}"
        if others:
            return f"{text}; there are {', '.join(others)}: name one of their variants by `variant`, or leave it out"
        if pickles:
            return (
                f"{text}, only the pickle {pickles[0]}, which can run code when it is loaded and is refused; convert "
                "it by loading the model with diffusers and save_pretrained(folder), or use a revision with safetensors"
            )
        return f"{text}; {how_to_get(self.name, 'model', self.revision, self.folder)}"


def _is_named(file: Path) -> bool:
    """Whether there is a file, or a link that a download which was broken off has left."""
    return file.exists() or file.is_symlink()


@lru_cache(maxsize=64)
def locate(path: str, revision: str | None = None, variant: str | None = None) -> Checkpoint:
    """The checkpoint that a user names: a local folder, or `owner/name` in the hub cache."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"revision = {revision!r} is for hub repositories, and {path} is a local folder")
        return Checkpoint(path, folder.resolve(), None, variant)
    if folder.is_file():
        raise ValueError(
            f"{path} is a single file; a folder in diffusers' layout is needed, which "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER) makes (of the pipeline's own class)"
        )
    if not _REPOSITORY.fullmatch(path):
        raise ValueError(f"there is no folder {path}, nor is that the name of a hub repository, owner/name")
    return Checkpoint(path, cached_snapshot(path, revision, "model"), revision, variant)


def cached_snapshot(repository: str, revision: str | None, kind: str) -> Path:
    """The folder of a repository's revision in the hub cache; `kind` is model or dataset."""
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"{repository!r} is not the name of a hub repository, owner/name")
    home = hub_cache() / f"{kind}s--{repository.replace('/', '--')}"
    get = how_to_get(repository, kind, revision)
    if not (home / "snapshots").is_dir():
        raise ValueError(f"{repository} is not in the hub cache {home.parent}; {get}")
    known = {str(path.relative_to(home / "refs")): path for path in (home / "refs").rglob("*") if path.is_file()}
    wanted = revision or "main"
    commit = known[wanted].read_text().strip() if wanted in known else wanted
    if (home / "snapshots" / commit).is_dir():
        return home / "snapshots" / commit
    there = ", ".join([*sorted(known), *sorted(path.name for path in (home / "snapshots").iterdir())])
    place = f"the hub cache {home.parent}, which has {there}"
    raise ValueError(f"revision {wanted!r} of {repository} is not in {place}; {get}")


def require(file: Path, name: str, kind: str, revision: str | None = None) -> Path:
    """A file that must be there; ValueError says where it was looked for and how to get it."""
    if not file.is_file():
        state = "is a link to nothing" if file.is_symlink() else "is missing"
        raise ValueError(f"{file} {state}; {how_to_get(name, kind, revision, file.parent)}")
    return file


def is_repository(path: str) -> bool:
    """Whether a path is, as far as can be seen, the name of a repository on the hub and of no local folder."""
    return _REPOSITORY.fullmatch(path) is not None and not Path(path).expanduser().exists()


def how_to_get(name: str, kind: str, revision: str | None, folder: Path | None = None) -> str:
    """What to do about a file that is missing."""
    if folder is not None and not folder.is_relative_to(hub_cache()):
        return f"complete the folder {name}, for example by save_pretrained, or by downloading it again"
    command = f"hf download {name}" + ("" if kind == "model" else f" --repo-type {kind}")
    command += f" --revision {revision}" if revision else ""
    return f"get it where there is a network by `{command}` (a gated one after `hf auth login`), or name a local folder"


def hub_cache() -> Path:
    """Where the hub's client keeps what it has downloaded."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


@functools.cache
def check_whole(file: Path) -> None:
    """Raise ValueError unless a safetensors file is as long as its header says."""
    entries, begin = _entries(file)
    size, expected = file.stat().st_size, begin + max(entry.data_offsets[1] for entry in entries)
    if size != expected:
        raise ValueError(f"{file} is damaged: it has {size:,} bytes of {expected:,}; get it again")


def elements(file: Path) -> int:
    """How many numbers a safetensors file holds."""
    return sum(math.prod(entry.shape) for entry in _entries(file)[0])


def digest(file: Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits; that of a large file is computed once and remembered.

    The hub cache names files after their digest, which is taken as it stands.
    """
    real = file.resolve()
    if real.parent.name == "blobs" and _DIGEST.fullmatch(real.name):
        return real.name
    status = real.stat()
    if status.st_size < _LARGE:
        return _computed(real)
    key = f"{real} {status.st_size} {status.st_mtime_ns}"
    known = _remembered()
    if key not in known:
        known[key] = _computed(real)
        _remember(known)
    return known[key]


def _computed(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _memory() -> Path:
    return cache.home() / "digests.json"


def _remembered() -> dict[str, str]:
    try:
        content = json.loads(_memory().read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def _remember(known: Mapping[str, str]) -> None:
    cache.keep(_memory(), json.dumps(dict(known), indent=0).encode())


class _Tensor(BaseModel):
    """What the header of a safetensors file says of a tensor."""

    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_HEADERS = TypeAdapter(dict[str, _Tensor])


def _entries(file: Path) -> tuple[list[_Tensor], int]:
    """The tensors of a safetensors file, and at which byte they begin; ValueError where its header is none."""
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER + 1
        content = stream.read(length) if length <= _HEADER else b""
    try:
        header = json.loads(content)
        header.pop("__metadata__", None)
        tensors = list(_HEADERS.validate_python(header).values())
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{file} is damaged: it does not begin as a safetensors file does; get it again") from None
    if not tensors:
        raise ValueError(f"{file} is damaged: it holds no weights; get it again")
    return tensors, 8 + length


def _json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} is damaged: {error}; get it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no mapping; get it again")
    return content
