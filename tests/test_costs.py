"""What a second model costs: paired ratios, bytes of every way of sampling, and lines counted from the source."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cfgbench.costs import code, measure, record, write
from cfgbench.costs.record import CostsRecord, TrainingCost, seconds_ratio
from cfgbench.errors import InputError
from cfgbench.models.digits import load
from cfgbench.testbeds import digits_data as digits
from cfgbench.training import card, digits_losses
from tests.synthetic import MACHINE

PUBLISHED = Path(__file__).parent.parent / "results" / "costs"


def training(name: str, cpu_s: tuple[float, ...], steps: int = 100, batch_size: int = 10) -> TrainingCost:
    return TrainingCost(
        name=name,
        recipe=name,
        parameters={name: 1000},
        steps=steps,
        batch_size=batch_size,
        flops_per_step=10,
        stretch=5,
        cpu_s=cpu_s,
    )


@pytest.fixture(scope="module")
def small() -> CostsRecord:
    """Real memory and code beside trainings of made-up length."""
    trained = (training("diffusion", (1.0, 2.0)), training("classifier", (0.5, 1.0), steps=50))
    held = tuple(measure.sampling_cost(name, 20) for name in measure.ARMS)
    return CostsRecord(training=trained, sampling=held, code=code.count(), null_parameters=64, machine=MACHINE)


# training


def test_ratios_of_stretches_in_turn_cancel_a_machine_that_slows_down() -> None:
    drift = np.linspace(1, 3, 21)
    slow, fast = training("a", tuple(3.0 * drift)), training("b", tuple(1.0 * drift), steps=50, batch_size=30)
    step = seconds_ratio(slow, fast, "step")
    assert step.value == pytest.approx(3) and step.interval == pytest.approx((3, 3)) and step.repeats == 21
    assert seconds_ratio(slow, fast).value == pytest.approx(6)
    assert seconds_ratio(slow, fast, "image").value == pytest.approx(9)


def test_the_interval_of_a_ratio_covers_its_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    true, covered = 0.3, 0
    for _ in range(400):
        over, under = (training("x", tuple(scale * rng.lognormal(0, 0.1, 41))) for scale in (true, 1.0))
        low, high = seconds_ratio(over, under, "step").interval or (0, 0)
        covered += low <= true <= high
    assert 0.93 <= covered / 400 <= 0.99


def test_few_repeats_have_no_interval() -> None:
    one = training("x", (1.0, 1.1, 0.9, 1.0, 1.0))
    assert seconds_ratio(one, one).interval is None


def test_stretches_of_real_trainings_are_timed_and_priced_as_the_card_does() -> None:
    known = measure.trainings()
    chosen = {name: known[name] for name in ("diffusion, no label dropout", "diffusion", "classifier")}
    costs = {one.name: one for one in measure.time_trainings(chosen, repeats=1)}
    entries = card.read_card(digits.WEIGHTS)
    for name, one in costs.items():
        assert len(one.cpu_s) == 1 and one.cpu_s[0] > 0
        entry = entries[chosen["diffusion" if "dropout" in name else name].name]
        assert (one.flops, one.images_seen) == (entry["flops"], entry["images_seen"])
        assert sum(one.parameters.values()) == entry["parameters"]


def test_without_dropout_the_loss_that_guidance_asks_for_is_the_conditional_one_bit_by_bit() -> None:
    network = load().networks["main"]
    images, labels = (torch.from_numpy(part[:32]) for part in digits.train_half())

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    plain = digits_losses.conditional_loss(network, images, labels, generator())
    assert torch.equal(digits_losses.diffusion_loss(network, images, labels, generator(), 0.0), plain)
    null = torch.full_like(labels, digits.NULL_LABEL)
    alone = digits_losses.conditional_loss(network, images, null, generator())
    assert torch.equal(digits_losses.diffusion_loss(network, images, labels, generator(), 1.0), alone)
    assert not torch.equal(plain, alone)


# sampling


def test_guidance_without_a_classifier_holds_the_weights_of_one_model(small: CostsRecord) -> None:
    unguided, classifier = small.held("unguided", 20), small.held("classifier", 20)
    for name in ("cfg, two passes", "cfg, one batched pass"):
        assert small.held(name, 20).weights_bytes == unguided.weights_bytes == {"main": 4 * 76_465}
    assert classifier.weights_bytes == {"main": 4 * 76_465, "classifier": 4 * 80_074}
    assert [*small.held("gan", 20).weights_bytes] == ["main"]


def test_one_batched_pass_holds_twice_the_activations_and_two_passes_do_not(small: CostsRecord) -> None:
    base = small.held("unguided", 20).activation_bytes
    assert 1.0 <= small.held("cfg, two passes", 20).activation_bytes / base < 1.05
    assert 1.8 < small.held("cfg, one batched pass", 20).activation_bytes / base < 2.1


def test_passes_and_operations_are_counted(small: CostsRecord) -> None:
    counted = {one.name: (one.nfe, one.classifier_passes) for one in small.sampling}
    assert counted == {
        "unguided": (25, 0),
        "cfg, two passes": (50, 0),
        "cfg, one batched pass": (50, 0),
        "classifier": (25, 25),
        "gan": (1, 0),
    }
    assert small.held("cfg, two passes", 20).flops_per_sample == 2 * small.held("unguided", 20).flops_per_sample


# code

SOURCE = '''
"""A module."""


class Thing:
    """A class."""

    def plain(self, x):
        """Not counted."""
        return self.f(x)

    def guided(self, x, s):
        """Not counted either."""
        a, b = (  # nor is this
            self.f(x),
            self.g(x),
        )

        return b + s * (a - b)
'''


def test_lines_are_counted_without_docstrings_comments_and_wrapping(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE)
    assert code.lines("source.py:Thing.plain", tmp_path) == ["def plain(self, x):", "return self.f(x)"]
    assert len(code.lines("source.py:Thing", tmp_path)) == 6
    addition = code.Addition("cfg", "sampling", "source.py:Thing.guided", "source.py:Thing.plain")
    (cost,) = code.count([addition], tmp_path)
    assert cost.added == ("a, b = (self.f(x), self.g(x))", "return b + s * (a - b)")
    assert cost.removed == ("return self.f(x)",)
    (whole,) = code.count([code.Addition("cfg", "sampling", "source.py:Thing.guided")], tmp_path)
    assert len(whole.added) == 3
    with pytest.raises(LookupError, match=r"no 'lost' of 'source\.py:Thing\.lost'"):
        code.lines("source.py:Thing.lost", tmp_path)


def test_guidance_adds_a_couple_of_lines_and_a_classifier_many(small: CostsRecord) -> None:
    assert {part: small.lines("cfg", part) for part in ("sampling", "training", "network")} == {
        "sampling": 5,
        "training": 2,
        "network": 0,
    }
    assert sum(small.lines("classifier", part) for part in ("sampling", "training", "network")) > 30
    training_lines = next(one for one in small.code if one.part == "training" and one.method == "cfg")
    assert training_lines.added[0] == "dropped = torch.rand(len(labels), generator=generator) < p_uncond"


# the record


def test_a_record_is_read_back_as_it_was_written_with_its_tables(small: CostsRecord, tmp_path: Path) -> None:
    paths = write.write(small, tmp_path)
    assert {path.name for path in paths} == {"costs.json", "training.csv", "sampling.csv", "code.csv", "summary.md"}
    assert record.load(tmp_path) == small
    with (tmp_path / "training.csv").open() as file:
        rows = {row["training"]: row for row in csv.DictReader(file)}
    assert float(rows["classifier"]["ratio_per_training"]) == 0.25
    assert rows["classifier"]["ratio_per_training_lo"] == ""
    with (tmp_path / "sampling.csv").open() as file:
        held = {row["arm"]: row for row in csv.DictReader(file)}
    assert float(held["cfg, two passes"]["weights_ratio"]) == 1
    assert "| classifier | 1,000 | 50 of 10 |" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "`cfgbench costs --output"),
        ("{", "cannot read .*costs.json"),
        ('{"training": 3}', "cannot read .*costs.json"),
        (json.dumps({"schema_version": 99}), "newer cfgbench"),
    ],
)
def test_a_record_that_cannot_be_read_says_what_to_do(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / record.FILE).parent.mkdir()
        (tmp_path / record.FILE).write_text(content)
    with pytest.raises(InputError, match=message):
        record.load(tmp_path)


def test_the_published_record_is_of_the_shipped_networks() -> None:
    published, entries = record.load(PUBLISHED), card.read_card(digits.WEIGHTS)
    gan = published.trained("gan")
    assert published.trained("diffusion").flops == entries["diffusion-p0.1-800-seed0"]["flops"]
    assert (gan.flops, gan.parameters["discriminator"]) == (
        entries[gan.recipe]["flops"],
        entries[gan.recipe]["discriminator_parameters"],
    )
    assert {one.name for one in published.sampling} == {*measure.ARMS}
    assert len(gan.cpu_s) >= 21
