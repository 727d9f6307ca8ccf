"""Scores of generated samples: functions of features, each with its value and its delete-group replicates.

Every metric has the signature `metric(samples, reference, groups, **parameters) -> Replicated`. `groups` (n,) numbers
each sample's group 0..B-1; replicate b is the score of the samples outside group b, exactly as if recomputed, but
from sums or tables over groups that are filled once. Everything is computed in float64. What is undefined raises
ValueError and never becomes 0 or NaN.

Balls of neighbours are closed, as in Kynkaanniemi et al. 2019 (the prdc package has them open, which differs only for
ties), and wider by `_TIE`, so that a sample equal to a reference image does not hit or miss by rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from cfgbench.scores import pairs
from cfgbench.scores.statistics import Floats, Ints, Replicated

T = TypeVar("T")

_TIE = 1e-10  # of the reference's mean squared norm, added to squared radii


@dataclass(frozen=True, eq=False)
class Samples:
    """One cell's samples in index order; what several metrics need of them is computed once."""

    features: npt.NDArray[np.floating[Any]]  # (n, d)
    labels: Ints | None = None  # (n,) requested class
    log_probs: npt.NDArray[np.floating[Any]] | None = None  # (n, classes), of the scoring network
    clip_scores: npt.NDArray[np.floating[Any]] | None = None  # (n,) 100 cos(image, text)
    _prefixes: "dict[int, Samples]" = field(default_factory=dict, repr=False)
    _tables: dict[tuple[str, int, bytes], Floats] = field(default_factory=dict, repr=False)

    def first(self, n: int) -> "Samples":
        """The first n samples."""
        if n not in self._prefixes:
            parts = (self.features, self.labels, self.log_probs, self.clip_scores)
            self._prefixes[n] = Samples(*(None if part is None else part[:n] for part in parts))  # type: ignore[arg-type]
        return self._prefixes[n]

    @cached_property
    def points(self) -> Floats:
        """The features as float64, (n, d)."""
        if self.features.ndim != 2:
            raise ValueError(f"features must be (n, d), not {self.features.shape}")
        return _finite(self.features, "features")

    def kernel_sums(self, groups: Ints, degree: int) -> Floats:
        """Sums of the polynomial kernel over pairs of different samples, one of each group, (B, B)."""
        return self._table("kernel", degree, groups, pairs.kernel_sums)

    def radii_without(self, groups: Ints, k: int) -> Floats:
        """Squared distance to each sample's k-th nearest other, of all and without each group, (B + 1, n)."""
        return self._table("radii", k, groups, pairs.radii_without)

    def _table(self, name: str, parameter: int, groups: Ints, compute: Callable[[Floats, Ints, int], Floats]) -> Floats:
        key = (name, parameter, groups.tobytes())
        if key not in self._tables:
            self._tables[key] = compute(self.points, groups, parameter)
        return self._tables[key]


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference set, by its features (m, d) or by its moments alone; what metrics need of it is computed once.

    A reference of (mean, covariance) serves `fid` only, as the statistics files that ADM published do.
    """

    features: npt.NDArray[np.floating[Any]] | None = None
    moments: tuple[Floats, Floats] | None = None
    _radii: dict[int, Floats] = field(default_factory=dict, repr=False)
    _kernel_means: dict[int, float] = field(default_factory=dict, repr=False)

    @cached_property
    def mean(self) -> Floats:
        """(d,)"""
        return self.moments[0] if self.moments is not None else self.points.mean(axis=0)

    @cached_property
    def covariance(self) -> Floats:
        """(d, d), normalised by m - 1."""
        if self.moments is not None:
            return self.moments[1]
        return self.centred.T @ self.centred / (len(self.centred) - 1)

    @cached_property
    def root(self) -> Floats:
        """The symmetric square root of the covariance, (d, d)."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: Floats = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        return root

    @cached_property
    def centred(self) -> Floats:
        """Features minus their mean, (m, d)."""
        return self.points - self.mean

    @cached_property
    def tie(self) -> float:
        """The slack of squared radii."""
        return _TIE * float(np.einsum("ij,ij->", self.centred, self.centred)) / len(self.centred)

    @cached_property
    def points(self) -> Floats:
        """The features as float64, (m, d)."""
        if self.features is None:
            raise ValueError("this reference holds a mean and a covariance only, and the metric needs its features")
        if self.features.ndim != 2 or len(self.features) < 2:
            raise ValueError(f"reference features must be (m, d) with m >= 2, not {self.features.shape}")
        return _finite(self.features, "reference features")

    def radii(self, k: int) -> Floats:
        """Squared distances to each reference point's k-th nearest other, widened, (m,)."""
        if k not in self._radii:
            if not 0 < k < len(self.centred):
                raise ValueError(f"k = {k} neighbours need more than {k} reference samples, not {len(self.centred)}")
            parts = [np.partition(d, k - 1)[:, k - 1] for _, d in pairs.distances_to_others(self.centred)]
            self._radii[k] = np.concatenate(parts) + self.tie
        return self._radii[k]

    def kernel_mean(self, degree: int) -> float:
        """Mean of the polynomial kernel over all pairs of different reference samples."""
        if degree not in self._kernel_means:
            y, m = self.points, len(self.points)
            total = sum(float(pairs.kernel(y[rows], y, degree).sum()) for rows in pairs.row_chunks(m, m))
            self._kernel_means[degree] = (total - float(pairs.self_kernel(y, degree).sum())) / (m * (m - 1))
        return self._kernel_means[degree]


