"""The GAN: truncated latents, one counted pass, plans without a sampler, its training, and its curves."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy import stats
from torch import Tensor

from cfgbench import conformance
from cfgbench.cell import Guidance
from cfgbench.errors import InputError
from cfgbench.generation import guidance, noise, sampling
from cfgbench.methods.truncation import truncated
from cfgbench.models import digits_gan
from cfgbench.models.digits_gan_networks import Discriminator, Generator
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.planning.plan import Plan
from cfgbench.reading import report
from cfgbench.reading.html.data import places
from cfgbench.reading.recommend import deployment
from cfgbench.reading.tables import rows
from cfgbench.reading.tables.results import at_edge, load
from cfgbench.running import overview, runner, worker
from cfgbench.store import Store
from cfgbench.testbeds import digits_data as digits
from cfgbench.testbeds import digits_encoders
from cfgbench.training import adversarial, card
from tests.conftest import make_batch

COMMON = {"sampler": "ddim", "steps": 3}
GAN: dict[str, Any] = {"model": "digits_gan", "method": "truncation", "truncation": [None, 2, 0.5]}
FP32 = {"dtype": torch.float32, "state_dtype": torch.float32}


def plan_of(*sweeps: dict[str, Any], **fields: Any) -> Plan:
    body = {"name": "t", "num_samples": 400, "sweeps": [*sweeps], **fields}
    return planner.plan(experiment.parse(body, "t.yaml"))


def draw(indices: range, **parameters: float) -> tuple[Tensor, sampling.Counts]:
    """The GAN's images of these samples."""
    batch = make_batch(digits_gan.load(), labels=noise.labels(indices, 10), **FP32)
    batch = sampling.Batch(**{**batch.__dict__, "diffusion": None})
    method = planner.canonical("truncation", parameters) if parameters else Guidance(method="unguided")
    return sampling.sample(batch, guidance.bind(method), 0, indices)


# latents


@pytest.mark.parametrize("threshold", [0.1, 1.0, 2.5])
def test_truncated_latents_have_the_law_of_redrawing_until_within(threshold: float) -> None:
    z = torch.from_numpy(noise.initial(0, range(500), (32,))).float()
    moved = truncated(z, threshold).flatten().numpy()
    assert np.abs(moved).max() <= threshold
    redrawn = np.random.default_rng(0).standard_normal(400_000)
    redrawn = redrawn[np.abs(redrawn) < threshold][: len(moved)]
    assert stats.ks_2samp(moved, redrawn).pvalue > 0.01
    assert stats.kstest(moved, stats.truncnorm(-threshold, threshold).cdf).pvalue > 0.01


def test_truncated_latents_keep_their_order_and_their_sign() -> None:
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    moved = truncated(z, 0.7)
    assert (moved.diff() > 0).all()
    torch.testing.assert_close(moved, -moved.flip(0))


def test_a_threshold_beyond_all_latents_changes_nothing_and_a_column_means_each_its_own() -> None:
    z = torch.from_numpy(noise.initial(0, range(4), (32,)))
    torch.testing.assert_close(truncated(z, 6.0), z, rtol=1e-6, atol=0)
    column = torch.tensor([[0.5], [1.0], [2.0], [3.0]], dtype=torch.float64)
    alone = torch.cat([truncated(z[i : i + 1], float(column[i])) for i in range(4)])
    assert torch.equal(truncated(z, column), alone)  # type: ignore[arg-type]


# sampling


