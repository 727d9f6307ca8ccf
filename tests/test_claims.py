"""Every rule of the ledger of claims decides both ways; verdicts follow intervals; the published one is up to date."""

import csv
import io
import re
from collections.abc import Callable
from math import cos, inf, pi
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cfgbench import cli
from cfgbench.cell import Cell
from cfgbench.claims import curves, findings, ledger, measured, write
from cfgbench.claims.claim import decide, decisive
from cfgbench.claims.evidence import Evidence
from cfgbench.claims.findings import FAILS, HOLDS, NEEDS, UNDECIDED, Finding, Measured
from cfgbench.errors import InputError
from cfgbench.reading.tables.compare import value
from cfgbench.reading.tables.results import Arm, Point, load
from cfgbench.scores.statistics import Estimate
from tests import claims_worlds as worlds
from tests.claims_worlds import World
from tests.test_imports import loaded

ROOT = Path(__file__).parent.parent
BY_NUMBER = {claim.number: claim for claim in ledger.claims()}


def s(cell: Cell) -> float:
    return cell.guidance_scale


def c(cell: Cell) -> float:
    return cell.classifier_scale


def p(cell: Cell) -> float:
    return float(str(cell.model.parameters.get("p_uncond", 0.1)))


def steps(cell: Cell) -> int:
    return cell.sampler.steps


def given(cell: Cell, name: str) -> object:
    return cell.guidance.parameters.get(name)


def method(cell: Cell) -> str:
    return cell.guidance.method


def bowl(best: float, depth: float = 1.0) -> Callable[[Cell], float]:
    """A score with its lowest point at a scale."""
    return lambda cell: depth * (s(cell) - best) ** 2


def when(condition: Callable[[Cell], bool], value: float) -> Callable[[Cell], float]:
    """A score that differs for some cells."""
    return lambda cell: value if condition(cell) else 0.0


def variant(cell: Cell) -> bool:
    """Whether a cell is of a method that the claims on variants compare with CFG."""
    return method(cell) not in ("cfg", "unguided", "unconditional") or bool(
        set(cell.guidance.parameters) - {"guidance_scale"}
    )


def in_the_middle(cell: Cell) -> bool:
    return given(cell, "interval") == (0.4, 2.5)


def guided_by(name: str, **parameters: object) -> Callable[[Cell], bool]:
    return lambda cell: method(cell) == name and all(given(cell, key) == value for key, value in parameters.items())


def slow(cell: Cell) -> float:
    """Seconds that do not depend on the passes."""
    return 1.0


def series(**groups: float) -> dict[str, list[float]]:
    """Twenty group values around each number, under its name with spaces and points restored."""
    wobble = [0.001 * cos(pi * k) for k in range(20)]
    return {name: [value + w for w in wobble] for name, value in groups.items()}


def plane(variance: float, distance: float) -> dict[str, list[float]]:
    """Measured spreads that change by so much from a scale to the next."""
    scales = (1, 1.5, 2, 3, 5, 9)
    made = {f"variance s={x:g}": 2 + variance * i for i, x in enumerate(scales)}
    made |= {f"distance s={x:g}": 2 + distance * i for i, x in enumerate(scales)}
    return series(**made)


def nested(ode: float, sde: float) -> World:
    return World(measured={"nested": series(**{"ode variance s=2": ode, "sde variance s=2": sde})})


def sums(error: float) -> World:
    return World(measured={"sum_over_classes": {"relative error": [error], "passes per class": [1.0]}})


def losses(tenth: float, fifth: float) -> dict[str, dict[str, list[float]]]:
    rows = {"conditional, p_uncond 0.1": tenth, "conditional, p_uncond 0.2": fifth}
    return {"losses": {name: [value * (1 + 1e-3 * seed) for seed in range(3)] for name, value in rows.items()}}