def fid(samples: Samples, reference: Reference, groups: Ints) -> Replicated:
    """Frechet distance |mu - mu_r|^2 + tr S + tr S_r - 2 tr (R S R)^(1/2), R the root of S_r (Heusel et al. 2017).

    Not bias-corrected: `statistics.estimate` does that from the replicates. Costs one eigenproblem per replicate, of
    size min(n, d): 13 s on one core for 5,000 samples, d = 2048 and 20 groups.
    """
    sizes = _sizes(groups, len(samples.features), 2)
    return _replicate(_frechet(samples, reference, groups), len(sizes))


def frechet_distance(samples: Samples, reference: Reference) -> float:
    """The value of `fid` without replicates: one eigenproblem."""
    if len(samples.features) < 2:
        raise ValueError(f"a covariance needs 2 samples, not {len(samples.features)}")
    return _frechet(samples, reference, np.zeros(len(samples.features), dtype=np.int64))(np.ones(1))


def fid_influence(samples: Samples, reference: Reference) -> Floats:
    """First-order influence of every sample on the Frechet distance, (n,), with mean 0.

    The derivative of the distance when weight moves to x_i, by d tr M^(1/2) = tr(M^(-1/2) dM) / 2; directions in
    which the samples do not vary have no influence. `statistics.stratified_standard_error` makes an error of it.
    """
    x = _centred(samples, reference)
    mean, centred = x.mean(axis=0), x - x.mean(axis=0)
    z = centred @ reference.root
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    present = values > values[-1] * len(values) * np.finfo(np.float64).eps
    projected = (z @ vectors[:, present]) ** 2 @ values[present] ** -0.5
    spread = np.einsum("ij,ij->i", centred, centred)
    influence: Floats = 2 * centred @ mean + spread - projected
    return np.asarray(influence - influence.mean())


def kid(samples: Samples, reference: Reference, groups: Ints, *, degree: int = 3) -> Replicated:
    """Unbiased squared MMD of the kernel (x.y / d + 1)^degree over all pairs (Binkowski et al. 2018), times 1.

    The mean over random subsets that other packages report has the same expectation and more noise; some print it
    times 1000.
    """
    x, sizes = _features(samples, reference.mean.shape[0]), _sizes(groups, len(samples.features), 2)
    y, member, across = reference.points, np.eye(len(sizes))[groups], np.zeros(len(sizes))
    for rows in pairs.row_chunks(len(x), max(len(x), len(y))):
        across += member[rows].T @ pairs.kernel(x[rows], y, degree).mean(axis=1)
    within = samples.kernel_sums(groups, degree)
    constant = reference.kernel_mean(degree)

    def discrepancy(keep: Floats) -> float:
        n = keep @ sizes
        return float(keep @ within @ keep / (n * (n - 1)) - 2 * (keep @ across) / n + constant)

    return _replicate(discrepancy, len(sizes))


