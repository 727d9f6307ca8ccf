"""Claims 37 to 51: methods since 2022 that change where, when and away from what guidance pulls."""

from collections.abc import Sequence
from functools import partial

from cfgbench.claims.claim import Rule
from cfgbench.claims.curves import Choice, chosen, differences, each, gains, means, optimum, tuned
from cfgbench.claims.evidence import Arms, Evidence
from cfgbench.claims.findings import Finding, Measured, exact, over_seeds, size
from cfgbench.claims.speeds import ratio, speed

MIDDLE = "(0.4, 2.5]"  # fixed before any run: 13 of 25 steps
TOO_HIGH = 3.0
COUNTS = 0.05  # FID: about a twentieth of what tuned CFG gains on this testbed
VARIANTS_AT_3: tuple[tuple[str, dict[str, str]], ...] = (
    ("cfg", {"rescale": "0.7"}),
    ("cfg", {"interval": MIDDLE}),
    ("cfg_schedule", {}),
    ("cfg_schedule", {"shape": "decreasing"}),
    ("cfg_schedule", {"shape": "damped"}),
    ("cads", {}),
    ("apg", {}),
    ("cfg_zero", {}),
    ("tcfg", {}),
    ("mambo", {}),
    ("fdg", {"low_share": "0"}),
)
TUNED: tuple[tuple[str, dict[str, str], float], ...] = (
    ("cfg", {"rescale": "0.7"}, 1.3),
    ("cfg", {"interval": MIDDLE}, 1.3),
    ("cfg_schedule", {}, 1.2),
    ("cfg_schedule", {"shape": "decreasing"}, 1.2),
    ("cfg_schedule", {"shape": "damped"}, 1.2),
    ("cads", {"noise_scale": "0.1"}, 1.3),
    ("apg", {}, 1.4),
    ("cfg_zero", {}, 1.2),
    ("tcfg", {}, 1.5),
    ("mambo", {}, 5),
    ("fdg", {}, 1.2),
)


def interval(evidence: Evidence) -> list[Finding]:
    """37: guidance in the middle noise levels only beats full CFG."""
    full, middle = _full(evidence), _middle(evidence)
    best, inside = tuned(evidence, full), tuned(evidence, middle)
    recall = differences(means(evidence, inside, "recall"), means(evidence, best, "recall"))
    shift = differences(*(each(partial(optimum, evidence), arms) for arms in (middle, full)))
    work = [a.nfe / b.nfe for a, b in zip(inside.records, best.records, strict=True) if a.nfe and b.nfe]
    return [
        Finding("FID gain over full CFG, each at its best scale", over_seeds(gains(evidence, inside, best)), COUNTS),
        Finding("recall over full CFG's, each at its best scale", over_seeds(recall), 0),
        Finding("best scale less that of full CFG", over_seeds(shift), 0),
        Finding("network passes over those of full CFG", exact(sum(work) / len(work)), 1.01, above=False),
    ]


def sensitivity(evidence: Evidence) -> list[Finding]:
    """38: in an interval the result depends less on the scale."""
    rises = []
    for arms in (_full(evidence), _middle(evidence)):
        rises.append(
            differences(means(evidence, chosen(arms, 2), "fid"), means(evidence, tuned(evidence, arms), "fid"))
        )
    return [
        Finding(
            "FID at s = 2 above the best, in the interval less full", over_seeds(differences(*rises[::-1])), 0, False
        )
    ]


def interval_speed(evidence: Evidence) -> list[Finding]:
    """39: half of the steps guided saves a fifth of the time."""
    middle = speed(evidence, "interval", "cfg", interval=MIDDLE)
    return [
        Finding(
            "seconds per image over full CFG's", ratio(middle, speed(evidence, "interval", "cfg")), 0.8, above=False
        )
    ]


def autoguidance(evidence: Evidence) -> list[Finding]:
    """40: guidance by a weaker snapshot: quality without loss of diversity."""
    cfg, weak = _cfg(evidence, 1.2), _autoguided(evidence)
    recall = differences(means(evidence, weak, "recall"), means(evidence, cfg, "recall"))
    return [
        Finding("FID gain over tuned CFG", over_seeds(gains(evidence, weak, cfg)), COUNTS),
        Finding("recall less that of tuned CFG", over_seeds(recall), 0),
    ]