def cosine(rise: float) -> dict[str, dict[str, list[float]]]:
    return {"cosine": {f"images, seed {k}": [0.5 + rise * i / 25 + 1e-3 * k for i in range(25)] for k in range(3)}}


def skipping(cell: Cell) -> float:
    return 30.0 if method(cell) == "adaptive_cfg" else 50.0


def weights(second: int) -> Callable[[Cell], dict[str, int]]:
    return lambda cell: {"main": 300, "classifier": second}


def heavier(cell: Cell) -> dict[str, int]:
    return {"main": 600 if method(cell) == "cfg" else 300, "classifier": 320}


WITHOUT_CFG = {
    "accuracy": lambda cell: -0.5,
    "fid": lambda cell: 3.0 if method(cell) in ("unguided", "unconditional") and cell.diffusion else 0.0,
}
ABOVE_THE_GAN = {
    "fid": lambda cell: 3.0 if cell.diffusion is None else 0.0,
    "inception_score": lambda cell: -1.0 if cell.diffusion is None else 0.0,
}
RISING = {"clip_score": s, "accuracy": lambda cell: 0.01 * s(cell)}
U_SHAPE = {"fid": bowl(1.2, 0.5), "inception_score": lambda cell: 0.2 * s(cell)}
PEAKED_IS = {"fid": bowl(1.2, 0.5), "inception_score": lambda cell: -0.2 * (s(cell) - 2) ** 2}
SATURATED = {"clipped": lambda cell: 0.02 * s(cell), "recall": lambda cell: -0.05 * s(cell)}
CLASSIFIED = {
    "precision": lambda cell: 0.02 * c(cell),
    "recall": lambda cell: -0.05 * c(cell),
    "fid": lambda cell: (c(cell) - 0.5) ** 2,
}


def frontier(half: float) -> dict[str, Callable[[Cell], float]]:
    return {"inception_score": s, "fid": lambda cell: s(cell) + (half if p(cell) == 0.5 else 0)}


def from_unconditional(best: float, missing: float = 1.0) -> dict[str, Callable[[Cell], float]]:
    """FID of the unconditional branch, far off without guidance, `missing` above the conditional one at its best."""

    def fid(cell: Cell) -> float:
        if method(cell) == "unconditional":
            return 25.0
        return missing + 0.1 * (c(cell) - best) ** 2 if method(cell) == "classifier_uncond" else 0.0

    return {"fid": fid}


def shifting(few: float, many: float) -> dict[str, Callable[[Cell], float]]:
    """FID whose best scale is s = 1 + shift, or that share of the classifier's, by the number of steps."""

    def fid(cell: Cell) -> float:
        shift = few if steps(cell) <= 10 else many
        return (c(cell) - shift) ** 2 if c(cell) else (s(cell) - 1 - shift) ** 2

    return {"fid": fid}


def narrow(fid: float, recall: float, shift: float) -> dict[str, Callable[[Cell], float]]:
    """The middle interval beside full CFG: so much better at its best, in recall, in its best scale."""

    def distance(cell: Cell) -> float:
        inside = in_the_middle(cell)
        return (s(cell) - 1.3 - (shift if inside else 0)) ** 2 - (fid if inside else 0)

    return {"fid": distance, "recall": when(in_the_middle, recall)}


def equal_scores(fid: float, inception: float) -> dict[str, Callable[[Cell], float]]:
    """Curves of CFG on which IS and recall change with the scale, and the interval's, better by so much."""
    return {
        "inception_score": lambda cell: s(cell) + (inception if in_the_middle(cell) else 0),
        "recall": lambda cell: -0.1 * s(cell),
        "fid": lambda cell: s(cell) + (fid if in_the_middle(cell) else 0),
    }


def gain(name: str, better: float, cfg: float = 1.0, **parameters: object) -> dict[str, Callable[[Cell], float]]:
    """FID at which CFG is better than unguided by `cfg`, and one method better than CFG by `better`."""
    chosen = guided_by(name, **parameters)
    return {"fid": lambda cell: -cfg * (method(cell) != "unguided") - (better if chosen(cell) else 0)}


