"""Claims 1 to 8: an article for beginners (D. Chaplinsky, habr.com/ru/articles/751718), where many learn of CFG."""

from math import inf

from cfgbench.claims.claim import Rule
from cfgbench.claims.curves import chosen, differences, gaps, means
from cfgbench.claims.evidence import Evidence, at, gans
from cfgbench.claims.findings import Finding, exact, in_each, over_seeds
from cfgbench.claims.speeds import BATCH, ratio, speed, weights_ratio


def birth(evidence: Evidence) -> list[Finding]:
    """1: without guidance there is no diffusion model to speak of."""
    arms = evidence.arms("p_uncond", "cfg")
    accuracy = [evidence.value("accuracy", at(arm, 1)) for arm in arms]
    share = [evidence.value("fid", at(arm, 1)).value / evidence.value("fid", at(arm, 0)).value for arm in arms]
    unguided, gan = chosen(evidence.arms("baselines", "cfg"), 1), chosen(gans(evidence), inf)
    behind = differences(means(evidence, unguided, "fid"), means(evidence, gan, "fid"))
    return [
        Finding("accuracy of unguided samples", in_each(accuracy), 0.5, above=False),
        Finding("FID of unguided samples over FID of unconditional ones", over_seeds(share), 0.5),
        Finding("FID, unguided diffusion less the GAN", over_seeds(behind), 0),
    ]


def corrects(evidence: Evidence) -> list[Finding]:
    """2: a GAN's discriminator corrects its images."""
    loaded = evidence.costs.held("gan", BATCH).weights_bytes
    return [Finding("networks that sampling from the GAN loads", exact(len(loaded)), 1.5)]


def twice_the_work(evidence: Evidence) -> list[Finding]:
    """3: a second network to train is twice the work."""
    classifier, diffusion = (evidence.costs.trained(name) for name in ("classifier", "diffusion"))
    return [
        Finding("training FLOPs, classifier over diffusion network", exact(classifier.flops / diffusion.flops), 0.5)
    ]


def two_in_memory(evidence: Evidence) -> list[Finding]:
    """4: guidance by a second network needs the memory of two."""
    grown = weights_ratio(speed(evidence, "digits", "classifier"), speed(evidence, "digits", "unguided"))
    return [Finding("bytes of weights, classifier guidance over unguided", exact(grown), 1.5)]


def one_model(evidence: Evidence) -> list[Finding]:
    """5: CFG holds one model."""
    grown = weights_ratio(speed(evidence, "digits", "cfg"), speed(evidence, "digits", "unguided"))
    return [Finding("bytes of weights, CFG over unguided", exact(grown), 1.01, above=False)]


def few_lines(evidence: Evidence) -> list[Finding]:
    """6: a couple of lines."""
    found = []
    for part, most in (("sampling", 3.5), ("training", 2.5)):
        code = [one for one in evidence.costs.code if (one.method, one.part) == ("cfg", part)]
        touched, net = sum(len(one.added) for one in code), sum(len(one.added) - len(one.removed) for one in code)
        found.append(Finding(f"lines that CFG adds to {part} ({touched} touched)", exact(net), most, above=False))
    return found


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
    "2": corrects,
    "3": twice_the_work,
    "4": two_in_memory,
    "5": one_model,
    "6": few_lines,
    "7": adherence,
    "8": price,
}
