"""Claims 1 to 8: an article for beginners (D. Chaplinsky, habr.com/ru/articles/751718), where many learn of CFG."""

from cfgbench.claims.claim import Rule
from cfgbench.claims.curves import chosen, gaps
from cfgbench.claims.evidence import Evidence, at
from cfgbench.claims.findings import Finding, exact, in_each, over_seeds
from cfgbench.claims.speeds import ratio, speed, weights_ratio


def birth(evidence: Evidence) -> list[Finding]:
    """1: without guidance there is no diffusion model to speak of."""
    arms = evidence.arms("p_uncond", "cfg")
    accuracy = [evidence.value("accuracy", at(arm, 1)) for arm in arms]
    share = [evidence.value("fid", at(arm, 1)).value / evidence.value("fid", at(arm, 0)).value for arm in arms]
    return [
        Finding("accuracy of unguided samples", in_each(accuracy), 0.5, above=False),
        Finding("FID of unguided samples over FID of unconditional ones", over_seeds(share), 0.5),
    ]


def two_in_memory(evidence: Evidence) -> list[Finding]:
    """4: guidance by a second network needs the memory of two."""
    grown = weights_ratio(speed(evidence, "digits", "classifier"), speed(evidence, "digits", "unguided"))
    return [Finding("bytes of weights, classifier guidance over unguided", exact(grown), 1.5)]


def one_model(evidence: Evidence) -> list[Finding]:
    """5: CFG holds one model."""
    grown = weights_ratio(speed(evidence, "digits", "cfg"), speed(evidence, "digits", "unguided"))
    return [Finding("bytes of weights, CFG over unguided", exact(grown), 1.01, above=False)]


def adherence(evidence: Evidence) -> list[Finding]:
    """7: the scale increases how strongly the prompt is followed."""
    arms = evidence.arms("p_uncond", "cfg")
    off, two, five = (chosen(arms, scale) for scale in (1, 2, 5))
    return [
        Finding("CLIP score, s = 2 less s = 1", in_each(gaps(evidence, "clip_score", two, off)), 0),
        Finding("accuracy, s = 2 less s = 1", in_each(gaps(evidence, "accuracy", two, off)), 0),
        Finding("CLIP score, s = 5 less s = 1", in_each(gaps(evidence, "clip_score", five, off)), 0),
    ]


def price(evidence: Evidence) -> list[Finding]:
    """8: CFG has a price in time, which a classifier undercuts."""
    cfg, off = speed(evidence, "digits", "cfg"), speed(evidence, "digits", "unguided")
    classifier = speed(evidence, "digits", "classifier")
    return [
        Finding("seconds per image, CFG over unguided", ratio(cfg, off), 1.5),
        Finding("seconds per image, classifier guidance over CFG", ratio(classifier, cfg), 1, above=False),
    ]


RULES: dict[str, Rule] = {
    "1": birth,
    "4": two_in_memory,
    "5": one_model,
    "7": adherence,
    "8": price,
}