def quality_gap(evidence: Evidence) -> list[Finding]:
    """41: a part of CFG's gain is that the unconditional branch is a worse network."""
    off, weak, cfg = _cfg(evidence, 1), _autoguided(evidence), _cfg(evidence, 1.2)
    part, whole = gains(evidence, weak, off), gains(evidence, cfg, off)
    return [
        Finding(
            "FID gain of guidance by a worse network with the same condition, as a share of that of CFG",
            over_seeds([a / b for a, b in zip(part, whole, strict=True)]),
            0.25,
        )
    ]


def frequencies(evidence: Evidence) -> list[Finding]:
    """42: low frequencies of the CFG signal cost diversity and saturate."""
    high_only, cfg = _at(evidence, "fdg", TOO_HIGH, low_share="0"), _cfg(evidence, TOO_HIGH)
    recall = differences(means(evidence, high_only, "recall"), means(evidence, cfg, "recall"))
    return [
        Finding("recall at s = 3, without low frequencies less with", over_seeds(recall), 0),
        Finding(
            "share of saturation left without low frequencies",
            over_seeds(_saturation_left(evidence, high_only)),
            0.75,
            above=False,
        ),
        Finding("FID gain at s = 3", over_seeds(gains(evidence, high_only, cfg)), COUNTS),
    ]


def parallel(evidence: Evidence) -> list[Finding]:
    """43: the parallel component of the update saturates."""
    projected = _at(evidence, "apg", TOO_HIGH, momentum="0")
    return [
        Finding(
            "share of saturation left without the parallel part",
            over_seeds(_saturation_left(evidence, projected)),
            0.75,
            above=False,
        )
    ]


def plus_plus(evidence: Evidence) -> list[Finding]:
    """44: CFG++ works with a scale in [0, 1]."""
    best = _at(evidence, "cfg_plus_plus", 0.2)
    return [
        Finding("FID gain over unguided", over_seeds(gains(evidence, best, _cfg(evidence, 1))), COUNTS),
        Finding(
            "FID less that of tuned CFG",
            over_seeds([-g for g in gains(evidence, best, _cfg(evidence, 1.2))]),
            0.1,
            False,
        ),
    ]


def zero_star(evidence: Evidence) -> list[Finding]:
    """45: CFG-Zero* beats CFG; its first step without movement helps only young networks."""
    young, old = (_still_first_step(evidence, training_steps) for training_steps in (800, 1600))
    plain = gains(evidence, _at(evidence, "cfg_zero", 1.2), _cfg(evidence, 1.2))
    return [
        Finding("FID gain over tuned CFG", over_seeds(plain), COUNTS),
        Finding(
            "FID gain of the still first step, 800 less 1600 training steps", over_seeds(differences(young, old)), 0
        ),
    ]


def cads(evidence: Evidence) -> list[Finding]:
    """46: CADS restores diversity at a high scale."""
    annealed, cfg = _at(evidence, "cads", TOO_HIGH), _cfg(evidence, TOO_HIGH)
    recall = differences(means(evidence, annealed, "recall"), means(evidence, cfg, "recall"))
    return [
        Finding("recall at s = 3, CADS less CFG", over_seeds(recall), 0.02),
        Finding("FID gain over CFG at s = 3", over_seeds(gains(evidence, annealed, cfg)), COUNTS),
    ]


def second_pass(evidence: Evidence) -> list[Finding]:
    """47: the second pass doubles the cost."""
    cfg, off = speed(evidence, "digits", "cfg"), speed(evidence, "digits", "unguided")
    measured = ratio(cfg, off)
    apart = Measured(measured.value - 2, measured.low - 2, measured.high - 2, measured.how)
    return [Finding("seconds per image, CFG over unguided, away from 2", size(apart), 0.25, above=False)]


def redundant(evidence: Evidence) -> list[Finding]:
    """48: late in sampling the second pass is redundant."""
    skipping, cfg = _at(evidence, "adaptive_cfg", 1.2, similarity="0.95"), _cfg(evidence, 1.2)
    saved = [1 - (a.nfe or 0) / (b.nfe or 1) for a, b in zip(skipping.records, cfg.records, strict=True)]
    series = evidence.series("cosine")
    late = [_late_less_early(series[name]) for name in sorted(series)]
    return [
        Finding("share of network passes saved", over_seeds(saved), 0.25),
        Finding(
            "FID lost by skipping", over_seeds([-gain for gain in gains(evidence, skipping, cfg)]), 0.1, above=False
        ),
        Finding("cosine of both predicted images, last quarter of steps less first", over_seeds(late), 0),
    ]