def inception_score(samples: Samples, reference: Reference | None, groups: Ints) -> Replicated:
    """exp of the mean KL divergence of p(class | sample) from its mean, over one split (Salimans et al. 2016)."""
    probabilities = _probabilities(samples)
    sizes = _sizes(groups, len(probabilities), 1)
    sums = pairs.group_sums(np.column_stack([probabilities, entr(probabilities).sum(axis=1)]), groups)

    def score(keep: Floats) -> float:
        mean = keep @ sums / (keep @ sizes)
        return float(np.exp(entr(mean[:-1]).sum() - mean[-1]))

    return _replicate(score, len(sizes))


def precision(samples: Samples, reference: Reference, groups: Ints, *, k: int = 3) -> Replicated:
    """Share of samples within the k-th-neighbour ball of any reference point (Kynkaanniemi et al. 2019)."""
    return _mean(_ball_counts(samples, reference, k) > 0, groups)


def density(samples: Samples, reference: Reference, groups: Ints, *, k: int = 5) -> Replicated:
    """Mean number of reference balls around a sample, over k (Naeem et al. 2020); can exceed 1."""
    return _mean(_ball_counts(samples, reference, k) / k, groups)


def coverage(samples: Samples, reference: Reference, groups: Ints, *, k: int = 5) -> Replicated:
    """Share of reference points with a sample within their k-th-neighbour ball (Naeem et al. 2020)."""
    x, sizes = _centred(samples, reference), _sizes(groups, len(samples.features), 1)
    member, radii, y = np.eye(len(sizes))[groups], reference.radii(k), reference.centred
    inside = [(pairs.squared_distances(y[r], x) <= radii[r, None]) @ member for r in pairs.row_chunks(len(y), len(x))]
    hits = np.concatenate(inside)  # (m, B): samples of each group in each ball
    return _replicate(lambda keep: float(np.mean(hits @ keep > 0)), len(sizes))


def recall(samples: Samples, reference: Reference, groups: Ints, *, k: int = 3) -> Replicated:
    """Share of reference points within the k-th-neighbour ball of any sample (Kynkaanniemi et al. 2019).

    A replicate also takes the removed group's points out of the others' neighbourhoods, so their balls grow.
    """
    x, y = _centred(samples, reference), reference.centred
    _sizes(groups, len(x), k + 1)
    radii = samples.radii_without(groups, k) + reference.tie
    found = np.empty((len(radii), len(y)), dtype=bool)
    for rows in pairs.row_chunks(len(y), len(x)):
        distances = pairs.squared_distances(y[rows], x)
        for balls, hit in zip(radii, found, strict=True):
            hit[rows] = (distances <= balls).any(axis=1)
    value, *replicates = found.mean(axis=1).tolist()
    return Replicated(value, tuple(replicates))


def accuracy(samples: Samples, reference: Reference | None, groups: Ints) -> Replicated:
    """Share of samples whose most probable class is the requested one."""
    return _mean(_probabilities(samples).argmax(axis=1) == _present(samples.labels, "labels"), groups)


def clip_score(samples: Samples, reference: Reference | None, groups: Ints) -> Replicated:
    """Mean of 100 cos(image, text), not clamped at 0."""
    return _mean(_finite(_present(samples.clip_scores, "CLIP scores"), "CLIP scores"), groups)


def _frechet(samples: Samples, reference: Reference, groups: Ints) -> Callable[[Floats], float]:
    """A function from kept groups to the Frechet distance of their samples."""
    x, sizes = _centred(samples, reference), np.bincount(groups)
    first = pairs.group_sums(np.column_stack([x, np.einsum("ij,ij->i", x, x)]), groups)
    covariance = _covariances(x @ reference.root, groups)
    offset = float(np.trace(reference.covariance))

    def distance(keep: Floats) -> float:
        n, total = keep @ sizes, keep @ first
        mean_square = float(total[:-1] @ total[:-1]) / n**2
        trace = (total[-1] - n * mean_square) / (n - 1)
        eigenvalues = np.linalg.eigvalsh(covariance(keep))[-int(n - 1) :]  # n samples span n - 1 directions
        roots = np.sqrt(eigenvalues.clip(min=0))
        return float(mean_square + trace + offset - 2 * roots.sum())

    return distance


