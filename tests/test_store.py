"""What the store gives back is what was put in, or nothing: never something in between."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfgbench import machine
from cfgbench import store as store_module
from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.errors import InputError
from cfgbench.records import CellRecord, PlanRecord, Rung, Score
from cfgbench.store import TEMPORARY, Store

CELL = Cell(
    model=ModelRef(name="gaussians"),
    guidance=Guidance(method="cfg", parameters={"guidance_scale": 2.0, "interval": (0.1, None)}),
    diffusion=Diffusion(sampler="ddim", steps=10),
)
NESTED = {80: Rung(value=1.5), 400: Rung(value=0.1 + 0.2), 1000: Rung(value=1e-300, replicates=(1 / 3, -0.0))}
RECORD = CellRecord(
    id=CELL.id,
    cell=CELL,
    status="done",
    request="r",
    num_samples=2000,
    num_classes=4,
    block_size=100,
    batch_size=100,
    nfe=20.0,
    scores=(Score(value=2.0, column="fid", metric="fid", identity={"k": 3}, nested=NESTED),),
    error="a line\nwith \udcff, é and \x00",
    machine=machine.describe("cpu", 1),
)
BLOCK = {
    "features": np.arange(12, dtype=np.float32).reshape(6, 2) / 7,
    "labels": np.arange(6),
    "origin": np.array("0123456789abcdef"),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "results").mkdir()  # as a run does that holds it
    return Store(tmp_path / "results")


def same(one: dict[str, np.ndarray] | None, other: dict[str, np.ndarray]) -> bool:
    """Whether two blocks hold the same arrays, bit by bit."""
    return (
        one is not None
        and one.keys() == other.keys()
        and all(one[k].dtype == other[k].dtype and np.array_equal(one[k], other[k]) for k in one)
    )


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    store.write_record(RECORD)
    found = store.cell(CELL.id)
    assert found is not None
    assert found == RECORD and found.cell.id == CELL.id and found.scores[0].nested == NESTED
    assert store.cell("another") is None


def test_a_block_comes_back_as_it_was(store: Store) -> None:
    store.write_block("c", 100, BLOCK)
    assert store.has_block("c", 100) and not store.has_block("c", 0)
    assert same(store.block("c", 100), BLOCK) and store.block("c", 0) is None


def test_every_truncation_and_every_flipped_bit_of_a_block_is_noticed(store: Store) -> None:
    store.write_block("c", 0, BLOCK)
    (path,) = (store.blocks / "c").iterdir()
    good = path.read_bytes()
    flips = [(i, 1 << bit) for i in range(len(good)) for bit in (i % 8, (i + 3) % 8)]
    for position, bit in flips:
        path.write_bytes(good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :])
        assert store.block("c", 0) is None, f"byte {position}, bit {bit}"
        assert not path.exists()  # so that it is drawn again
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        assert store.block("c", 0) is None, f"{length} bytes"


def test_a_bit_flipped_in_a_record_is_noticed(store: Store) -> None:
    """All bits; equal JSON (another case of an escape's hexadecimal digit, a space for a space) may be believed."""
    store.write_record(RECORD)
    (path,) = store.records.iterdir()
    good = path.read_bytes()
    for position, bit in ((i, 1 << bit) for i in range(len(good)) for bit in range(8)):
        path.write_bytes(good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :])
        found = store.cell(CELL.id)
        assert found is None or found == RECORD, f"byte {position}, bit {bit}"
    for length in range(0, len(good) - 1, 13):
        path.write_bytes(good[:length])
        assert store.cell(CELL.id) is None


def test_a_damaged_record_is_set_aside_for_whoever_wants_to_look(store: Store) -> None:
    store.write_record(RECORD)
    (path,) = store.records.iterdir()
    path.write_text("{}")
    assert store.cell(CELL.id) is None
    assert [file.name for file in store.records.iterdir()] == [f"{CELL.id}.json.damaged"]


@pytest.mark.parametrize("edit", [("2000", "4000"), ('"value": 2.0', '"value": 1.0'), ('"done"', '"failed"')])
def test_a_record_edited_by_hand_is_noticed(store: Store, edit: tuple[str, str]) -> None:
    store.write_record(RECORD)
    (path,) = store.records.iterdir()
    text = path.read_text(errors="surrogatepass")
    assert edit[0] in text
    path.write_text(text.replace(*edit), errors="surrogatepass")
    assert store.cell(CELL.id) is None


def test_a_record_under_another_name_is_not_believed(store: Store) -> None:
    store.write_record(RECORD)
    (path,) = store.records.iterdir()
    path.rename(path.with_name("0123456789abcdef.json"))
    assert store.cell("0123456789abcdef") is None