def early_guidance(evidence: Evidence) -> list[Finding]:
    """50: less guidance early is better, at equal mean strength."""
    cfg = _cfg(evidence, 1.2)
    rising, falling = _at(evidence, "cfg_schedule", 1.2), _at(evidence, "cfg_schedule", 1.2, shape="decreasing")
    return [
        Finding(
            "FID gain of an increasing schedule over tuned constant CFG",
            over_seeds(gains(evidence, rising, cfg)),
            COUNTS,
        ),
        Finding(
            "FID gain of an increasing over a decreasing schedule", over_seeds(gains(evidence, rising, falling)), COUNTS
        ),
    ]


def baselines(evidence: Evidence) -> list[Finding]:
    """51: gains over an untuned baseline do not survive a tuned one."""
    high, low = _cfg(evidence, TOO_HIGH), _cfg(evidence, 1.2)
    at_three = [gains(evidence, _at(evidence, name, TOO_HIGH, **rest), high) for name, rest in VARIANTS_AT_3]
    at_best = [gains(evidence, _at(evidence, name, scale, **rest), low) for name, rest, scale in TUNED]
    survivors = sum(over_seeds(gain).low > COUNTS for gain in at_best)
    ahead = sum(over_seeds(gain).low > COUNTS for gain in at_three)
    lost = [sum(column) / len(column) for column in zip(*at_three, strict=True)]
    kept = [sum(column) / len(column) for column in zip(*at_best, strict=True)]
    return [
        Finding("variants of 11 that beat CFG at s = 3", exact(ahead), 5.5),
        Finding("variants of 11 that beat tuned CFG", exact(survivors), 5.5, above=False),
        Finding("mean FID gain of a variant, at s = 3 less tuned", over_seeds(differences(lost, kept)), COUNTS),
    ]


def _full(evidence: Evidence) -> Arms:
    return evidence.arms("interval", "cfg")


def _middle(evidence: Evidence) -> Arms:
    return evidence.arms("interval", "cfg", interval=MIDDLE)


def _cfg(evidence: Evidence, scale: float) -> Choice:
    return _at(evidence, "cfg", scale)


def _at(evidence: Evidence, method: str, scale: float, **parameters: str) -> Choice:
    return chosen(evidence.arms("methods", method, **parameters), scale)


def _autoguided(evidence: Evidence) -> Choice:
    return chosen(evidence.arms("methods", "autoguidance", {"weak_steps": 200}), 2)


def _saturation_left(evidence: Evidence, choice: Choice) -> list[float]:
    """Pixels at black or white above those of unguided samples, as a share of what CFG at that scale has above."""
    shares = [
        [record.health.clipped_values / max(record.health.values, 1) for record in one.records]
        for one in (choice, _cfg(evidence, 1), _cfg(evidence, choice.scale))
    ]
    return [(own - off) / (cfg - off) for own, off, cfg in zip(*shares, strict=True)]


def _still_first_step(evidence: Evidence, training_steps: int) -> list[float]:
    """The FID gain of a first step without movement."""
    network = {"training_steps": training_steps}
    still, moving = (
        chosen(evidence.arms("methods", "cfg_zero", network, **rest), 1.2) for rest in ({"zero_init_steps": "1"}, {})
    )
    return gains(evidence, still, moving)


def _late_less_early(cosines: Sequence[float]) -> float:
    quarter = len(cosines) // 4
    return (sum(cosines[-quarter:]) - sum(cosines[:quarter])) / quarter


RULES: dict[str, Rule] = {
    "37": interval,
    "38": sensitivity,
    "39": interval_speed,
    "40": autoguidance,
    "41": quality_gap,
    "42": frequencies,
    "43": parallel,
    "44": plus_plus,
    "45": zero_star,
    "46": cads,
    "47": second_pass,
    "48": redundant,
    "50": early_guidance,
    "51": baselines,
}
