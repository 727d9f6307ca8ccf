"""The sampling error that networks share, in what rules say of training seeds.

All networks are given the same noise, so three of them may agree with each other and be wrong together: the spread of
their values alone makes intervals that are too short. Each rule is applied again to evidence from which one group of
samples is left out, group by group; how the networks' numbers move together is the error that they share.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cfgbench.claims.evidence import Evidence
from cfgbench.claims.findings import Finding, Measured, size
from cfgbench.records import CellRecord, Score
from cfgbench.scores.statistics import NUM_GROUPS, Floats
from cfgbench.scores.training_seeds import over_training_seeds

SHARED = "95 %, mean of {n} training seeds, their spread and the sampling error that they share, each with its own t"


def leave_one_out(evidence: Evidence) -> list[Evidence]:
    """The evidence without each group of samples, as far as scores go."""
    return [_without(evidence, group) for group in range(NUM_GROUPS)]


def with_shared_error(findings: Sequence[Finding], worlds: Sequence[Sequence[Finding]]) -> tuple[Finding, ...]:
    """The findings, those over training seeds with the interval that the same findings without each group give."""
    return tuple(_wider(finding, [world[i] for world in worlds]) for i, finding in enumerate(findings))


def _wider(finding: Finding, elsewhere: Sequence[Finding]) -> Finding:
    measured = finding.measured
    if not measured.networks or not elsewhere:
        return finding
    values = np.array(measured.networks)
    estimate = over_training_seeds(_pseudo_values(values, np.array([one.measured.networks for one in elsewhere])))
    low, high = estimate.interval or (estimate.value, estimate.value)
    found = Measured(estimate.value, low, high, SHARED.format(n=len(values)), measured.networks)
    return replace(finding, measured=size(found) if measured.absolute else found)


def _pseudo_values(values: Floats, without: Floats) -> Floats:
    """(networks, groups), around the values (networks,) of all samples, from those (groups, networks) without each."""
    pseudo = (len(without) * values - (len(without) - 1) * without).T
    return np.asarray(pseudo - pseudo.mean(axis=1, keepdims=True) + values[:, None])


def _without(evidence: Evidence, group: int) -> Evidence:
    return replace(
        evidence,
        results={
            name: replace(results, records={key: _record(record, group) for key, record in results.records.items()})
            for name, results in evidence.results.items()
        },
    )


def _record(record: CellRecord, group: int) -> CellRecord:
    return record.model_copy(update={"scores": tuple(_score(score, group) for score in record.scores)})


def _score(score: Score, group: int) -> Score:
    """The score moved to where it is without a group; as it is where that is not known."""
    if len(score.replicates) != NUM_GROUPS:
        return score
    move = score.replicates[group] - score.value
    moved = tuple(replicate + move for replicate in score.replicates)
    return score.model_copy(update={"value": score.value + move, "replicates": moved})
