"""Metrics against brute-force definitions and other packages; replicates against recomputation."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import prdc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from cfgbench.scores import metrics, pairs
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.scores.statistics import Replicated, groups, standard_error, stratified_standard_error
from tests import oracles

Array = npt.NDArray[Any]
Metric = Callable[..., Replicated]

ALL: list[Metric] = [
    metrics.fid,
    metrics.kid,
    metrics.inception_score,
    metrics.precision,
    metrics.recall,
    metrics.density,
    metrics.coverage,
    metrics.accuracy,
    metrics.clip_score,
]
OF_FEATURES = [m for m in ALL if m not in (metrics.inception_score, metrics.accuracy, metrics.clip_score)]
every_metric = pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)


class Identity(torch.nn.Module):
    """A feature extractor for torchmetrics that passes features through."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def draw(n: int, d: int, seed: int = 0, shift: float = 0.3) -> Samples:
    """Correlated Gaussian features with labels, log-probabilities and CLIP scores that vary."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) @ np.random.default_rng(99).normal(size=(d, d)) + shift
    labels = np.arange(n) % 2
    log_probs = log_softmax(2 * rng.normal(size=(n, 4)) + 3 * np.eye(4)[labels], axis=1)
    return Samples(features, labels, log_probs, 20 + rng.normal(size=n))


def take(samples: Samples, rows: Array) -> Samples:
    return Samples(samples.features[rows], samples.labels[rows], samples.log_probs[rows], samples.clip_scores[rows])


def alternating(n: int, num_groups: int = 3) -> Array:
    return np.arange(n) % num_groups


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(draw(70, 5, seed=1, shift=0.0).features)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return draw(60, 5)


@pytest.mark.parametrize("n", [60, 400])
def test_fid_equals_scipy_and_torchmetrics(n: int) -> None:
    x, y = draw(n, 16), draw(300, 16, seed=1, shift=0.0)
    theirs = FrechetInceptionDistance(feature=Identity(16))
    theirs.set_dtype(torch.float64)
    theirs.update(torch.from_numpy(y.features), real=True)
    theirs.update(torch.from_numpy(x.features), real=False)
    ours = metrics.fid(x, Reference(y.features), alternating(n)).value
    assert ours == pytest.approx(oracles.fid(x.features, y.features), rel=1e-6)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_fid_of_fewer_samples_than_dimensions_equals_the_full_form() -> None:
    x, y = draw(12, 20).features, draw(100, 20, seed=1, shift=0.0).features
    ours = metrics.fid(Samples(x), Reference(y), alternating(12)).value
    assert ours == pytest.approx(oracles.fid(x, y), rel=1e-6)


@pytest.mark.parametrize("n", [80, 300])
def test_the_frechet_distance_is_fid_without_replicates(n: int) -> None:
    samples, reference = draw(n, 100, seed=2), Reference(draw(200, 100, seed=3).features)
    assert metrics.frechet_distance(samples, reference) == metrics.fid(samples, reference, alternating(n)).value
    with pytest.raises(ValueError, match="2 samples"):
        metrics.frechet_distance(samples.first(1), reference)


@pytest.mark.parametrize("metric", [metrics.kid, metrics.recall])
def test_what_two_references_need_of_the_samples_is_computed_once_and_right(metric: Metric) -> None:
    samples = draw(60, 5)
    references = [Reference(draw(70, 5, seed=seed).features) for seed in (4, 5)]
    for groups_of in (alternating(60), np.arange(60) // 20):
        for reference in references:
            fresh = metric(Samples(samples.features), reference, groups_of)
            assert metric(samples, reference, groups_of) == fresh
    assert len(samples._tables) == 2
    assert samples.first(20) is samples.first(20)


def test_fid_needs_only_the_moments_of_a_reference(samples: Samples, reference: Reference) -> None:
    moments = Reference(moments=(reference.mean, reference.covariance))
    assert metrics.fid(samples, moments, alternating(60)) == metrics.fid(samples, reference, alternating(60))
    with pytest.raises(ValueError, match="needs its features"):
        metrics.kid(samples, moments, alternating(60))


def test_fid_between_gaussians_of_known_moments_has_its_closed_form() -> None:
    whitened = np.linalg.qr(np.column_stack([np.ones(80), draw(80, 4).features]))[0][:, 1:] * np.sqrt(79)
    reference = Reference(moments=(np.array([3.0, 0, 0, 0]), np.diag([4.0, 9, 1, 1])))
    assert metrics.fid(Samples(whitened), reference, alternating(80)).value == pytest.approx(9 + 1 + 4)


def test_kid_equals_the_double_loop(samples: Samples, reference: Reference) -> None:
    ours = metrics.kid(samples, reference, alternating(60)).value
    assert ours == pytest.approx(oracles.kid(samples.features, reference.points), rel=1e-10)


@pytest.mark.filterwarnings("ignore:.*will save all extracted features:UserWarning")
def test_kid_equals_torchmetrics_when_its_only_subset_is_everything(samples: Samples, reference: Reference) -> None:
    theirs = KernelInceptionDistance(feature=Identity(5), subsets=1, subset_size=60)
    theirs.update(torch.from_numpy(reference.points[:60]), real=True)
    theirs.update(torch.from_numpy(samples.features), real=False)
    ours = metrics.kid(samples, Reference(reference.points[:60]), alternating(60)).value
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-6)


def test_inception_score_equals_its_formula(samples: Samples) -> None:
    ours = metrics.inception_score(samples, None, alternating(60)).value
    assert ours == pytest.approx(oracles.inception_score(samples.log_probs))


def test_inception_score_of_certain_and_balanced_classes_is_their_number() -> None:
    with np.errstate(divide="ignore"):
        certain = Samples(np.zeros((40, 1)), log_probs=np.log(np.eye(4))[np.arange(40) % 4])
    assert metrics.inception_score(certain, None, groups(np.arange(40), 4, 5)).value == pytest.approx(4)


@pytest.mark.parametrize("name", ["precision", "recall", "density", "coverage"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_manifold_scores_equal_their_definitions_and_prdc(
    name: str, k: int, samples: Samples, reference: Reference
) -> None:
    ours = getattr(metrics, name)(samples, reference, alternating(60), k=k).value
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = prdc.compute_prdc(reference.points, samples.features, k)
    assert ours == pytest.approx(getattr(oracles, name)(samples.features, reference.points, k))
    assert ours == pytest.approx(theirs[name])


def test_copies_of_the_reference_are_on_its_manifold(reference: Reference) -> None:
    far = Reference(reference.points.astype(np.float32) + 1000)
    copies, blocks = Samples(far.points), alternating(70)
    for metric in (metrics.precision, metrics.recall, metrics.coverage):
        assert metric(copies, far, blocks).value == 1


def test_accuracy_and_clip_score_are_means(samples: Samples) -> None:
    correct = [int(np.argmax(p)) == c for p, c in zip(samples.log_probs, samples.labels, strict=True)]
    assert metrics.accuracy(samples, None, alternating(60)).value == pytest.approx(np.mean(correct))
    assert metrics.clip_score(samples, None, alternating(60)).value == pytest.approx(np.mean(samples.clip_scores))


@every_metric
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(24, 40), d=st.integers(1, 30), num_groups=st.integers(2, 5))
def test_replicates_equal_the_score_of_the_remaining_samples(
    metric: Metric, seed: int, n: int, d: int, num_groups: int
) -> None:
    x, reference = draw(n, d, seed), Reference(draw(30, d, seed + 1, shift=0.0).features)
    blocks = np.random.default_rng(seed).permutation(alternating(n, num_groups))
    replicates = metric(x, reference, blocks).replicates
    assert len(replicates) == num_groups
    for b, replicate in enumerate(replicates):
        rest = take(x, blocks != b)
        alone = metric(rest, reference, alternating(len(rest.features), 2)).value
        assert replicate == pytest.approx(alone, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("metric", OF_FEATURES, ids=lambda metric: metric.__name__)
def test_replicates_survive_groups_smaller_than_k(metric: Metric, reference: Reference) -> None:
    x, blocks = draw(12, 5), np.array([0] * 8 + [1] * 3 + [2])
    for b, replicate in enumerate(metric(x, reference, blocks).replicates[1:], start=1):
        rest = take(x, blocks != b)
        assert replicate == pytest.approx(metric(rest, reference, alternating(len(rest.features), 2)).value)


@every_metric
@pytest.mark.parametrize("n", [60, 20])
def test_order_within_groups_does_not_matter(metric: Metric, n: int) -> None:
    x, reference, blocks = draw(n, 25), Reference(draw(70, 25, seed=1).features), alternating(n)
    order = np.lexsort((np.random.default_rng(0).permutation(n), blocks))
    before, after = metric(x, reference, blocks), metric(take(x, order), reference, blocks[order])
    np.testing.assert_allclose((after.value, *after.replicates), (before.value, *before.replicates), rtol=1e-11)


@every_metric
def test_chunks_do_not_change_a_score(metric: Metric, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    points = draw(70, 5, seed=1, shift=0.0).features
    whole = metric(samples, Reference(points), alternating(60))
    monkeypatch.setattr(pairs, "CHUNK", 130)
    parts = metric(samples, Reference(points), alternating(60))
    np.testing.assert_allclose((parts.value, *parts.replicates), (whole.value, *whole.replicates), rtol=1e-11)


@pytest.mark.parametrize("metric", OF_FEATURES, ids=lambda metric: metric.__name__)
def test_float32_features_give_the_float64_score_of_the_same_numbers(metric: Metric, reference: Reference) -> None:
    single = draw(60, 5).features.astype(np.float32)
    scores = [metric(Samples(f), reference, alternating(60)) for f in (single, single.astype(np.float64))]
    assert scores[0] == scores[1]


def test_fid_influence_is_the_derivative_of_the_distance(samples: Samples, reference: Reference) -> None:
    x, n = samples.features, 60
    influence = metrics.fid_influence(samples, reference)
    copies = np.repeat(np.arange(n), 2000)
    base = metrics.fid(Samples(x[copies]), reference, alternating(len(copies))).value
    for i in (0, 17):
        heavier = np.append(copies, np.full(12, i))
        shifted = metrics.fid(Samples(x[heavier]), reference, alternating(len(heavier))).value
        assert (shifted - base) / (12 / len(heavier)) == pytest.approx(influence[i], rel=1e-2, abs=1e-2)


def test_fid_influence_of_fewer_samples_than_dimensions_is_finite() -> None:
    reference = Reference(draw(100, 20, seed=1).features)
    assert np.isfinite(metrics.fid_influence(draw(12, 20), reference)).all()


def test_fid_influence_and_jackknife_give_the_same_error() -> None:
    centres = 3 * np.random.default_rng(5).normal(size=(10, 8))
    labels = np.arange(2000) % 10
    ratios = []
    reference = Reference(np.random.default_rng(6).normal(size=(900, 8)) + centres[np.arange(900) % 10])
    for seed in range(10):
        x = Samples(np.random.default_rng(seed).normal(size=(2000, 8)) * 1.2 + 0.95 * centres[labels], labels)
        jackknife = standard_error(metrics.fid(x, reference, groups(np.arange(2000), 10)).replicates)
        ratios.append(jackknife / stratified_standard_error(metrics.fid_influence(x, reference), labels))
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda x, g: (Samples(x[:, :3]), g), r"features must be \(n, 5\)"),
        (lambda x, g: (Samples(np.where(x == x[7, 0], np.nan, x)), g), "1 of 60 samples are not finite.* index 7"),
        (lambda x, g: (Samples(x), g[:-1]), "one per sample"),
        (lambda x, g: (Samples(x), g - 1), "one per sample"),
        (lambda x, g: (Samples(x), 0 * g), "there must be 2 groups"),
        (lambda x, g: (Samples(x), 2 * g), "every group needs samples"),
        (lambda x, g: (Samples(x[:2]), g[:2]), "fewer than"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.fid, metrics.kid, metrics.recall], ids=lambda metric: metric.__name__)
def test_broken_input_is_named(
    metric: Metric, broken: Callable[[Array, Array], tuple[Samples, Array]], message: str, reference: Reference
) -> None:
    samples, blocks = broken(draw(60, 5).features, alternating(60))
    with pytest.raises(ValueError, match=message):
        metric(samples, reference, blocks)


def test_absent_inputs_are_named() -> None:
    bare, blocks = Samples(np.zeros((6, 2))), alternating(6)
    for metric, missing in [(metrics.inception_score, "log-probabilities"), (metrics.clip_score, "CLIP scores")]:
        with pytest.raises(ValueError, match=f"needs {missing}"):
            metric(bare, None, blocks)
    with pytest.raises(ValueError, match="needs labels"):
        metrics.accuracy(Samples(bare.features, log_probs=np.log(np.full((6, 2), 0.5))), None, blocks)


def test_logits_are_not_taken_for_log_probabilities() -> None:
    with pytest.raises(ValueError, match="are they logits"):
        metrics.accuracy(Samples(np.zeros((6, 2)), alternating(6), np.ones((6, 2))), None, alternating(6))


def test_more_neighbours_than_points_are_refused(samples: Samples, reference: Reference) -> None:
    with pytest.raises(ValueError, match="k = 70 neighbours need more than 70 reference samples"):
        metrics.precision(samples, reference, alternating(60), k=70)