@pytest.mark.parametrize("parameters", [{}, {"truncation": 1.0}])
def test_an_image_costs_one_pass_and_does_not_depend_on_the_batch(parameters: dict[str, float]) -> None:
    whole, counts = draw(range(64), **parameters)
    assert whole.shape == (64, 1, 8, 8) and whole.abs().max() <= 1
    assert (counts.nfe, counts.classifier) == (1, 0)
    for size in (1, 7):
        parts = [draw(range(first, min(first + size, 64)), **parameters)[0] for first in range(0, 64, size)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


def test_truncation_moves_every_image_towards_that_of_the_middle() -> None:
    middle = digits_gan.load().networks["main"](torch.zeros(100, 32), torch.arange(100) % 10)
    far = [(draw(range(100), **one)[0] - middle).norm() for one in ({}, {"truncation": 2.0}, {"truncation": 0.3})]
    assert far[0] > far[1] > 2 * far[2]


@pytest.mark.parametrize("seed", digits.GAN_SEEDS)
def test_every_generator_draws_the_digit_that_it_is_asked_for(seed: int) -> None:
    model, labels = digits_gan.load(seed), np.arange(200) % 10
    z = torch.from_numpy(noise.initial(1, range(200), model.latent_shape)).float()
    images = model.decode(model.networks["main"](z, torch.from_numpy(labels)))
    assert (digits_encoders.features(images)[1].argmax(1) == labels).mean() > 0.97


# plans


def test_no_truncation_is_the_unguided_cell_and_no_cell_has_a_sampler() -> None:
    made = plan_of(GAN, {"model": "digits_gan", "method": "unguided"}, common=COMMON)
    cells = [task.cell for task in made.tasks]
    assert [cell.guidance.method for cell in cells] == ["unguided", "truncation", "truncation"]
    assert {(cell.diffusion, cell.evaluations, cell.made_elsewhere) for cell in cells} == {(None, 1, False)}
    assert cells[1].cost_class == cells[2].cost_class != cells[0].cost_class
    with pytest.raises(ValueError, match="made in one pass"):
        _ = cells[0].sampler


def test_what_common_says_of_sampling_is_noted_and_left_out_of_the_ids() -> None:
    with_common, without = plan_of(GAN, common=COMMON), plan_of(GAN)
    assert [task.cell.id for task in with_common.tasks] == [task.cell.id for task in without.tasks]
    assert with_common.notes[0].startswith("sampler, steps of common do not apply to sweeps[0].model in t.yaml")
    assert not without.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, r"sweeps\[0\].steps in t.yaml: .* takes no steps"),
        ({"method": "cfg", "guidance_scale": 2, "truncation": 1}, "unknown axis of method cfg"),
        ({"method": "cfg", "truncation": None, "guidance_scale": 2}, "allowed: unguided, truncation"),
        ({"model": ["digits", "digits_gan"]}, "digits_gan makes its samples in one pass, digits does not"),
        ({"model": "digits", **COMMON}, "'truncation' is not one for model digits; allowed: unguided, unconditional"),
        ({"truncation": 0}, r"truncation in t.yaml = 0; needs a number >= 0.01 and <= 6"),
        ({"dtype": "fp64"}, "dtype 'fp64' is not offered by model digits_gan"),
        ({"model": {"name": "digits_gan", "training_seed": 3}}, "allowed: 0, 1, 2"),
    ],
)
def test_what_a_generator_cannot_do_is_refused_at_plan(changes: dict[str, Any], message: str) -> None:
    sweep = {**GAN, **changes}
    with pytest.raises(InputError, match=message):
        plan_of({key: value for key, value in sweep.items() if value is not None})


def test_the_conformance_suite_says_that_it_is_not_for_generators() -> None:
    with pytest.raises(InputError, match="for methods that guide diffusion models"):
        conformance.check("truncation", "digits_gan")


# training


def test_hinge_losses_are_those_of_the_definition() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, images: Tensor, label: Tensor) -> Tensor:
            return images

    pair = adversarial.Pair(torch.nn.Identity(), Fixed())
    pair.generator.forward = lambda z, label: z  # type: ignore[method-assign]
    real, z, labels = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5]), torch.zeros(2)
    assert adversarial.discriminator_loss(pair, real, labels, z).item() == (0 + 0.5) / 2 + (0 + 1.5) / 2
    assert adversarial.generator_loss(pair, labels, z).item() == 1.25


