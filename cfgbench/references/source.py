"""Where reference pictures come from, as an experiment file says it, and finding them. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cfgbench.assets import checkpoints, data_sources
from cfgbench.errors import InputError, hint, shown, unknown
from cfgbench.external.images import find_images
from cfgbench.references.pictures import Folder, Npz, Parquet, Pictures
from cfgbench.registry import REFERENCES

SPLITS = ("test", "train", "val")  # of datasets, as names of parquet files begin; "validation" is the last
Count = Annotated[int, Field(strict=True, ge=1)]


class ReferenceSource(BaseModel):
    """A folder of images, an .npz of ADM, parquet files, or files of a hub dataset in the cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str = Field(min_length=1)  # beside the experiment file or in the working folder, or in the dataset; may glob
    dataset: str | None = None  # owner/name on the hub
    revision: str | None = None
    column: str | None = None  # of pictures in parquet files
    limit: Count | None = None  # the first so many
    size: Count | None = None  # of the square pictures are made to; None: they are of one size as they are
    crop: Literal["center", "squash", "adm"] = "center"
    filter: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bicubic"
    unreadable: Literal["error", "skip"] = "error"

    @property
    def name(self) -> str:
        """What people know it by."""
        return f"{self.dataset}/{self.path}" if self.dataset else Path(self.path).name

    @property
    def fitted(self) -> str:
        """How pictures are made one size, in words; nothing where they are not."""
        return "" if self.size is None else f"{self.crop} {self.filter} {self.size}"


def parse(body: object, place: str) -> ReferenceSource:
    """The source that a mapping describes; raises InputError."""
    try:
        return ReferenceSource.model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            raise unknown("field", name, place, ReferenceSource.model_fields) from None
        raise InputError(f"{place}: {name or shown(body)}: {problem['msg']}") from None


def find(source: ReferenceSource, folder: Path, place: str) -> Pictures:
    """The pictures of a source, named in a file of `folder`; InputError says where they were looked for."""
    paths = _dataset(source, place) if source.dataset else _local(source.path, folder, place)
    first = paths[0]
    if first.is_dir():
        inside = tuple(sorted(first.rglob("*.parquet")))
        _check_one_split(inside, first, place)
        found: Pictures = Parquet(inside, source.column) if inside else Folder(find_images(first))
    elif all(path.suffix == ".parquet" for path in paths):
        found = Parquet(paths, source.column)
    elif len(paths) == 1 and first.suffix == ".npz":
        found = Npz(first)
    else:
        raise InputError(f"{place}: {first} is neither a folder of images, nor an .npz, nor a .parquet file")
    if source.column is not None and not isinstance(found, Parquet):
        raise InputError(f"{place}: column = {source.column!r} is of parquet files, and {first} is none")
    return found


def _check_one_split(files: Sequence[Path], folder: Path, place: str) -> None:
    """Raise InputError where parquet files are of several splits by their names."""
    splits = sorted({name for file in files for name in SPLITS if file.name.startswith(name)})
    if len(splits) > 1:
        raise InputError(
            f"{place}: {folder} holds parquet files of {' and '.join(splits)}, which would be mixed; name one, "
            f"for example {folder}/**/{splits[-1]}*.parquet"
        )


def _local(text: str, folder: Path, place: str) -> tuple[Path, ...]:
    """Files or one folder, beside the experiment file or else in the working folder."""
    homes = list(dict.fromkeys([folder, Path()]))
    for home in homes:
        path = home / Path(text).expanduser()
        if path.exists():
            return (path,)
        matching = _matching(home, Path(text).expanduser())
        if matching:
            return matching
    looked = " nor ".join(str((home / Path(text).expanduser()).absolute()) for home in homes)
    raise InputError(
        f"{place}: there is no {looked}{data_sources.hint(text)}; {hint(text, REFERENCES)}a reference is a name such "
        "as digits, a folder of images, an .npz of ADM, parquet files, or {dataset: owner/name, path: FILES} of a hub "
        "dataset in the cache"
    )


def _dataset(source: ReferenceSource, place: str) -> tuple[Path, ...]:
    try:
        snapshot = checkpoints.cached_snapshot(source.dataset or "", source.revision, "dataset")
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    matching = _matching(snapshot, Path(source.path))
    if not matching:
        get = checkpoints.how_to_get(source.dataset or "", "dataset", source.revision)
        raise InputError(f"{place}: {snapshot} holds no {source.path}; {get}")
    return matching


def _matching(folder: Path, pattern: Path) -> tuple[Path, ...]:
    """The files that a pattern such as `data/train-*.parquet` stands for."""
    home = Path(pattern.anchor) if pattern.is_absolute() else folder
    return tuple(sorted(home.glob(str(pattern.relative_to(pattern.anchor)))))