def test_formatting_a_record_anew_is_no_damage(store: Store) -> None:
    store.write_record(RECORD)
    (path,) = store.records.iterdir()
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=4))
    assert store.cell(CELL.id) == RECORD


def test_a_record_of_a_newer_version_is_kept_and_said(store: Store) -> None:
    store.write_record(RECORD.model_copy(update={"schema_version": 99}))
    with pytest.raises(InputError, match="newer cfgbench"):
        store.cell(CELL.id)
    assert (store.records / f"{CELL.id}.json").exists()


def test_a_record_holds_no_nan(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write_record(RECORD.model_copy(update={"nfe": float("nan")}))
    assert store.cell(CELL.id) is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | JUNK.map(lambda value: json.dumps(value).encode()))
def test_no_content_of_a_file_is_believed_or_breaks_the_reader(store: Store, content: bytes) -> None:
    store.records.mkdir(parents=True, exist_ok=True)
    for path in (store.records / "c.json", store.folder / "plan.json"):
        path.write_bytes(content)
    assert store.cell("c") is None
    with pytest.raises(InputError, match=r"plan\.json was damaged and is plan\.json\.damaged now"):
        store.plan()
    store.write_block("c", 0, BLOCK)
    (store.blocks / "c" / "000000000.npz").write_bytes(content)
    assert store.block("c", 0) is None


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_block("c", 0, BLOCK)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="disk is full; what is finished is kept"):
        store.write_block("c", 0, {"features": np.zeros(3)})
    assert same(store.block("c", 0), BLOCK)
    assert [path.name for path in (store.blocks / "c").iterdir()] == ["000000000.npz"]


def test_what_killed_writers_left_is_swept_by_the_next_run(store: Store) -> None:
    store.write_record(RECORD)
    store.write_block("c", 0, BLOCK)
    left = [place / f"{TEMPORARY}abc" for place in (store.folder, store.records, store.blocks / "c")]
    for path in left:
        path.write_text("half")
    with store.locked():
        assert not any(path.exists() for path in left)
    assert store.cell(CELL.id) == RECORD and same(store.block("c", 0), BLOCK)


def hold(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    """Hold the lock of a folder until killed."""
    with Store(folder).locked():
        ready.set()
        multiprocessing.Event().wait(60)


def test_a_folder_is_held_by_one_run_and_freed_by_its_death(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(store.folder, ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(InputError, match="another run is writing"), store.locked():
        pass
    holder.kill()
    holder.join()
    with store.locked():
        pass


def test_a_folder_without_a_plan_says_how_to_make_one(store: Store) -> None:
    with pytest.raises(InputError, match="cfgbench run"):
        store.plan()
    plan = PlanRecord(name="x", description="", metrics=("fid",), num_samples=400, source="x.yaml", cells=(CELL,))
    store.write_record(plan)
    assert store.plan() == plan


def test_the_store_reads_nothing_pickled(store: Store) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        store.write_block("c", 0, {"evil": np.array([{}], dtype=object)})
    assert "pickle" not in Path(store_module.__file__).read_text().replace("allow_pickle=False", "")


@pytest.mark.parametrize(("cell", "start"), [("c", 100), ("d", 0)])
def test_a_block_that_was_copied_to_another_place_is_not_believed(store: Store, cell: str, start: int) -> None:
    store.write_block("c", 0, BLOCK)
    store.write_block(cell, start, BLOCK)
    store._block_path("c", 0).replace(store._block_path(cell, start))
    assert store.block(cell, start) is None and not store.has_block(cell, start)


@pytest.mark.parametrize(
    "change",
    [{"num_classes": 0}, {"block_size": 0}, {"batch_size": -1}, {"num_samples": -1}],
    ids=lambda change: next(iter(change)),
)
def test_a_record_with_impossible_counts_is_not_believed(store: Store, change: dict[str, int]) -> None:
    store.write_record(RECORD.model_copy(update=change))
    assert store.cell(CELL.id) is None


@pytest.mark.parametrize("change", [{"replicates": (1.0,)}, {"value": 1e999}], ids=["one replicate", "infinite"])
def test_a_record_with_an_impossible_score_is_not_believed(store: Store, change: dict[str, object]) -> None:
    """With its checksum made anew, as by a forger, or by a program that went wrong."""
    body = RECORD.model_copy(update={"scores": ()}).model_dump(mode="json")
    score = RECORD.scores[0].model_dump(mode="json")
    body["scores"] = [{**score, **{name: list(v) if isinstance(v, tuple) else v for name, v in change.items()}}]
    body["checksum"] = store_module._checksum(body)
    store.records.mkdir(parents=True)
    (store.records / f"{CELL.id}.json").write_text(json.dumps(body))
    assert store.cell(CELL.id) is None
