"""Samples -> features: what metrics read, once per sample. Each encoder's weights are part of a score's identity."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cfgbench.testbeds import mixtures


class Encoded(NamedTuple):
    """What an encoder provides of n samples; absent where it provides no such thing."""

    features: np.ndarray | None  # (n, d)
    log_probs: np.ndarray | None = None  # (n, classes)
    clip_scores: np.ndarray | None = None  # (n,)
    features_dinov2: np.ndarray | None = None  # (n, d)
    features_clip: np.ndarray | None = None  # (n, d)
    truncated: np.ndarray | None = None  # (n,) whether the text is longer than what was read of it


def gaussians(samples: np.ndarray, labels: np.ndarray, parameters: Mapping[str, Any]) -> Encoded:
    """The vectors themselves (n, d) and the Bayes classifier's log-probabilities."""
    return Encoded(samples, mixtures.class_log_probs(mixtures.mixture(**parameters), samples), None)


def digits(samples: np.ndarray, labels: np.ndarray, parameters: Mapping[str, Any]) -> Encoded:
    """Features and class probabilities of the feature network, and the tiny CLIP's score of image and label."""
    from cfgbench.testbeds import digits_encoders

    features, log_probs = digits_encoders.features(samples)
    return Encoded(features, log_probs, digits_encoders.clip_scores(samples, labels))
