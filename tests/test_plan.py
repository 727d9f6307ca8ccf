"""From YAML to cells: ids that stay, one cell per meaning, ranges that are decimal, intervals that mean one noise."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef, canonical_json, digest
from cfgbench.errors import InputError
from cfgbench.planning import axes, experiment
from cfgbench.planning import plan as planner
from cfgbench.registry import METHODS, Parameter
from cfgbench.running import overview
from cfgbench.testbeds import digits_data, mixtures

GRID: dict[str, Any] = {"model": "gaussians", "sampler": "ddim", "steps": 10}
GOLDEN = "2eed282e5f20b8cd"  # a new id orphans every stored record: change it knowingly
FLOAT = Parameter("float")


def plan_of(*sweeps: dict[str, Any], **fields: Any) -> planner.Plan:
    """The plan of these grids, each completed from GRID."""
    grids = [{**GRID, **({} if "method" in sweep else {"guidance_scale": 2}), **sweep} for sweep in sweeps]
    body = {"name": "t", "num_samples": 400, "sweeps": grids, **fields}
    return planner.plan(experiment.parse(body, "t.yaml"))


def cells_of(*sweeps: dict[str, Any], **fields: Any) -> list[Cell]:
    """The cells of these grids."""
    return [task.cell for task in plan_of(*sweeps, **fields).tasks]


def only(**sweep: Any) -> Cell:
    """The one cell of a grid."""
    (cell,) = cells_of(sweep)
    return cell


def test_an_id_is_pinned() -> None:
    cell = only()
    assert canonical_json(cell.model_dump(exclude_defaults=True)) == (
        '{"diffusion":{"sampler":"ddim","steps":10},"guidance":{"method":"cfg","parameters":{"guidance_scale":2}},'
        '"model":{"name":"gaussians"}}'
    )
    assert cell.id == GOLDEN


def test_an_integer_and_the_equal_float_are_one_cell() -> None:
    assert only(guidance_scale=2.0, steps=10.0).id == GOLDEN
    assert len(cells_of({"guidance_scale": [2, 2.0, 3]})) == 2
    assert digest({"a": [1.0, 2.5]}) == digest({"a": [1, 2.5]})


def test_fields_at_their_defaults_leave_the_id_alone() -> None:
    at_default = {"eta": 0, "dtype": "fp32", "seed": 0, "rescale": 0.0, "interval": None, "state_dtype": None}
    model = {"name": "gaussians", "mixture": "toy2d"}
    assert only(**at_default, model=model).id == GOLDEN


def test_the_state_dtype_that_is_used_anyway_leaves_the_id_alone() -> None:
    assert only(state_dtype="fp32").id == GOLDEN
    assert only(state_dtype="fp64", dtype="fp64").id == only(dtype="fp64").id
    assert only(state_dtype="fp32", dtype="fp64").id != only(dtype="fp64").id
    assert only(state_dtype="fp64").id != GOLDEN


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_scale": 2.1},
        {"steps": 11},
        {"sampler": "euler"},
        {"seed": 1},
        {"eta": 0.5},
        {"dtype": "fp64"},
        {"state_dtype": "bf16"},
        {"rescale": 0.5},
        {"interval": [0.1, 2]},
        {"model": {"name": "gaussians", "mixture": "nested"}},
        {"method": "classifier", "classifier_scale": 2},
    ],
    ids=str,
)
def test_whatever_changes_the_samples_changes_the_id(change: dict[str, Any]) -> None:
    assert only(**change).id != GOLDEN


def test_a_scale_that_is_off_is_the_unguided_cell_whatever_else_is_set() -> None:
    unguided = only(method="unguided")
    settings: list[dict[str, Any]] = [
        {"rescale": 0.7},
        {"interval": [0.1, 2]},
        {"rescale": 0.3, "interval": {"fraction": [0.2, 0.8]}},
        {},
    ]
    assert {only(guidance_scale=1, **more).id for more in settings} == {unguided.id}
    off = [only(method="classifier", classifier_scale=0, **more) for more in ({}, {"interval": [0.1, 2]})]
    assert {cell.id for cell in off} == {unguided.id}
    assert unguided.guidance == Guidance(method="unguided") and unguided.guidance_scale == 1


def test_a_scale_of_zero_is_the_unconditional_cell() -> None:
    unconditional = only(method="unconditional")
    assert only(guidance_scale=0).id == unconditional.id
    assert only(method="classifier_uncond", classifier_scale=0).id == unconditional.id
    assert only(guidance_scale=0, interval=[0.1, 2]).guidance.method == "unconditional"


def test_what_is_not_the_same_as_unconditional_stays_cfg() -> None:
    """Rescaling gives the unconditional prediction the conditional one's deviation: other samples."""
    assert only(guidance_scale=0, rescale=0.5).guidance.method == "cfg"


