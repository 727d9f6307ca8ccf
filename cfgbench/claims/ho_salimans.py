"""Claims 9 to 20: Ho & Salimans 2022, the paper that proposed CFG."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

from cfgbench.claims.claim import Rule
from cfgbench.claims.curves import at_equal, chosen, differences, from_scale, gaps, means, tuned
from cfgbench.claims.evidence import Arms, Evidence, at, gans, scales
from cfgbench.claims.findings import (
    Finding,
    Measured,
    exact,
    in_each,
    over_groups,
    over_seeds,
    size,
    spread,
)
from cfgbench.reading.tables.results import Arm
from cfgbench.scores.statistics import Estimate, t_interval

LEVELS = (1.1, 1.2, 1.3)  # scales of the networks with p_uncond 0.1 whose IS are the levels to match at
WEAK_GUIDANCE = 1.5  # s = 1 + w; the paper's best w are 0.1 to 0.4


def small_scale(evidence: Evidence) -> list[Finding]:
    """9: best FID at small guidance, best IS at the strongest."""
    arms = from_scale(evidence.arms("p_uncond", "cfg"), 1)
    last = chosen(arms, scales(arms)[-1])
    best = [_best(evidence, arm, "fid") for arm in arms]
    return [
        Finding("best scale by FID", spread(best), 1),
        Finding("best scale by FID, upper end", spread(best), WEAK_GUIDANCE + 0.01, above=False),
        Finding(
            f"IS at s = {last.scale:g} less the best below",
            in_each([_above_others(evidence, arm, last.scale) for arm in arms]),
            0,
        ),
    ]


def curves(evidence: Evidence) -> list[Finding]:
    """10: FID is U-shaped and IS strictly monotone in w."""
    arms = from_scale(evidence.arms("p_uncond", "cfg"), 1)
    ends = [chosen(arms, scale) for scale in (scales(arms)[0], scales(arms)[-1])]
    best = tuned(evidence, arms)
    return [
        Finding(f"FID at s = {ends[0].scale:g} less the lowest", in_each(gaps(evidence, "fid", ends[0], best)), 0),
        Finding(f"FID at s = {ends[1].scale:g} less the lowest", in_each(gaps(evidence, "fid", ends[1], best)), 0),
        Finding(
            "IS, smallest change from a scale to the next", in_each([_smallest_rise(evidence, a) for a in arms]), 0
        ),
    ]


def frontier(evidence: Evidence) -> list[Finding]:
    """11: half of the labels dropped is too many, a fifth as good as a tenth."""
    tenth, fifth, half = (_of_dropout(evidence, p) for p in (0.1, 0.2, 0.5))
    worst = partial(_smallest_excess, evidence)
    apart = size(over_seeds(_excess(evidence, fifth, tenth, 1.2)))
    return [
        Finding("FID at equal IS, p_uncond 0.5 less 0.1, least of three levels", over_seeds(worst(half, tenth)), 0.05),
        Finding("FID at equal IS, p_uncond 0.5 less 0.2, least of three levels", over_seeds(worst(half, fifth)), 0.05),
        Finding("FID at the IS of s = 1.2, p_uncond 0.2 and 0.1 apart", apart, 0.2, above=False),
    ]


def capacity(evidence: Evidence) -> list[Finding]:
    """12: the unconditional task needs little of the network."""
    losses = evidence.series("losses")
    fewer, more = losses["conditional, p_uncond 0.1"], losses["conditional, p_uncond 0.2"]
    risen = [b / a - 1 for a, b in zip(fewer, more, strict=True)]
    weak, strong = (tuned(evidence, _of_dropout(evidence, p)) for p in (0.1, 0.5))
    gap = differences(means(evidence, weak, "fid"), means(evidence, strong, "fid"))
    return [
        Finding("conditional loss on held-out digits, p_uncond 0.2 over 0.1, less 1", over_seeds(risen), 0.02, False),
        Finding("best FID, p_uncond 0.1 less 0.5", over_seeds(gap), 0.1, above=False),
    ]


def steps_and_scale(evidence: Evidence) -> list[Finding]:
    """13: what more steps bring shrinks as guidance grows."""
    few, many = (evidence.arms("steps_x_scale", "cfg", steps=str(steps)) for steps in (10, 25))
    weak, strong = (
        [abs(gap.value) for gap in gaps(evidence, "fid", chosen(few, scale), chosen(many, scale))] for scale in (1, 2)
    )
    return [
        Finding("change of FID from 10 to 25 steps, at s = 1 less at s = 2", over_seeds(differences(weak, strong)), 0)
    ]


def equal_work(evidence: Evidence) -> list[Finding]:
    """14: two evaluations per step, and at equal evaluations CFG loses slightly to classifier guidance."""
    cfg = tuned(evidence, evidence.arms("steps_x_scale", "cfg", steps="25"))
    classifier = tuned(evidence, from_scale(evidence.arms("steps_x_scale", "classifier", steps="50"), 0.01))
    passes = [one.nfe / (other.nfe or 1) for one, other in zip(cfg.records, classifier.records, strict=True) if one.nfe]
    gap = differences(means(evidence, cfg, "fid"), means(evidence, classifier, "fid"))
    return [
        Finding(
            "network passes, CFG at 25 steps over classifier guidance at 50", exact(sum(passes) / len(passes)), 0.99
        ),
        Finding("best FID, CFG at 25 steps less classifier guidance at 50", over_seeds(gap), 0),
    ]


def beats_gan(evidence: Evidence) -> list[Finding]:
    """15: strong guidance beats a GAN at its best IS."""
    cfg, gan = chosen(evidence.arms("baselines", "cfg"), 5), tuned(evidence, gans(evidence), "inception_score")
    fid, inception = (
        differences(means(evidence, cfg, score), means(evidence, gan, score)) for score in ("fid", "inception_score")
    )
    return [
        Finding("FID, CFG at s = 5 less the GAN truncated for IS", over_seeds(fid), 0, above=False),
        Finding("IS, CFG at s = 5 less the GAN truncated for IS", over_seeds(inception), 0),
    ]


def plane(evidence: Evidence) -> list[Finding]:
    """16: guided Gaussians concentrate, and leave the other classes."""
    series = evidence.series("toy2d")
    return [
        Finding(
            "fall of the variance within classes, least from scale to scale",
            _least(_changes(series, "variance", -1)),
            0,
        ),
        Finding("rise of the distance to the nearest other class, least", _least(_changes(series, "distance", 1)), 0),
    ]


def saturation(evidence: Evidence) -> list[Finding]:
    """17: strong guidance saturates and takes diversity away."""
    arms = evidence.arms("p_uncond", "cfg")
    off, strong = chosen(arms, 1), chosen(arms, 5)
    clipped = [[r.health.clipped_values / max(r.health.values, 1) for r in choice.records] for choice in (strong, off)]
    recall = differences(means(evidence, strong, "recall"), means(evidence, off, "recall"))
    return [
        Finding("share of pixels at black or white, s = 5 less s = 1", over_seeds(differences(*clipped)), 0.01),
        Finding("recall, s = 5 less s = 1", over_seeds(recall), -0.05, above=False),
    ]


def powered(evidence: Evidence) -> list[Finding]:
    """18: CFG does not sample the density raised to a power, and ODE and SDE differ."""
    series, scale = evidence.series("nested"), 2
    ode, sde = (over_groups(series[f"{kind} variance s={scale}"]) for kind in ("ode", "sde"))
    power = 2 / (scale + 1)  # variance of N(0, 1)^s N(0, 2)^(1 - s)
    apart = over_groups(differences(series[f"sde variance s={scale}"], series[f"ode variance s={scale}"]))
    return [
        Finding("variance, ODE less the powered density's", size(_shifted(ode, -power)), 0.02),
        Finding("variance, SDE less the powered density's", size(_shifted(sde, -power)), 0.02),
        Finding("variance, SDE and ODE apart", size(apart), 0.02),
    ]


def summed(evidence: Evidence) -> list[Finding]:
    """19: the unconditional score from those of all classes."""
    series = evidence.series("sum_over_classes")
    return [
        Finding("largest relative error of the summed prediction", exact(series["relative error"][0]), 1e-6, False),
        Finding("network passes per unconditional prediction, per class", exact(series["passes per class"][0]), 0.99),
    ]


def _best(evidence: Evidence, arm: Arm, score: str) -> float:
    return min(arm.points, key=lambda point: evidence.value(score, point.record).value).scale


def _above_others(evidence: Evidence, arm: Arm, scale: float) -> Estimate:
    """By how much a score (up is better) at a scale exceeds the best at any other."""
    others = [point.record for point in arm.points if point.scale != scale]
    best = max(others, key=lambda record: evidence.value("inception_score", record).value)
    return evidence.gap("inception_score", at(arm, scale), best)


def _smallest_rise(evidence: Evidence, arm: Arm) -> Estimate:
    """The smallest change between neighbours, its interval at 95 % for all neighbours together."""
    records = arm.records
    rises = [evidence.gap("inception_score", b, a) for a, b in pairwise(records)]
    least = min(rises, key=lambda rise: rise.value)
    wide = t_interval(least.value, least.standard_error, 20, 1 - 0.05 / len(rises))
    return Estimate(least.value, least.standard_error, wide, None)


def _of_dropout(evidence: Evidence, p_uncond: float) -> Arms:
    return from_scale(evidence.arms("p_uncond", "cfg", {"p_uncond": p_uncond}), 1)


def _smallest_excess(evidence: Evidence, worse: Arms, better: Arms) -> list[float]:
    """Per network, the excess of FID at equal IS where it is least on average: the frontier's closest approach."""
    return min((_excess(evidence, worse, better, scale) for scale in LEVELS), key=sum)


