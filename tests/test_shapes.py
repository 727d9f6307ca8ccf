"""Architectures without weights have the published sizes, run and are timed like any model, and are never scored."""

import json
from pathlib import Path

import pytest

from cfgbench import cli
from cfgbench.assets import layouts, shape_costs, shapes
from cfgbench.errors import InputError
from cfgbench.models import text_to_image
from cfgbench.planning import experiment, plan
from cfgbench.reading.answer import answer_lines
from cfgbench.reading.tables.results import load
from cfgbench.registry import MODELS

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
PUBLISHED = {
    "sd15": (859_520_964, 83_653_863),
    "sdxl": (2_567_463_684, 83_653_863),
    "sd3": (2_028_328_000, 83_819_683),
    "flux": (11_901_408_320, 83_819_683),
}
SMALL = """
name: shapes
num_samples: 20
prompts: prompts.txt
common: {guidance_scale: [1, 5], steps: 2, sampler: ddim}
sweeps: [{model: {name: stable_diffusion, path: "random:sd15-shallow", height: 64, width: 64}}]
"""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_as_many_parameters_as_the_published_model(name: str) -> None:
    cost = shape_costs.measure(name)
    assert (cost.parameters, cost.autoencoder_parameters) == PUBLISHED[name]
    assert shapes.find(f"random:{name}").costs == tuple(getattr(cost, field) for field in shapes.Costs._fields)
    assert cost.embedded_guidance == (name == "flux")


def test_operations_are_those_of_the_matrices(capsys: pytest.CaptureFixture[str]) -> None:
    """FLUX by hand: two kinds of blocks of 12 x 3072^2 weights a token, and attention over all tokens."""
    tokens, width, blocks = 4096 + 512, 3072, 19 + 38
    linear = blocks * 12 * width**2 * tokens * 2
    attention = blocks * 2 * tokens**2 * width * 2
    assert shape_costs.measure("flux").pass_flops == pytest.approx(linear + attention, rel=0.01)
    assert cli.main(["shapes", "sd15", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["parameters"] == PUBLISHED["sd15"][0] and (shown["height"], shown["width"]) == (512, 512)
    assert cli.main(["shapes"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows[2:] == ["sd15", "sd3", "sdxl", "flux"]
    assert cli.main(["shapes", "sdx"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_every_shape_is_of_a_family_whose_layout_reads_it() -> None:
    for name in shapes.names():
        shape = shapes.find(f"random:{name}")
        layout = next(layout for layout in layouts.LAYOUTS if layout.name == shape.content["family"])
        assert layout.open(shape.name) == shape and "path" in MODELS[layout.name].parameters
        assert any("weights are random" in note for note in layout.notes(path=shape.name))
    with pytest.raises(ValueError, match="there is no shape random:sd16; there are random:flux"):
        shapes.find("random:sd16")


def test_random_weights_are_the_same_every_time_and_finite() -> None:
    import torch

    place = text_to_image.Place("cpu", torch.float32)
    one, other = (text_to_image.load_network(shapes.find("random:sd15-shallow"), "vae", place) for _ in range(2))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]) and weight.isfinite().all()


def test_what_random_weights_draw_is_timed_and_not_scored(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(f"{i} red foxes" for i in range(20)))
    (tmp_path / "x.yaml").write_text(SMALL)
    made = plan.plan(experiment.load(tmp_path / "x.yaml"))
    assert all(not task.scores and task.cell.model.digest for task in made.tasks)
    assert any(note.endswith("weights are random, which is for speed alone") for note in made.notes)
    assert made.tasks[0].cell.model.label == "stable_diffusion(random:sd15-shallow, height=64, width=64)"
    full = plan.plan(experiment.load(tmp_path / "x.yaml", ["common.sampler=euler", "sweeps.0.model.path=random:sd15"]))
    assert made.tasks[0].cell.model.digest != full.tasks[0].cell.model.digest
    with pytest.raises(InputError, match="random, so scores of its samples would mean nothing; leave it out"):
        plan.plan(experiment.load(tmp_path / "x.yaml", ["encoder=gaussians"]))


def test_the_experiments_on_shapes_are_planned() -> None:
    assert len(plan.plan(experiment.load(EXPERIMENTS / "speed_shapes_cpu.yaml")).tasks) == 6
    assert len(plan.plan(experiment.load(EXPERIMENTS / "speed_shapes.yaml", ["common.dtype=fp32"])).tasks) == 8


def test_what_was_timed_is_said_where_nothing_is_scored() -> None:
    results = load(Path(__file__).parent.parent / "results" / "speed_shapes_cpu")
    best, gain, cost = answer_lines(results)
    assert best == "Best scale: no scores were asked for (6 of 6 cells finished, 0 failed)"
    assert gain == "Against unguided: no scores were asked for"
    assert cost.count("2x network passes") == 3 and cost.count("x seconds per image at batch") == 3
    assert all(name in cost for name in ("random:sd15-shallow", "random:sdxl-shallow", "random:sd3-shallow"))