def saturating(name: str, left: float, **parameters: object) -> Callable[[Cell], float]:
    """Share of clipped pixels above unguided: 0.1 for CFG, that share of it for one method."""
    chosen = guided_by(name, **parameters)
    return lambda cell: 0.0 if method(cell) == "unguided" else 0.1 * (left if chosen(cell) else 1)


def schedule(rising: float, falling: float) -> dict[str, Callable[[Cell], float]]:
    def fid(cell: Cell) -> float:
        if method(cell) != "cfg_schedule":
            return 0.0
        return {None: -rising, "decreasing": -falling}.get(given(cell, "shape"), 0.0)  # type: ignore[call-overload]

    return {"fid": fid}


def still(young: float, old: float, plain: float = 0.2) -> dict[str, Callable[[Cell], float]]:
    """FID gains of a still first step on young and on old networks, and of CFG-Zero* without it."""

    def fid(cell: Cell) -> float:
        if method(cell) != "cfg_zero":
            return 0.0
        long = cell.model.parameters.get("training_steps") == 1600
        return -plain - (old if long else young) * bool(given(cell, "zero_init_steps"))

    return {"fid": fid}


def at_three_only(high: float, tuned: float) -> dict[str, Callable[[Cell], float]]:
    return {"fid": lambda cell: -(high if s(cell) == 3 else tuned) * variant(cell)}


WEAK_IN_RECALL = {"recall": when(guided_by("autoguidance"), 0.05)}
MOMENTUM = {"fid": when(guided_by("apg", parallel_share=1.0), -1.0)}
PROJECTION = {"fid": when(guided_by("apg", momentum=0.0), -1.0)}
FEW_STEPS = {
    "inception_score": lambda cell: -0.01 * steps(cell),
    "precision": lambda cell: -0.001 * steps(cell),
    "recall": lambda cell: 0.001 * steps(cell),
}
EQUAL_WORK = {"fid": lambda cell: (c(cell) - 0.2) ** 2 if c(cell) else 1 + (s(cell) - 1.2) ** 2}
MORE_STEPS = {"fid": lambda cell: (1 if s(cell) < 1.5 else 0.1) * (steps(cell) == 10)}
MORE_AT_HIGH = {"fid": lambda cell: (0.1 if s(cell) < 1.5 else 1) * (steps(cell) == 10)}
GUIDED_SOONER = {"fid": lambda cell: 0.0 if s(cell) != 1 else 1.0}
CONDITIONAL_BEST = {"fid": lambda cell: 2.0 if method(cell) != "classifier" else 1 + (c(cell) - 0.5) ** 2}
CLASSIFIER_AWARE = {"fid": when(guided_by("contrasts:clean_classifier"), 0.5)}
CADS = {"recall": when(guided_by("cads"), 0.1), "fid": when(guided_by("cads"), -1.0)}
FDG = {
    "recall": when(guided_by("fdg", low_share=0.0), 0.1),
    "fid": when(guided_by("fdg", low_share=0.0), -1.0),
}
PAG = {"fid": when(guided_by("pag"), 1.0)}
SLG = {"fid": when(guided_by("slg"), 1.0)}


def both(changes: dict[str, Callable[[Cell], float]]) -> tuple[World, World]:
    """A world and its mirror image."""
    return World(changes), worlds.mirrored(World(changes))


