"""Guidance methods against CFG on a budget: both tuned over what costs no more, in network passes or in seconds.

A budget is what CFG costs in one of the ways that it was run, with so many steps of a sampler. The other method may
spend what it likes of it, but must have tried something that takes more than half: a method that was only run at few
steps is not compared as if it could do no better. Nothing is interpolated, since nobody can sample with 33.7 passes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cfgbench.cell import canonical_json
from cfgbench.reading.tables.compare import seconds_per_image
from cfgbench.reading.tables.methods import difference_row, network_texts
from cfgbench.reading.tables.results import Arm, Column, Fields, Results
from cfgbench.reading.tables.rows import Row
from cfgbench.reading.tables.text import Table, Text, short, with_error
from cfgbench.reading.tables.tuning import Tuned, contests, tune
from cfgbench.records import CellRecord
from cfgbench.scores import statistics
from cfgbench.scores.training_seeds import Difference, together

ROOM = 1.001  # what still counts as the budget
LEAST = 0.5  # of the budget, that a setting tried by the other method must exceed

Cost = Callable[[CellRecord], float | None]


@dataclass(frozen=True)
class AtCost:
    """A method against CFG within a budget, on one network or as the mean over several."""

    contest: Fields
    kind: str  # of cost: NFE, seconds
    run: str  # how CFG was run for it: `ddim, 25 steps`
    budget: float
    other: Tuned  # on the first network, in a row of several
    cfg: Tuned
    spent: float
    networks: int
    gap: Difference | None  # FID, method - CFG, cross-fitted
    p_holm: float | None = None


def compare_at_cost(results: Results) -> list[AtCost]:
    """Every method within every budget of each contest in which CFG was run at several costs, then means over networks.

    Where CFG has one cost only, its comparison with a method at each one's best says it all.
    """
    column = results.column("fid")
    rows: list[AtCost] = []
    for entries in contests(results, column) if column else ():
        for kind, cost in _costs(results).items():
            rows += _in_contest(entries, column, kind, cost) if column else ()
    rows += _over_networks(rows)
    corrected = statistics.holm([row.gap.estimate.p_value if row.gap else None for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]


def cost_rows(rows: Iterable[AtCost]) -> list[Row]:
    """`equal_cost.csv`."""
    return [_row(row) for row in rows]


def cost_table(rows: Sequence[AtCost]) -> Table:
    """What `equal_cost.csv` says, as text."""
    caption = (
        "Each method and CFG at their best FID among the settings that cost no more than CFG does in the run named: in "
        "network passes, a classifier's own not counted, or in seconds on the machine of the run. FID differences are "
        "to CFG on the same noise, cross-fitted; p is Holm's over the table. Rows of several networks: mean and "
        "interval over training seeds."
    )
    header = ("model", "budget", "method", "setting", "spent", "CFG's setting", "FID - CFG's", "p")
    networks = network_texts([(row.contest, row.networks) for row in rows])
    texts = tuple((network, *_texts(row)) for network, row in zip(networks, rows, strict=True))
    return Table(caption, header, texts)


def _costs(results: Results) -> Mapping[str, Cost]:
    def seconds(record: CellRecord) -> float | None:
        found = seconds_per_image(results, record)
        return None if found is None else found[0]

    return {"NFE": lambda record: record.nfe, "seconds": seconds}


def _in_contest(entries: Sequence[Tuned], column: Column, kind: str, cost: Cost) -> Iterator[AtCost]:
    cfg, *others = entries
    runs = _budgets(cfg, cost)
    for run, budget in runs.items() if len(runs) > 1 else ():
        baseline = _within(cfg, column, cost, budget)
        for other in others:
            found = _within(other, column, cost, budget)
            if baseline is None or found is None:
                continue
            gap = Difference((found.cross_fitted - baseline.cross_fitted)[None])
            spent = cost(found.record) or 0.0
            yield AtCost(cfg.contest, kind, run, budget, found, baseline, spent, 1, gap)


def _budgets(cfg: Tuned, cost: Cost) -> dict[str, float]:
    """What CFG costs in each run where that is known, cheapest first."""
    costs = ((record, cost(record)) for arm in cfg.arms for record in _guided(arm))
    known = {_run(record): spent for record, spent in costs if spent is not None}  # not of samples made elsewhere
    return dict(sorted(known.items(), key=lambda item: item[1]))


def _run(record: CellRecord) -> str:
    diffusion = record.cell.sampler
    return f"{diffusion.sampler}, {diffusion.steps} steps"


def _guided(arm: Arm) -> list[CellRecord]:
    """The cells of a curve in which its method is on."""
    return [record for record in arm.records if record.cell.guidance.method == arm.method]


def _within(entry: Tuned, column: Column, cost: Cost, budget: float) -> Tuned | None:
    """A method tuned over what costs no more than a budget; None where nothing takes more than half of it."""
    costs = {record.id: cost(record) for arm in entry.arms for record in arm.records}
    affordable = {id for id, spent in costs.items() if spent is not None and spent <= ROOM * budget}
    guided = [costs[record.id] for arm in entry.arms for record in _guided(arm) if record.id in affordable]
    if max((spent for spent in guided if spent is not None), default=0.0) <= LEAST * budget:
        return None
    arms = [replace(arm, points=tuple(p for p in arm.points if p.record.id in affordable)) for arm in entry.arms]
    return next(iter(tune(entry.method, [arm for arm in arms if arm.points], column, entry.samples)), None)


def _over_networks(rows: Sequence[AtCost]) -> list[AtCost]:
    groups: dict[str, list[AtCost]] = {}
    for row in rows:
        key = canonical_json([row.other.replicate_of, row.kind, row.run, row.other.method])
        groups.setdefault(key, []).append(row)
    several = [found for found in groups.values() if len(found) > 1]
    return [
        replace(
            found[0], contest=found[0].other.replicate_of, networks=len(found), gap=together([row.gap for row in found])
        )
        for found in several
    ]


def _row(row: AtCost) -> Row:
    found: Row = {**row.contest, "networks": row.networks, "cost": row.kind, "run": row.run}
    found |= {"method": row.other.method}
    if row.networks == 1:
        found |= {"budget": row.budget, "setting": row.other.setting, "spent": row.spent}
        found |= {"cells_tried": row.other.cells, "cfg_setting": row.cfg.setting, "cfg_cells_tried": row.cfg.cells}
    return found | difference_row("fid_vs_cfg", row.gap) | {"p_holm": row.p_holm}


def _texts(row: AtCost) -> tuple[Text, ...]:
    several = row.networks > 1
    equal = row.networks == 1 or row.kind == "NFE"  # networks take their seconds each
    budget = f"{_amount(row.kind, row.budget) if equal else row.kind} (CFG, {row.run})"
    own = ("", "", "") if several else (row.other.setting, _amount(row.kind, row.spent), row.cfg.setting)
    gap, p = (with_error(row.gap.estimate) if row.gap else ""), ("" if row.p_holm is None else f"{row.p_holm:.2g}")
    return tuple(map(Text, (budget, row.other.label, *own, gap, p)))


def _amount(kind: str, value: float) -> str:
    return f"{short(value)} NFE" if kind == "NFE" else f"{short(1e3 * value)} ms per image"
