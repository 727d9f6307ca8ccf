"""Sentences of a report: names explained, cells told apart in words, what was drawn, commits."""

from pathlib import Path

import pytest

from cfgbench.cell import Cell
from cfgbench.reading import notes
from cfgbench.reading.tables.results import Results, load
from cfgbench.records import BudgetRecord
from cfgbench.store import Store
from tests import synthetic as made


def results(folder: Path, cells: list[Cell], **changes: object) -> Results:
    return load(made.write(folder, cells, [made.record(cell, **changes) for cell in cells]))


def test_every_scale_and_parameter_in_the_tables_is_explained_once(tmp_path: Path) -> None:
    cells = [made.cell("cfg", 1.5, model={"training_seed": seed}) for seed in (1, 2)]
    cells += [made.cell(name, 0.5) for name in ("classifier", "classifier_uncond")]
    told = list(notes.names(results(tmp_path, cells)))
    assert told[0].startswith("s: the guidance scale in uncond + s (cond - uncond)")
    assert "training_seed (digits): which of three equally trained networks" in told
    assert sum(line.startswith("classifier scale (") for line in told) == 1


def test_cells_that_drew_the_same_are_told_apart_in_words_not_by_their_ids(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s, sampler=name) for s in (1.1, 2.0) for name in ("ddpm", "euler_ancestral")]
    records = [made.record(cell, pixels=str(cell.scale)) for cell in cells]
    told = list(notes.notes(load(made.write(tmp_path, cells, records))))
    assert (
        "ddpm and euler_ancestral drew identical samples, in 2 cells each: what tells them apart had no effect" in told
    )


def test_an_adaptive_sweep_says_how_many_samples_it_drew(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.1, 2.0)]
    records = [made.record(cell, samples=samples) for cell, samples in zip(cells, (400, 1600), strict=True)]
    store = Store(made.write(tmp_path, cells, records))
    budget = BudgetRecord(metric="fid", delta=0.1, confidence=0.95, looks=6, refine=0)
    store.write_record(store.plan().model_copy(update={"budget": budget}))
    first = next(iter(notes.provenance(load(tmp_path))))
    assert first.endswith("2 cells of at most 2,000 samples, of which 400 to 1,600 were needed")


@pytest.mark.parametrize(
    ("commit", "told"),
    [("0123456789ab", "commit 0123456789ab"), ("01+", "commit 01 and changes not committed"), (None, "commit unknown")],
)
def test_the_machine_is_described_with_its_commit(tmp_path: Path, commit: str | None, told: str) -> None:
    machine = made.MACHINE.model_copy(update={"commit": commit})
    *_, last = notes.provenance(results(tmp_path, [made.cell("cfg", 1.5)], machine=machine))
    assert "1 thread, " in last and last.endswith(told)