def test_canonical_form_is_a_fixed_point() -> None:
    for method, entry in METHODS.items():
        for scale in (0.0, 0.5, 1.0, 2.0):
            once = planner.canonical(method, {entry.scale: scale} if entry.scale else {})
            assert planner.canonical(once.method, once.parameters) == once


def test_ids_of_two_processes_agree() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); from tests.test_plan import only; print(only().id)"
    root = Path(__file__).parent.parent
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", script, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed})
        assert done.stdout.strip() == GOLDEN


def test_a_cell_read_back_from_json_has_the_same_id() -> None:
    cell = only(interval={"fraction": [0.2, 0.8]}, rescale=0.5, eta=0.3)
    assert Cell.model_validate(json.loads(cell.model_dump_json())).id == cell.id


VALUES = st.one_of(
    st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text()
)


@given(st.dictionaries(st.text(max_size=5), VALUES), st.randoms())
def test_a_digest_does_not_see_order_or_how_a_number_is_written(body: dict[str, Any], random: Any) -> None:
    items = list(body.items())
    random.shuffle(items)
    rewritten = {key: float(v) if type(v) is int and int(float(v)) == v else v for key, v in items}
    assert digest(rewritten) == digest(body)
    assert json.loads(canonical_json(body)) == body


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_two_cells_share_an_id_only_if_they_are_equal(a: float, b: float) -> None:
    first, second = (
        Cell(
            model=ModelRef(name="gaussians"),
            guidance=Guidance(method="cfg", parameters={"guidance_scale": scale}),
            diffusion=Diffusion(sampler="ddim", steps=10),
        )
        for scale in (a, b)
    )
    assert (first.id == second.id) == (a == b)


@pytest.mark.parametrize(
    "written", ["1, 1.1, ..., 2", [1, 1.1, "...", 2], "1,1.1,...,2", "1, 1.1, ..., 1.9, 2", [1, 1.1, 1.2, "...", 2]]
)
def test_a_range_is_decimal(written: Any) -> None:
    values = axes.expand(written, FLOAT, "x")
    assert values == [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2]
    assert cells_of({"guidance_scale": written})[3].id == only(guidance_scale=1.3).id


def test_a_range_may_fall_and_stand_among_others() -> None:
    assert axes.expand("3, 2.5, ..., 1", FLOAT, "x") == [3, 2.5, 2, 1.5, 1]
    assert axes.expand([0, 1, 1.5, "...", 3, 7, 9, "...", 13], FLOAT, "x") == [0, 1, 1.5, 2, 2.5, 3, 7, 9, 11, 13]


@given(st.integers(-1000, 1000), st.integers(1, 500), st.integers(2, 40), st.integers(0, 3))
def test_every_value_of_a_range_is_the_float_that_people_would_write(
    first: int, step: int, count: int, decimals: int
) -> None:
    def write(k: int) -> str:
        return f"{first + step * k}e-{decimals}"

    values = axes.expand(f"{write(0)}, {write(1)}, ..., {write(count)}", FLOAT, "x")
    assert values == [float(write(k)) for k in range(count + 1)]


@pytest.mark.parametrize("steps", [4, 10, 25, 50])
@pytest.mark.parametrize("levels", [mixtures.noise_levels(), digits_data.noise_levels()], ids=["gaussians", "digits"])
def test_an_interval_means_the_same_noise_in_every_unit(steps: int, levels: np.ndarray) -> None:
    begin, end = steps // 4, steps - steps // 4
    by_step = axes.sigma_interval({"step": [begin, end]}, levels, steps, "x")
    by_fraction = axes.sigma_interval({"fraction": [begin / steps, end / steps]}, levels, steps, "x")
    by_sigma = axes.sigma_interval({"sigma": list(by_step)}, levels, steps, "x")
    assert by_step == by_fraction == by_sigma == axes.sigma_interval(list(by_step), levels, steps, "x")


