"""Our own questions T1 to T8, raised by earlier runs of the digits testbed."""

from functools import partial

from cfgbench.claims.claim import Rule
from cfgbench.claims.curves import at_equal, chosen, differences, each, gains, means, optimum
from cfgbench.claims.evidence import Evidence, at
from cfgbench.claims.findings import Finding, over_seeds, size, within
from cfgbench.claims.variants import MIDDLE, TOO_HIGH
from cfgbench.records import CellRecord


def dropout_moves(evidence: Evidence) -> list[Finding]:
    """T1: more label dropout moves the best scale up."""
    best = {p: each(partial(optimum, evidence), evidence.arms("p_uncond", "cfg", {"p_uncond": p})) for p in (0.1, 0.5)}
    return [Finding("best scale, p_uncond 0.5 less 0.1", over_seeds(differences(best[0.5], best[0.1])), 0)]


def few_steps_guide(evidence: Evidence) -> list[Finding]:
    """T2: few steps act like guidance."""
    few, many = (chosen(evidence.arms("steps_x_scale", "cfg", steps=str(steps)), 1) for steps in (5, 50))
    change = {
        score: differences(means(evidence, few, score), means(evidence, many, score))
        for score in ("inception_score", "precision", "recall")
    }
    return [
        Finding("IS of unguided samples, 5 steps less 50", over_seeds(change["inception_score"]), 0),
        Finding("precision, 5 steps less 50", over_seeds(change["precision"]), 0),
        Finding("recall, 5 steps less 50", over_seeds(change["recall"]), 0, above=False),
    ]


def above_one(evidence: Evidence) -> list[Finding]:
    """T3: the unconditional branch wants a classifier scale above the Bayes-optimal 1."""
    arms = evidence.arms("p_uncond", "classifier_uncond", {"p_uncond": 0.5})
    return [
        Finding(
            "best classifier scale on the unconditional branch", over_seeds(each(partial(optimum, evidence), arms)), 1
        )
    ]


def at_equal_is(evidence: Evidence) -> list[Finding]:
    """T4: the middle interval against full CFG where both have the same IS."""
    return [
        Finding(
            f"FID at the IS of full CFG at s = {scale:g}",
            over_seeds(_excess(evidence, "fid", "inception_score", scale)),
            0,
            False,
        )
        for scale in (1.2, 1.5)
    ]


def at_equal_recall(evidence: Evidence) -> list[Finding]:
    """T5: the middle interval against full CFG where both have the same recall."""
    return [
        Finding(
            f"IS at the recall of full CFG at s = {scale:g}",
            over_seeds(_excess(evidence, "inception_score", "recall", scale)),
            0,
        )
        for scale in (1.2, 1.5)
    ]


def attention(evidence: Evidence) -> list[Finding]:
    """T6: perturbed attention hurts."""
    disturbed = at(evidence.arm("methods", "pag", ATTENTION), 1)
    return [Finding("FID, PAG at scale 1 less unguided", within(evidence.gap("fid", disturbed, _plain(evidence))), 0.1)]


def skipped(evidence: Evidence) -> list[Finding]:
    """T7: skipped attention layers do nothing."""
    disturbed = at(evidence.arm("methods", "slg", ATTENTION), 1)
    change = within(evidence.gap("fid", disturbed, _plain(evidence)))
    return [Finding("size of the change of FID by SLG at scale 1", size(change), 0.1, above=False)]


def momentum(evidence: Evidence) -> list[Finding]:
    """T8: APG's gain at a high scale is its momentum's, not the projection's."""
    cfg = chosen(evidence.arms("methods", "cfg"), TOO_HIGH)
    by_momentum = chosen(evidence.arms("methods", "apg", parallel_share="1"), TOO_HIGH)
    by_projection = chosen(evidence.arms("methods", "apg", momentum="0"), TOO_HIGH)
    first, second = gains(evidence, by_momentum, cfg), gains(evidence, by_projection, cfg)
    return [
        Finding("FID gain at s = 3, momentum alone less projection alone", over_seeds(differences(first, second)), 0.05)
    ]


ATTENTION = "digits(attention=True)"


def _plain(evidence: Evidence) -> CellRecord:
    return at(evidence.arm("methods", "cfg", ATTENTION), 1)


def _excess(evidence: Evidence, score: str, by: str, scale: float) -> list[float]:
    """Per network, a score of the middle interval less that of full CFG where both have full CFG's other score."""
    full, middle = evidence.arms("interval", "cfg"), evidence.arms("interval", "cfg", interval=MIDDLE)
    return at_equal(evidence, zip(middle, full, strict=True), score, by, chosen(full, scale))


RULES: dict[str, Rule] = {
    "T1": dropout_moves,
    "T2": few_steps_guide,
    "T3": above_one,
    "T4": at_equal_is,
    "T5": at_equal_recall,
    "T6": attention,
    "T7": skipped,
    "T8": momentum,
}