def _replicate(statistic: Callable[[Floats], float], num_groups: int) -> Replicated:
    """The statistic of the groups with weight 1 in its argument (B,): of all, then without each."""
    return Replicated(statistic(np.ones(num_groups)), tuple(map(statistic, 1 - np.eye(num_groups))))


def _mean(values: npt.NDArray[Any], groups: Ints) -> Replicated:
    sizes, sums = _sizes(groups, len(values), 1), pairs.group_sums(values, groups)
    return _replicate(lambda keep: float(keep @ sums / (keep @ sizes)), len(sizes))


def _sizes(groups: Ints, n: int, needed: int) -> Ints:
    """Samples of each group, (B,), after checking that `needed` are left without any one group."""
    if groups.shape != (n,) or groups.min(initial=0) < 0:
        raise ValueError(f"groups must be {n} numbers from 0 up, one per sample, not an array of shape {groups.shape}")
    sizes = np.bincount(groups)
    if len(sizes) < 2 or sizes.min() == 0:
        raise ValueError(f"every group needs samples, and there must be 2 groups; the group sizes are {sizes.tolist()}")
    if n - sizes.max() < needed:
        raise ValueError(f"{n} samples less the largest group of {sizes.max()} are fewer than the {needed} needed")
    return sizes


def _covariances(z: Floats, groups: Ints) -> Callable[[Floats], Floats]:
    """A function from kept groups to the covariance of their rows of z (n, d).

    If n < d, the centred Gram matrix stands for it: smaller, with the same nonzero eigenvalues.
    """
    if len(z) < z.shape[1]:
        gram = z @ z.T
        return lambda keep: _centred_gram(gram[np.ix_(keep[groups] > 0, keep[groups] > 0)])
    total, scatter = z.sum(axis=0), z.T @ z

    def covariance(keep: Floats) -> Floats:
        dropped = z[keep[groups] == 0]
        n, kept = len(z) - len(dropped), total - dropped.sum(axis=0)
        return np.asarray((scatter - dropped.T @ dropped - np.outer(kept, kept / n)) / (n - 1))

    return covariance


def _centred_gram(gram: Floats) -> Floats:
    means = gram.mean(axis=0)
    return np.asarray((gram - means - means[:, None] + means.mean()) / (len(gram) - 1))


def _ball_counts(samples: Samples, reference: Reference, k: int) -> Ints:
    """The number of reference balls that hold each sample, (n,)."""
    x, y, radii = _centred(samples, reference), reference.centred, reference.radii(k)
    parts = [(pairs.squared_distances(x[rows], y) <= radii).sum(axis=1) for rows in pairs.row_chunks(len(x), len(y))]
    return np.concatenate(parts)


def _centred(samples: Samples, reference: Reference) -> Floats:
    """Features minus the reference's mean, (n, d)."""
    return _features(samples, len(reference.mean)) - reference.mean


def _features(samples: Samples, dimension: int) -> Floats:
    if samples.features.ndim != 2 or samples.features.shape[1] != dimension:
        raise ValueError(f"features must be (n, {dimension}) as the reference's, not {samples.features.shape}")
    return samples.points


def _probabilities(samples: Samples) -> Floats:
    """Class probabilities, (n, classes)."""
    probabilities = np.exp(np.asarray(_present(samples.log_probs, "log-probabilities"), dtype=np.float64))
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("the class log-probabilities of a sample do not sum to probability 1; are they logits?")
    return probabilities


def _present(values: T | None, name: str) -> T:
    if values is None:
        raise ValueError(f"the metric needs {name}, which these samples do not have")
    return values


def _finite(values: npt.NDArray[Any], name: str) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(broken):
        raise ValueError(f"{name} of {len(broken)} of {len(values)} samples are not finite, first at index {broken[0]}")
    return values