def test_each_network_learns_from_its_own_loss_only() -> None:
    how = adversarial.Adversarial(1, 8, {"generator": 0.0, "discriminator": 1e-3}, digits.LATENT_SIZE)
    pair = adversarial.Pair(Generator(), Discriminator()).train()
    before = {name: value.clone() for name, value in pair.named_parameters()}
    images, labels = (torch.from_numpy(part[:8]) for part in digits.train_half())
    adversarial.Opponents(pair, how).step(images, labels, torch.Generator().manual_seed(0))
    moved = {name.split(".")[0] for name, value in pair.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"discriminator"}
    assert all(value.requires_grad for value in pair.parameters())


def test_the_card_prices_both_networks_and_ships_one() -> None:
    entries = card.read_card(digits.WEIGHTS)
    for seed in digits.GAN_SEEDS:
        entry = entries[digits.gan_name(seed)]
        assert entry["discriminator_parameters"] == sum(value.numel() for value in Discriminator().parameters())
        assert entry["flops"] > 5 * entries["classifier"]["flops"]
        assert entry["images_seen"] == 96_000
    assert not list(digits.WEIGHTS.glob("*discriminator*"))


# results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small experiment of the GAN beside CFG, run in this process."""
    path = tmp_path_factory.mktemp("gan")
    cfg = {"model": "digits", "method": "cfg", "guidance_scale": [1, 2]}
    made = plan_of(GAN, cfg, common=COMMON, metrics=["fid", "inception_score", "precision", "recall"])
    for task in made.tasks:
        for start in task.starts:
            worker.draw_block(task, start, path, "cpu")
        assert worker.score_cell(task, path, "cpu")
    Store(path).write_record(runner.plan_record(made, ()))
    report.build(path, formats=("png",))
    assert "digits_gan truncation 0.5 fp32" in overview.describe(made, path)
    return path


def test_the_curve_of_truncation_ends_at_no_truncation(folder: Path) -> None:
    results = load(folder)
    gan, cfg = results.arms
    assert [point.scale for point in gan.points] == [0.5, 2, math.inf]
    assert [point.record.nfe for point in (*gan.points, *cfg.points)] == [1, 1, 1, 3, 6]
    assert results.unguided(gan.points[0].record.cell) is gan.points[2].record
    assert not at_edge(gan, gan.points[2].record) and at_edge(gan, gan.points[0].record)
    assert [results.label(arm) for arm in results.arms] == ["truncation, digits_gan", "CFG, digits"]


def test_truncation_buys_precision_with_recall(folder: Path) -> None:
    by_id = {row["id"]: row for row in rows.result_rows(load(folder))}
    strong, weak, off = (by_id[record.id] for record in load(folder).arms[0].records)
    assert float(str(strong["precision"])) > float(str(off["precision"]))
    assert float(str(strong["recall"])) < float(str(weak["recall"])) <= float(str(off["recall"]))
    assert (strong["truncation"], off["truncation"], strong["sampler"], strong["nfe"]) == ("0.5", None, None, 1)


def test_both_curves_are_in_every_table_figure_and_page(folder: Path) -> None:
    assert "| truncation, digits\\_gan | off |" in (folder / "results.md").read_text()
    for name in ("quality_vs_scale", "gain_vs_scale", "quality_tradeoff", "sample_grid"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 10_000
    assert '"scales":[0.5,2.0,null]' in (folder / "report.html").read_text()
    best = [line.split(",") for line in (folder / "best.csv").read_text().splitlines()]
    scale = best[0].index("best_scale")
    assert {line[scale] for line in best[1:] if line[0] == "truncation"} <= {"0.5", "2", "inf"}


def test_off_lies_one_step_beyond_the_largest_threshold_on_the_page() -> None:
    assert places([0.5, 2, math.inf], "truncation") == {0.5: 0.5, 2: 2, math.inf: 3.5}


def test_the_code_to_paste_for_a_generator_plans_the_same_cell(folder: Path) -> None:
    cell = load(folder).arms[0].points[0].record.cell
    text = deployment.code(cell)
    assert "diffusers" not in text
    (task,) = planner.plan(experiment.parse(yaml.safe_load(text), "pasted")).tasks
    assert task.cell.id == cell.id
    assert json.loads(cell.model_dump_json())["diffusion"] is None