def _excess(evidence: Evidence, worse: Arms, better: Arms, scale: float) -> list[float]:
    """Per training seed, the excess of FID at the IS that p_uncond 0.1 has at a scale."""
    level = chosen(_of_dropout(evidence, 0.1), scale)
    return at_equal(evidence, zip(worse, better, strict=True), "fid", "inception_score", level)


def _changes(series: Mapping[str, Sequence[float]], name: str, sign: int) -> list[list[float]]:
    """By how much a quantity grows from a scale to the next, per group of samples; with sign -1, falls."""
    grid = sorted(float(key.removeprefix(f"{name} s=")) for key in series if key.startswith(name))
    values = [[sign * value for value in series[f"{name} s={scale:g}"]] for scale in grid]
    return [differences(after, before) for before, after in pairwise(values)]


def _least(changes: list[list[float]]) -> Measured:
    """The change with the lowest end, its interval at 95 % for all changes together."""
    return min((over_groups(change, 1 - 0.05 / len(changes)) for change in changes), key=lambda measured: measured.low)


def _shifted(measured: Measured, by: float) -> Measured:
    return Measured(measured.value + by, measured.low + by, measured.high + by, measured.how)


RULES: dict[str, Rule] = {
    "9": small_scale,
    "10": curves,
    "11": frontier,
    "12": capacity,
    "13": steps_and_scale,
    "14": equal_work,
    "15": beats_gan,
    "16": plane,
    "17": saturation,
    "18": powered,
    "19": summed,
}
