"""Claims 21 to 27: Dhariwal & Nichol 2021, the paper that proposed classifier guidance."""

from functools import partial

from cfgbench.claims.claim import Rule
from cfgbench.claims.curves import chosen, differences, each, gains, gaps, means, optimum, tuned
from cfgbench.claims.evidence import Arms, Evidence
from cfgbench.claims.findings import Finding, in_each, over_seeds

HALF = {"p_uncond": 0.5}  # the networks whose unconditional branch had the most training


def trade(evidence: Evidence) -> list[Finding]:
    """21: precision up, recall down, FID best in between."""
    arms = evidence.arms("steps_x_scale", "classifier", steps="25")
    off, strong, best = chosen(arms, 0), chosen(arms, 4), tuned(evidence, arms)
    recall = differences(means(evidence, strong, "recall"), means(evidence, off, "recall"))
    return [
        Finding("precision, scale 4 less scale 0", in_each(gaps(evidence, "precision", strong, off)), 0),
        Finding("recall, scale 4 less scale 0", over_seeds(recall), -0.05, above=False),
        Finding("FID, scale 0 less the best", in_each(gaps(evidence, "fid", off, best)), 0),
        Finding("FID, scale 4 less the best", in_each(gaps(evidence, "fid", strong, best)), 0),
    ]


def guided_unconditional(evidence: Evidence) -> list[Finding]:
    """22: the guided unconditional branch approaches the unguided conditional one and does not beat it."""
    arms = evidence.arms("p_uncond", "classifier_uncond", HALF)
    nothing, best, conditional = chosen(arms, 0), tuned(evidence, arms), chosen(_cfg(evidence), 1)
    gap = differences(means(evidence, best, "fid"), means(evidence, conditional, "fid"))
    whole = differences(means(evidence, nothing, "fid"), means(evidence, conditional, "fid"))
    left = [rest / all_of_it for rest, all_of_it in zip(gap, whole, strict=True)]
    return [
        Finding("share of the FID gap to the conditional branch that is left", over_seeds(left), 0.5, above=False),
        Finding("FID, best guided unconditional less unguided conditional", over_seeds(gap), 0),
    ]


def guided_conditional(evidence: Evidence) -> list[Finding]:
    """23: a conditional model guided by a classifier is best."""
    best = tuned(evidence, evidence.arms("p_uncond", "classifier", HALF))
    unconditional = tuned(evidence, evidence.arms("p_uncond", "classifier_uncond", HALF))
    unguided = chosen(_cfg(evidence), 1)
    return [
        Finding("FID gain over the unguided conditional branch", over_seeds(gains(evidence, best, unguided)), 0.05),
        Finding(
            "FID gain over the guided unconditional branch", over_seeds(gains(evidence, best, unconditional)), 0.05
        ),
    ]


def fewer_steps(evidence: Evidence) -> list[Finding]:
    """24: guidance lowers the number of steps that a quality needs."""
    guided = tuned(evidence, evidence.arms("steps_x_scale", "cfg", steps="10"))
    unguided = chosen(evidence.arms("steps_x_scale", "cfg", steps="50"), 1)
    gap = differences(means(evidence, guided, "fid"), means(evidence, unguided, "fid"))
    return [Finding("FID, guided at 10 steps less unguided at 50", over_seeds(gap), 0, above=False)]


def moving_optimum(evidence: Evidence) -> list[Finding]:
    """25: the best scale rises when steps fall."""
    shifts = {}
    for method, few, many in (("classifier", 10, 50), ("cfg", 5, 50)):
        sides = (evidence.arms("steps_x_scale", method, steps=str(steps)) for steps in (few, many))
        shifts[method] = differences(*(each(partial(optimum, evidence), side) for side in sides))
    return [
        Finding("best classifier scale, 10 steps less 50", over_seeds(shifts["classifier"]), 0),
        Finding("best CFG scale, 5 steps less 50", over_seeds(shifts["cfg"]), 0),
    ]


def temperature(evidence: Evidence) -> list[Finding]:
    """26: lower temperature is no substitute for guidance."""
    cfg = evidence.arms("methods", "cfg")
    cooled = chosen(evidence.arms("methods", "contrasts:temperature"), 0.98)
    off, guided = chosen(cfg, 1), chosen(cfg, 1.2)
    whole, part = gains(evidence, guided, off), gains(evidence, cooled, off)
    share = [b / a for a, b in zip(whole, part, strict=True)]
    return [Finding("FID gain of temperature as a share of that of CFG", over_seeds(share), 0.5, above=False)]


def noisy_training(evidence: Evidence) -> list[Finding]:
    """27: the classifier has to be trained on noisy images."""
    aware = chosen(evidence.arms("methods", "classifier"), 0.5)
    clean = chosen(evidence.arms("methods", "contrasts:clean_classifier"), 0.5)
    return [
        Finding(
            "FID gain of the noise-aware over the clean classifier", over_seeds(gains(evidence, aware, clean)), 0.05
        )
    ]


def _cfg(evidence: Evidence) -> Arms:
    return evidence.arms("p_uncond", "cfg", HALF)


RULES: dict[str, Rule] = {
    "21": trade,
    "22": guided_unconditional,
    "23": guided_conditional,
    "24": fewer_steps,
    "25": moving_optimum,
    "26": temperature,
    "27": noisy_training,
}
