"""The results folder of one experiment: blocks, records, gallery strips; every write atomic and checksummed.

results/<experiment>/
    plan.json             what was asked for
    records/<id>.json     one per cell, `speed-<id>.json` per cost class; <id>.png are the gallery strips,
                          <id>.points.json the first samples of a model of the plane
    blocks/<id>/<start>.npz   features of finished blocks, followed by their SHA-256 (git-ignored)
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from cfgbench import lock, record_names
from cfgbench.errors import InputError, unreadable, unwritable, vanished
from cfgbench.records import SCHEMA, CellRecord, PlanRecord, SpeedRecord

CHECKSUM_BYTES = 32
TEMPORARY = ".writing-"
AnyRecord = TypeVar("AnyRecord", CellRecord, SpeedRecord, PlanRecord)


class Store:
    """Reads and writes one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.blocks = folder / "blocks"

    @contextmanager
    def locked(self, part: str | None = None) -> Iterator[Callable[[], None]]:
        """Hold the folder for one run, or a part of it beside others; a second run of the same is refused.

        The folder is made here and nowhere else: what is removed while a run goes on does not come back by halves.
        The result, when called, raises InputError if the folder has gone from its place.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        with lock.hold_part(self.folder, part) if part else lock.hold(self.folder) as check:
            if part is None:  # what another shard is writing at present must stay
                self._sweep()
            try:
                yield check
            finally:
                if part is None:
                    self._sweep()

    def write_record(self, record: CellRecord | SpeedRecord | PlanRecord) -> None:
        """Write a record with its checksum, replacing an older one in a single step."""
        body = record.model_dump(mode="json")
        body["checksum"] = _checksum(body)
        self._write(self._path(record.kind, record.id), _lines(body).encode(errors="backslashreplace"))

    def cell(self, cell_id: str) -> CellRecord | None:
        """The record of a cell, or None when there is none; a damaged one is set aside and counts as none."""
        return self._read(self._path("cell", cell_id), CellRecord)

    def speed(self, speed_id: str) -> SpeedRecord | None:
        """The record of a cost class on a machine, or None."""
        return self._read(self._path("speed", speed_id), SpeedRecord)

    def plan(self) -> PlanRecord:
        """What was asked for in this folder; raises InputError where no run has been, or it cannot be understood."""
        path = self._path("plan", "plan")
        record = self._read(path, PlanRecord)
        if record is None:
            again = "`cfgbench run EXPERIMENT.yaml`"
            if self.is_set_aside("plan", "plan"):
                raise InputError(f"{path} was damaged and is {damaged(path).name} now; {again} writes it anew")
            raise InputError(f"{self.folder} holds no plan.json; {again} makes a results folder")
        record_names.check_plan(record, str(path))
        return record

    def is_set_aside(self, kind: str, record_id: str) -> bool:
        """Whether a record is absent because a damaged one was set aside."""
        path = self._path(kind, record_id)
        return not path.exists() and damaged(path).exists()

    def write_block(self, cell_id: str, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one finished block."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{**arrays, "place": np.array(_place(cell_id, start))})
        content = buffer.getvalue()
        self._write(self._block_path(cell_id, start), content + hashlib.sha256(content).digest())

    def has_block(self, cell_id: str, start: int) -> bool:
        """Whether a block is there; its content is checked when it is read."""
        path = self._block_path(cell_id, start)
        try:
            return path.is_file()
        except OSError as error:
            raise unreadable(path, error) from None

    def block(self, cell_id: str, start: int) -> dict[str, np.ndarray] | None:
        """A block's arrays, or None if it is missing or damaged (then it is removed, to be drawn again)."""
        path = self._block_path(cell_id, start)
        try:
            arrays = _arrays(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from None
        if arrays is None or str(arrays.pop("place", _place(cell_id, start))) != _place(cell_id, start):
            path.unlink(missing_ok=True)
            return None
        return arrays

    def decision(self, name: str, decide: Callable[[], bool]) -> bool:
        """What was decided once for all blocks of this folder; decided now where it was not. The first worker wins."""
        path = self.blocks / f"{name}.json"
        found = _decided(path)
        if found is None:
            self._write(path, _compact(decide()).encode(), put=put_first)
            found = _decided(path)
        return bool(found)

    def drop_blocks(self, cell_id: str) -> None:
        """Forget a cell's blocks."""
        shutil.rmtree(self.blocks / cell_id, ignore_errors=True)

    def write_gallery(self, cell_id: str, png: bytes) -> None:
        """Write the strip of a cell's first samples."""
        self._write(self.records / f"{cell_id}.png", png)

    def write_points(self, cell_id: str, points: np.ndarray, labels: np.ndarray) -> None:
        """Write a cell's first samples in the plane, (n, 2), and their classes (n,)."""
        body = {"labels": labels.tolist(), "points": np.round(points, 4).tolist()}
        self._write(self._points_path(cell_id), (_compact(body) + "\n").encode())

    def points(self, cell_id: str) -> tuple[np.ndarray, np.ndarray] | None:
        """A cell's first samples in the plane (n, 2) and their classes (n,), or None where there are none."""
        try:
            body = json.loads(self._points_path(cell_id).read_bytes())
            return np.array(body["points"], dtype=float).reshape(-1, 2), np.array(body["labels"], dtype=int)
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _path(self, kind: str, record_id: str) -> Path:
        names = {"cell": f"records/{record_id}.json", "speed": f"records/speed-{record_id}.json", "plan": "plan.json"}
        return self.folder / names[kind]

    def _points_path(self, cell_id: str) -> Path:
        return self.records / f"{cell_id}.points.json"

    def _block_path(self, cell_id: str, start: int) -> Path:
        return self.blocks / cell_id / f"{start:09d}.npz"

    def _read(self, path: Path, kind: type[AnyRecord]) -> AnyRecord | None:
        try:
            body = json.loads(path.read_bytes())
            checksum = body.pop("checksum", None)
            if checksum != _checksum(body):
                raise ValueError("checksum does not match")
            if body.get("schema_version", SCHEMA) > SCHEMA:
                raise InputError(f"{path} was written by a newer cfgbench (schema {body['schema_version']}); upgrade")
            record = kind.model_validate(body)
            if self._path(record.kind, record.id) != path:
                raise ValueError("this record is of another cell")
            return record
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from None
        except (ValueError, AttributeError, TypeError, ValidationError, RecursionError):
            set_aside(path)
            return None

    def _write(self, path: Path, content: bytes, put: "Callable[[Path, Path], object]" = os.replace) -> None:
        """Write a file of the folder; InputError where that cannot be, or where the folder is gone."""
        try:
            for parent in (path.parent.parent, path.parent):
                if self.folder in parent.parents:
                    parent.mkdir(exist_ok=True)
            replace(path, content, put)
        except OSError as error:
            raise (unwritable(path, error) if self.folder.is_dir() else vanished(self.folder)) from None

    def _sweep(self) -> None:
        """Remove what writers that were killed had begun: workers of this run or of an earlier one."""
        for place in (self.folder, self.records, self.folder / "figures", self.blocks, *self.blocks.glob("*/")):
            for path in place.glob(f"{TEMPORARY}*"):
                path.unlink(missing_ok=True)


def replace(path: Path, content: bytes, put: "Callable[[Path, Path], object]" = os.replace) -> None:
    """Write a file anew in a single step: it is there whole or not at all, whatever stops the writing.

    `put` brings it to its place.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        put(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def put_first(temporary: Path, path: Path) -> None:
    """Bring a file to its place unless one is there already, whose content then stands."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        temporary.replace(path)
    temporary.unlink(missing_ok=True)


def _place(cell_id: str, start: int) -> str:
    """Which block it is, in the block itself: a file may be copied to another place."""
    return f"{cell_id}/{start}"


def _arrays(stored: bytes) -> dict[str, np.ndarray] | None:
    """What a block's file holds, or None where it is damaged."""
    content, checksum = stored[:-CHECKSUM_BYTES], stored[-CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return None


def _decided(path: Path) -> bool | None:
    try:
        return bool(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:  # damaged: decided anew
        path.unlink(missing_ok=True)
        return None


def set_aside(path: Path) -> None:
    """Keep a damaged file beside its place, for whoever wants to look, where no run reads it."""
    try:
        path.replace(damaged(path))
    except OSError:
        return


def damaged(path: Path) -> Path:
    """Where a file is kept that was set aside."""
    return path.with_name(path.name + ".damaged")


def _lines(body: Mapping[str, Any]) -> str:
    """JSON with a line per field and per item of a field's list: readable, yet not a line per number."""
    fields = (f"{_compact(key)}: {_items(value)}" for key, value in sorted(body.items()))
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _items(value: object) -> str:
    nested = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    return "[\n" + ",\n".join(map(_compact, value)) + "\n]" if nested else _compact(value)  # type: ignore[call-overload]


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _checksum(body: Mapping[str, object]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
