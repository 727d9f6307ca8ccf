"""A metric of one's own: how far the features of the samples spread, as a share of the reference's spread."""

from collections.abc import Sequence

import numpy as np

from cfgbench.entries import Metric
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.scores.statistics import Replicated

SPREAD = Metric("spread:spread", "relative spread", lower_is_better=False, limits=(0, np.inf))


def spread(samples: Samples, reference: Reference | None, groups: np.ndarray) -> Replicated:
    """The root of the ratio of total variances, with its value without each of the groups (n,)."""
    assert reference is not None
    wanted = np.trace(reference.covariance)
    keep: Sequence[np.ndarray] = [groups != group for group in np.unique(groups)]
    return Replicated(_ratio(samples.features, wanted), tuple(_ratio(samples.features[rows], wanted) for rows in keep))


def _ratio(features: np.ndarray, wanted: float) -> float:
    return float(np.sqrt(features.var(axis=0, ddof=1).sum() / wanted))
