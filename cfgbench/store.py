"""The results folder of one experiment: blocks, records, gallery strips; every write atomic and checksummed.

results/<experiment>/
    plan.json             what was asked for
    records/<id>.json     one per cell, `speed-<id>.json` per cost class; <id>.png are the gallery strips
    blocks/<id>/<start>.npz   features of finished blocks (git-ignored; each array carries a CRC)
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from cfgbench.errors import InputError
from cfgbench.records import SCHEMA, CellRecord, PlanRecord, SpeedRecord

AnyRecord = TypeVar("AnyRecord", CellRecord, SpeedRecord, PlanRecord)


class Store:
    """Reads and writes one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.blocks = folder / "blocks"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run; a second run on it is refused. The lock dies with its process."""
        self._make(self.folder)
        with (self.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"another run is writing to {self.folder}; wait for it or use --output") from None
            yield

    def write_record(self, record: CellRecord | SpeedRecord | PlanRecord) -> None:
        """Write a record with its checksum, replacing an older one in a single step."""
        body = record.model_dump(mode="json")
        body["checksum"] = _checksum(body)
        text = json.dumps(body, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self._write(self._path(record.kind, record.id), (text + "\n").encode())

    def cell(self, cell_id: str) -> CellRecord | None:
        """The record of a cell, or None when there is none; a damaged one is set aside and counts as none."""
        return self._read(self._path("cell", cell_id), CellRecord)

    def speed(self, speed_id: str) -> SpeedRecord | None:
        """The record of a cost class on a machine, or None."""
        return self._read(self._path("speed", speed_id), SpeedRecord)

    def plan(self) -> PlanRecord:
        """What was asked for in this folder; raises InputError where no run has been."""
        record = self._read(self._path("plan", "plan"), PlanRecord)
        if record is None:
            raise InputError(f"{self.folder} holds no plan.json; `cfgbench run EXPERIMENT.yaml` makes a results folder")
        return record

    def write_block(self, cell_id: str, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one finished block."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **dict(arrays))
        self._write(self._block_path(cell_id, start), buffer.getvalue())

    def has_block(self, cell_id: str, start: int) -> bool:
        """Whether a block is there; its content is checked when it is read."""
        return self._block_path(cell_id, start).is_file()

    def block(self, cell_id: str, start: int) -> dict[str, np.ndarray] | None:
        """A block's arrays, or None if it is missing or damaged (then it is removed, to be drawn again)."""
        path = self._block_path(cell_id, start)
        try:
            with np.load(path, allow_pickle=False) as content:
                return dict(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError):
            path.unlink(missing_ok=True)
            return None

    def drop_blocks(self, cell_id: str) -> None:
        """Forget a cell's blocks."""
        shutil.rmtree(self.blocks / cell_id, ignore_errors=True)

    def write_gallery(self, cell_id: str, png: bytes) -> None:
        """Write the strip of a cell's first samples."""
        self._write(self.records / f"{cell_id}.png", png)

    def _path(self, kind: str, record_id: str) -> Path:
        names = {"cell": f"records/{record_id}.json", "speed": f"records/speed-{record_id}.json", "plan": "plan.json"}
        return self.folder / names[kind]

    def _block_path(self, cell_id: str, start: int) -> Path:
        return self.blocks / cell_id / f"{start:09d}.npz"

    def _read(self, path: Path, kind: type[AnyRecord]) -> AnyRecord | None:
        try:
            body = json.loads(path.read_bytes())
            checksum = body.pop("checksum", None)
            if body.get("schema_version", SCHEMA) > SCHEMA:
                raise InputError(f"{path} was written by a newer cfgbench (schema {body['schema_version']}); upgrade")
            if checksum != _checksum(body):
                raise ValueError("checksum does not match")
            return kind.model_validate(body)
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError, TypeError, ValidationError, RecursionError):
            set_aside(path)
            return None

    def _write(self, path: Path, content: bytes) -> None:
        self._make(path.parent)
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
                temporary = Path(handle.name)
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from None

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None


def set_aside(path: Path) -> None:
    """Keep a damaged file beside its place, for whoever wants to look, where no run reads it."""
    try:
        path.replace(path.with_name(path.name + ".damaged"))
    except OSError:
        return


def _checksum(body: Mapping[str, object]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _unwritable(path: Path, error: OSError) -> InputError:
    reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
    return InputError(f"cannot write {path}: {reason}; what is finished is kept, run the same command to go on")