# of each claim, a world in which it must hold and one in which it must not
WORLDS: dict[str, tuple[World, World]] = {
    "1": both(WITHOUT_CFG),
    "2": (World(costs=worlds.costs(networks=2)), World(costs=worlds.costs(networks=1))),
    "3": (World(costs=worlds.costs(work=0.9)), World(costs=worlds.costs(work=0.1))),
    "4": (World(weights=weights(320)), World(weights=weights(10))),
    "5": (World(), World(weights=heavier)),
    "6": (World(costs=worlds.costs(lines=2)), World(costs=worlds.costs(lines=9))),
    "7": both(RISING),
    "8": (World(seconds=lambda cell: cell.evaluations), World(seconds=slow)),
    "9": (World(U_SHAPE), World(PEAKED_IS)),
    "10": (World(U_SHAPE), World(PEAKED_IS)),
    "11": (World(frontier(0.5)), World(frontier(-0.5))),
    "12": (World(measured=losses(1.0, 1.005)), World(measured=losses(1.0, 1.05))),
    "13": (World(MORE_STEPS), World(MORE_AT_HIGH)),
    "14": both(EQUAL_WORK),
    "15": both(ABOVE_THE_GAN),
    "16": (World(measured={"toy2d": plane(-0.1, 0.1)}), World(measured={"toy2d": plane(0.1, -0.1)})),
    "17": both(SATURATED),
    "18": (nested(0.5, 0.58), nested(2 / 3, 2 / 3)),
    "19": (sums(1e-12), sums(1e-2)),
    "21": both(CLASSIFIED),
    "22": (World(from_unconditional(3)), World(from_unconditional(3, missing=-1.0))),
    "23": (World(CONDITIONAL_BEST), World({"fid": when(guided_by("classifier"), 1.0)})),
    "24": (World(GUIDED_SOONER), World({"fid": lambda cell: 1.0 * (steps(cell) == 10)})),
    "25": (World(shifting(0.4, 0.15)), World(shifting(0.15, 0.4))),
    "26": (World(gain("contrasts:temperature", -0.8)), World(gain("contrasts:temperature", -0.1))),
    "27": both(CLASSIFIER_AWARE),
    "37": (World(narrow(0.3, 0.05, 0.2)), World(narrow(-0.3, -0.05, -0.1))),
    "38": (World(narrow(0, 0, 0.4)), World(narrow(0, 0, -0.1))),
    "39": (World(seconds=lambda cell: 0.7 if in_the_middle(cell) else 1.0), World(seconds=slow)),
    "40": (
        World(gain("autoguidance", 0.3) | WEAK_IN_RECALL),
        World(gain("autoguidance", -0.3)),
    ),
    "41": (World(gain("autoguidance", -0.2)), World(gain("autoguidance", -0.95))),
    "42": (
        World(FDG | {"clipped": saturating("fdg", 0.3, low_share=0.0)}),
        World({"clipped": saturating("fdg", 1.2, low_share=0.0)}),
    ),
    "43": (World({"clipped": saturating("apg", 0.3, momentum=0.0)}), World({"clipped": saturating("apg", 1.1)})),
    "44": (World(gain("cfg_plus_plus", 0)), World(gain("cfg_plus_plus", -0.5))),
    "45": (World(still(0.5, 0.0)), World(still(0.0, 0.5, plain=-0.2))),
    "46": both(CADS),
    "47": (World(seconds=lambda cell: cell.evaluations), World(seconds=slow)),
    "48": (
        World(passes=skipping, measured=cosine(0.4)),
        World(passes=skipping, measured=cosine(-0.4)),
    ),
    "50": (World(schedule(0.3, -0.3)), World(schedule(-0.3, 0.3))),
    "51": (World(at_three_only(1.0, 0.0)), World(at_three_only(0.0, 1.0))),
    "T1": (
        World({"fid": lambda cell: (s(cell) - 1.1 - p(cell)) ** 2}),
        World({"fid": lambda cell: (s(cell) - 1.7 + p(cell)) ** 2}),
    ),
    "T2": both(FEW_STEPS),
    "T3": (World(from_unconditional(3)), World({"fid": lambda cell: (c(cell) - 0.2) ** 2})),
    "T4": (World(equal_scores(-0.3, 0)), World(equal_scores(0.3, 0))),
    "T5": (World(equal_scores(0, 0.2)), World(equal_scores(0, -0.2))),
    "T6": both(PAG),
    "T7": (World(), World(SLG)),
    "T8": (World(MOMENTUM), World(PROJECTION)),
}