@pytest.mark.parametrize("steps", [4, 10, 25, 49])
def test_an_interval_of_steps_holds_exactly_these_steps(steps: int) -> None:
    levels = mixtures.noise_levels()
    timesteps = np.round(np.arange(len(levels), 0, -len(levels) / steps)).astype(int) - 1  # "trailing"
    for begin, end in ((0, 1), (1, steps), (steps // 2, steps // 2 + 1), (0, steps)):
        low, high = axes.sigma_interval({"step": [begin, end]}, levels, steps, "x")
        inside = [(low or 0) < sigma and (high is None or sigma <= high) for sigma in levels[timesteps]]
        assert inside == [begin <= step < end for step in range(steps)]


def test_an_interval_over_everything_is_none() -> None:
    assert only(interval={"fraction": [0, 1]}).id == only(interval=[None, None]).id == GOLDEN


def test_the_conversion_of_an_interval_is_printed() -> None:
    made = plan_of({"interval": {"step": [2, 8]}})
    assert len(made.notes) == 1 and "sigma (" in made.notes[0]
    assert made.notes[0] in overview.describe(made, Path("nowhere"))


def test_the_model_varies_slowest_whatever_the_order_of_axes_and_grids() -> None:
    models = ["digits", {"name": "digits", "p_uncond": 0.5}]
    grids = [{"steps": [4, 5], "guidance_scale": [2, 3], "model": models}, {"steps": 6, "model": models}]
    labels = [cell.model.label for cell in cells_of(*grids)]
    assert labels == sorted(labels) and len(labels) == 2 * (4 + 1)


def test_grids_that_overlap_make_each_cell_once() -> None:
    assert len(cells_of({"guidance_scale": [1, 2, 3]}, {"guidance_scale": [2, 3, 4]}, {"method": "unguided"})) == 4


def test_a_bare_override_reaches_every_grid_that_has_the_axis(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: x\nnum_samples: 400\ncommon: {sampler: ddim, steps: 10}\nsweeps:\n"
        "  - {model: gaussians, guidance_scale: 2, steps: 20}\n  - {model: gaussians, guidance_scale: 3}\n"
    )
    made = planner.plan(experiment.load(file, ["steps=7", "num_samples=800", "sweeps.1.guidance_scale=4"]))
    assert {task.cell.sampler.steps for task in made.tasks} == {7}
    assert [task.cell.scale for task in made.tasks] == [2, 4]
    assert made.experiment.num_samples == 800


def test_blocks_hold_whole_rounds_of_labels() -> None:
    (toy,) = plan_of({}).tasks
    (general,) = plan_of({"model": {"name": "gaussians", "mixture": "general2"}}, num_samples=990).tasks
    assert (toy.num_classes, toy.block_size, list(toy.starts)) == (4, 100, [0, 100, 200, 300])
    assert (general.num_classes, general.block_size, len(general.starts)) == (3, 99, 10)


@pytest.mark.parametrize(
    ("batch_size", "num_samples", "expected"),
    [
        (None, 2000, 100),
        (50, 2000, 100),
        (100, 2000, 100),
        (500, 2000, 500),
        (512, 2000, 500),
        (700, 2000, 500),  # 700 is no share of 2000
        (4096, 2000, 2000),
        (4096, 300, 300),
    ],
)
def test_a_block_is_as_large_as_a_batch_that_the_samples_can_be_shared_into(
    batch_size: int | None, num_samples: int, expected: int
) -> None:
    (task,) = plan_of({}, num_samples=num_samples, batch_size=batch_size).tasks
    assert (task.block_size, task.batch_size) == (expected, batch_size or 100)


def test_more_samples_are_the_same_cell_but_another_request() -> None:
    (few,), (many,) = plan_of({}).tasks, plan_of({}, num_samples=800).tasks
    assert few.cell.id == many.cell.id and few.digest != many.digest and few.origin == many.origin


def test_a_block_does_not_outlive_its_batch_size() -> None:
    """Bits depend on the batch size, so blocks of another one are drawn anew."""
    (one,), (other,) = plan_of({}).tasks, plan_of({}, batch_size=50).tasks
    assert one.cell.id == other.cell.id and one.origin != other.origin


def test_the_weights_that_a_method_does_not_consult_are_not_in_its_id() -> None:
    digits = {"model": "digits", "dtype": "fp32"}
    cfg, classifier = only(**digits), only(**digits, method="classifier", classifier_scale=1)
    assert cfg.model.digest != classifier.model.digest
    assert cfg.model.digest == only(**digits, guidance_scale=1).model.digest


def test_a_range_with_too_many_cells_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"make 200,000,000 cells; at most 100,000"):
        cells_of({"seed": "0, 1, ..., 9999", "steps": "1, 2, ..., 10000", "guidance_scale": [2, 3]})


def test_a_distance_of_too_few_samples_is_remarked() -> None:
    few, enough = (plan_of({"model": "digits"}, num_samples=n, metrics=["fid", "accuracy"]).notes for n in (300, 400))
    remark = "of 300 samples tells little: it wants 320 or more, see the guide"
    assert few == (f"fid {remark}", f"fid_train {remark}") and not enough
