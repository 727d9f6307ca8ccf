"""Energy by a counter of millijoules, the ceiling of a matrix product, and what tables make of both."""

from pathlib import Path

import pytest
import torch
from torch.utils.benchmark import Timer

from cfgbench.reading.tables.results import load
from cfgbench.reading.tables.rows import speed_rows
from cfgbench.reading.tables.text import speed_table
from cfgbench.records import SpeedRecord
from cfgbench.running import utilisation
from tests import synthetic


def test_joules_are_what_a_counter_of_millijoules_moves_by() -> None:
    readings = iter((5_000, 12_500))
    spent = utilisation.joules_since(lambda: next(readings))
    assert spent() == 7.5


def test_without_a_counter_nothing_is_made_up() -> None:
    assert utilisation.energy_counter("cpu") is None
    assert utilisation.joules_since(None)() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_has_no_counter() -> None:
    assert utilisation.energy_counter("cuda:0") is None


def test_a_matrix_product_is_as_fast_as_counted_by_hand() -> None:
    """The ceiling is operations over seconds: within an order of magnitude of one product timed apart."""
    found = utilisation.matmul_flops(torch.float32, "cpu", torch.get_num_threads())
    matrix = torch.ones(512, 512)
    seconds = Timer("m @ m", globals={"m": matrix}).timeit(20).mean
    assert 0.1 < found / (2 * 512**3 / seconds) < 10


def speed(**changes: object) -> SpeedRecord:
    one = synthetic.speed(synthetic.cell("cfg", 2.0), repeats=3)
    timings = tuple(
        t.model_copy(update={"trajectory_s": (2.0, 4.0, 3.0), "energy_j": (30.0, 50.0, 40.0)}) for t in one.timings
    )
    return one.model_copy(update={"timings": timings, "flops_per_sample": 6_000, **changes})


def rows(folder: Path, one: SpeedRecord) -> list[dict[str, object]]:
    cell = one.cell
    results = load(synthetic.write(folder, [cell], [synthetic.record(cell)], [one]))
    assert all(len(texts) == len(speed_table(results).header) for texts in speed_table(results).rows)
    return [dict(row) for row in speed_rows(results)]


def test_tables_give_joules_per_image_and_the_share_of_the_ceiling(tmp_path: Path) -> None:
    _, hundred = rows(tmp_path, speed(matmul_flops_per_s=1_000_000.0))
    assert hundred["joules_per_image"] == 40.0 / 100
    assert hundred["flops_per_s"] == pytest.approx(6_000 * 100 / 3.0)
    assert hundred["matmul_share"] == pytest.approx(0.2)


def test_records_of_an_older_version_leave_the_columns_empty(tmp_path: Path) -> None:
    _, hundred = rows(tmp_path, synthetic.speed(synthetic.cell("cfg", 2.0)))
    assert (hundred["joules_per_image"], hundred["flops_per_s"], hundred["matmul_share"]) == (None, None, None)


def test_emulated_arithmetic_has_no_rate(tmp_path: Path) -> None:
    _, hundred = rows(tmp_path, speed(measured=False, matmul_flops_per_s=None))
    assert hundred["flops_per_s"] is None