def verdict(number: str, world: World) -> str:
    claim = BY_NUMBER[number]
    return decide(claim, worlds.evidence(world, *claim.experiments)).verdict


@pytest.mark.parametrize("number", WORLDS)
def test_a_rule_lets_its_claim_hold_in_a_world_where_it_does(number: str) -> None:
    assert verdict(number, WORLDS[number][0]) == HOLDS


@pytest.mark.parametrize("number", WORLDS)
def test_a_rule_decides_against_its_claim_in_a_world_where_it_does_not_hold(number: str) -> None:
    assert verdict(number, WORLDS[number][1]) == FAILS


def test_every_rule_is_tried_both_ways() -> None:
    assert set(WORLDS) == set(ledger.RULES)


@pytest.mark.parametrize("number", ["22", "27", "38", "40", "42", "46", "50", "T1", "T2"])
def test_training_seeds_that_disagree_leave_a_claim_undecided(number: str) -> None:
    world = WORLDS[number][0]
    assert verdict(number, World(world.changes, world.measured, spread=1.0)) == UNDECIDED


def test_the_ledger_has_every_claim_once_with_a_rule_or_a_need() -> None:
    numbers = [claim.number for claim in ledger.claims()]
    assert numbers[:55] == [str(k) for k in range(1, 56)]
    assert numbers[55:] == [f"T{k}" for k in range(1, len(numbers) - 54)]
    for claim in ledger.claims():
        assert (claim.rule is None) == bool(claim.needs) == (not claim.criterion), claim.number
        assert bool(claim.experiments) == (claim.rule is not None)


@pytest.mark.parametrize("number", WORLDS)
def test_every_margin_stands_in_the_words_of_its_rule(number: str) -> None:
    claim = BY_NUMBER[number]
    decision = decide(claim, worlds.evidence(WORLDS[number][0], *claim.experiments))
    words = [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?(?:e-\d+)?", claim.criterion.replace("/", " "))]
    assert all(finding.threshold in words for finding in decision.findings), claim.criterion


def test_what_is_not_there_is_named_and_never_decided() -> None:
    for claim in ledger.claims():
        decision = decide(claim, Evidence({}))
        assert decision.verdict == NEEDS and decision.lacking and not decision.findings


def test_an_unfinished_experiment_decides_nothing() -> None:
    found = worlds.evidence(World(RISING), "p_uncond")
    results = found.results["p_uncond"]
    part = dict(list(results.records.items())[:-1])
    cut = type(results)(results.folder, results.plan, part, results.speeds, results.columns)
    decision = decide(BY_NUMBER["7"], Evidence({"p_uncond": cut}))
    assert decision.verdict == NEEDS and "1 of 102 cells" in decision.lacking


def test_experiments_that_mean_different_scores_are_never_mixed() -> None:
    found = worlds.evidence(World(), "p_uncond", "interval")
    other = found.results["interval"]
    columns = tuple(type(one)(one.name, one.metric, {"metric": "another"}, True) for one in other.columns)
    changed = type(other)(other.folder, other.plan, other.records, other.speeds, columns)
    with pytest.raises(InputError, match="fid of interval"):
        Evidence({**found.results, "interval": changed}).column("fid")


@pytest.mark.parametrize(
    ("low", "high", "above", "expected"),
    [
        (0.2, 0.4, True, HOLDS),
        (-0.4, 0.05, True, FAILS),
        (-0.1, 0.3, True, UNDECIDED),
        (-0.4, 0.05, False, HOLDS),
        (0.2, 0.4, False, FAILS),
        (-inf, inf, True, UNDECIDED),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_threshold(
    low: float, high: float, above: bool, expected: str
) -> None:
    assert Finding("x", Measured(0.0, low, high, ""), 0.1, above).verdict == expected


def test_one_finding_that_does_not_hold_decides_and_one_undecided_leaves_open() -> None:
    yes, no, unclear = (Finding("x", Measured(v, v - 1, v + 1, ""), 0) for v in (2, -2, 0))
    assert findings.together([yes, yes]) == HOLDS
    assert findings.together([yes, unclear]) == UNDECIDED
    assert findings.together([yes, unclear, no]) == FAILS


def test_the_mean_over_training_seeds_has_students_interval() -> None:
    values = [1.0, 1.4, 0.9]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    found = findings.over_seeds(values)
    assert (found.low, found.high) == pytest.approx(expected)
    with pytest.raises(ValueError, match="two"):
        findings.over_seeds([1.0])


def test_the_mean_over_training_seeds_covers_the_true_one() -> None:
    rng = np.random.default_rng(0)
    drawn = (findings.over_seeds(rng.normal(size=3).tolist()) for _ in range(4000))
    assert np.mean([one.low < 0 < one.high for one in drawn]) == pytest.approx(0.95, abs=0.012)


def test_several_networks_show_something_only_if_each_does() -> None:
    shown, unclear = Estimate(1.0, 0.1, (0.8, 1.2), None), Estimate(0.1, 0.1, (-0.1, 0.3), None)
    assert Finding("x", findings.in_each([shown, shown]), 0).verdict == HOLDS
    assert Finding("x", findings.in_each([shown, unclear]), 0).verdict == UNDECIDED
    assert Finding("x", findings.in_each([shown, Estimate(1.0, None, None, None)]), 0).verdict == UNDECIDED


@pytest.mark.parametrize(("low", "high", "expected"), [(-0.1, 0.3, (0, 0.3)), (0.2, 0.3, (0.2, 0.3)), (-3, -1, (1, 3))])
def test_the_size_of_a_difference_keeps_its_interval(low: float, high: float, expected: tuple[float, float]) -> None:
    found = findings.size(Measured((low + high) / 2, low, high, ""))
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("value", [-3.0, -0.5, 0.5, 3.0])
def test_standing_beyond_one_half_width_is_what_decides(value: float, above: bool) -> None:
    finding = Finding("x", Measured(value, value - 2, value + 1, ""), 0, above)
    standing = findings.standing(finding)
    assert (standing > 1, standing < -1) == (finding.verdict == HOLDS, finding.verdict == FAILS)
    assert findings.standing(Finding("x", findings.exact(2), 1)) == inf


def _arm(scores: dict[float, float]) -> tuple[Evidence, Arm]:
    """A curve of digits cells with these values of FID; IS is the scale."""
    cells = worlds.cells("p_uncond")
    ours = {s(cell): cell for cell in cells if p(cell) == 0.1 and not worlds.training_seed(cell)}
    world = World({"fid": lambda cell: scores.get(s(cell), 0.0), "inception_score": s})
    points = tuple(Point(scale, worlds.record(world, ours[scale])) for scale in sorted(scores))
    return worlds.evidence(world, "p_uncond"), Arm({}, "cfg", "guidance_scale", points)


def test_the_best_scale_lies_at_the_vertex_of_a_parabola() -> None:
    truth = 1.27
    found, arm = _arm({scale: 3 * (scale - truth) ** 2 for scale in (1, 1.1, 1.2, 1.3, 1.5, 2)})
    assert curves.optimum(found, arm) == pytest.approx(truth, abs=2e-3)
    found, arm = _arm({scale: scale for scale in (1, 1.1, 1.2)})
    assert curves.optimum(found, arm) == 1


def test_scores_that_no_curve_reaches_are_not_matched() -> None:
    world = World({"inception_score": lambda cell: s(cell) * (1 if p(cell) == 0.1 else 0.1)})
    decision = decide(BY_NUMBER["11"], worlds.evidence(world, "p_uncond"))
    assert decision.verdict == NEEDS and "does not reach" in decision.lacking


def test_the_ledger_is_the_same_bytes_twice_and_in_any_folder(tmp_path: Path) -> None:
    def made(folder: Path) -> dict[str, bytes]:
        assert cli.main(["claims", str(ROOT / "results"), "--output", str(folder)]) == 0
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    assert first == second and {"claims.csv", "findings.csv", "claims.md", "claims.tex"} <= set(first)
    published = {name: (ROOT / "results" / "claims" / name).read_bytes() for name in first if "figures" not in name}
    assert {name: content for name, content in first.items() if name in published} == published


def test_the_ledger_is_made_without_torch(tmp_path: Path) -> None:
    code, running, _ = loaded("claims", ROOT / "results", "--output", tmp_path)
    assert (code, running) == (0, [])


def test_the_published_ledger_decides_the_article_and_half_of_the_rest() -> None:
    rows = list(csv.DictReader(io.StringIO((ROOT / "results" / "claims" / "claims.csv").read_text(encoding="utf-8"))))
    decided = [row["number"] for row in rows if row["verdict"] in (HOLDS, FAILS)]
    assert {str(k) for k in range(1, 9)} <= set(decided)
    assert len(set(decided) & {str(k) for k in range(1, 56)}) >= 25
    assert {row["verdict"] for row in rows} <= set(findings.VERDICTS)


def test_no_bound_is_written_as_minus_zero() -> None:
    assert findings.with_interval(Measured(0.12, -0.0004, 0.25, "t")) == "0.12 [0.00, 0.25]"


def test_an_experiment_has_its_share_of_the_ledger(tmp_path: Path) -> None:
    found = worlds.evidence(WORLDS["7"][0], "p_uncond")
    decisions = ledger.judge(found)
    (tmp_path / "p_uncond").mkdir()
    (tmp_path / "p_uncond" / "plan.json").touch()
    assert write.write_shares(decisions, tmp_path) == [tmp_path / "p_uncond" / "claims.csv"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p_uncond" / "claims.csv").read_text(encoding="utf-8"))))
    assert {"7", "9", "10"} <= {row["number"] for row in rows}
    assert all("p_uncond" in row["experiments"] for row in rows)


def test_the_decisive_finding_is_the_one_least_on_the_claims_side() -> None:
    found = worlds.evidence(WORLDS["9"][1], "p_uncond")
    assert decisive(decide(BY_NUMBER["9"], found)).statement.startswith("IS at s = 5")


def test_a_measurement_comes_back_as_it_was_written(tmp_path: Path) -> None:
    one = measured.Measurement(name="x", about="y", series={"a": (0.1, 0.2)}, machine=worlds.synthetic.MACHINE)
    measured.write(one, tmp_path)
    assert measured.read(tmp_path) == {"x": {"a": (0.1, 0.2)}}
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="--measure"):
        measured.read(tmp_path)


def test_methods_yaml_holds_the_winners_of_tuning() -> None:
    """The cell with the lowest FID of five is in the experiment that compares methods, for each that it compares."""
    tuning = load(ROOT / "results" / "methods_tuning")
    column = tuning.column("fid")
    assert column is not None
    groups: dict[tuple[object, ...], list[tuple[float, str]]] = {}
    for record in tuning.done:
        cell, fid = record.cell, value(column, record)
        key = (method(cell), *(given(cell, name) for name in ("rescale", "interval", "shape")))
        if fid is not None and "attention" not in cell.model.parameters and method(cell) != "adaptive_cfg":
            groups.setdefault(key, []).append((fid.value, cell.id))
    compared = {cell.id for cell in worlds.cells("methods")}
    assert len(groups) == 18
    assert {key for key, found in groups.items() if min(found)[1] not in compared} == set()
