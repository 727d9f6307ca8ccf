"""Guidance methods against tuned CFG: each at its own best setting, with what the search for it cost.

The best of many cells flatters itself on the samples that it was chosen by, so differences are cross-fitted: half of
the samples choose, the other half judges, and the other way round. P-values are corrected for the number of comparisons
in the table (Holm). Where equally trained networks of several training seeds took part, a row says what holds on
average, with the spread between networks as the error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfgbench import statistics
from cfgbench.cell import ModelRef
from cfgbench.statistics import Estimate
from cfgbench.tables import matched
from cfgbench.tables.compare import seconds_per_image, value
from cfgbench.tables.results import Results
from cfgbench.tables.rows import Row
from cfgbench.tables.text import BEST, TIED, Table, Text, with_error
from cfgbench.tables.tuning import Tuned, contests


@dataclass(frozen=True)
class Comparison:
    """A method against tuned CFG: score differences, method - CFG; None where they cannot be had."""

    model: str
    contest: str
    tuned: Tuned  # of the first network, in a row of several
    networks: int
    gap: Estimate | None  # of cross-fitted scores; None for CFG itself
    p_holm: float | None = None
    at_matched: tuple[tuple[str, Estimate | None], ...] = ()


def compare_methods(results: Results) -> list[Comparison]:
    """All methods of every contest that CFG took part in with another, then the means over training seeds."""
    column = results.column("fid")
    found = [] if column is None else contests(results, column)
    single = [row for model, entries in found for row in _against_cfg(results, model, entries)]
    rows = [*single, *_over_networks(single)]
    corrected = statistics.holm([row.gap.p_value if row.gap else None for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]


def method_rows(results: Results, rows: Iterable[Comparison]) -> list[Row]:
    """`methods.csv`."""
    return [_row(results, row) for row in rows]


def methods_table(results: Results, rows: Sequence[Comparison]) -> Table:
    """What `methods.csv` says, as text; the lowest FID of a contest in bold, what is not shown worse underlined."""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.at_matched))
    texts = tuple(_texts(results, row, rows, names) for row in rows)
    caption = (
        "Each method at its best FID. FID is cross-fitted: half of the samples choose the setting, the others judge. "
        "Differences are to tuned CFG on the same noise; p is Holm's over the table. Rows of several networks: mean "
        "and interval over training seeds. Best of a contest in bold, those not shown to differ from it underlined."
    )
    matches = tuple(f"FID difference at CFG's {name}" for name in names)
    header = ("model", "method", "setting", "cells tried", "FID", "FID - CFG's", "p", *matches, "NFE", "seconds ratio")
    return Table(caption, header, texts)


def _against_cfg(results: Results, model: ModelRef, entries: Sequence[Tuned]) -> list[Comparison]:
    cfg, *others = entries
    contest = cfg.record.id
    return [
        Comparison(model.label, contest, cfg, 1, None),
        *(
            Comparison(model.label, contest, other, 1, _gap(other, cfg), at_matched=_matches(results, other, cfg))
            for other in others
        ),
    ]


def _gap(other: Tuned, cfg: Tuned) -> Estimate:
    return statistics.mean_of(other.cross_fitted - cfg.cross_fitted)


def _matches(results: Results, other: Tuned, cfg: Tuned) -> tuple[tuple[str, Estimate | None], ...]:
    column = results.column("fid")
    found = []
    for on in matched.levels(results.columns) if column else ():
        match = matched.at_matched(other.arm, cfg.arm, column, on, cfg.record) if column else None
        found.append((on.label, match.gap if isinstance(match, matched.Matched) else None))
    return tuple(found)


def _over_networks(rows: Sequence[Comparison]) -> list[Comparison]:
    """The mean difference of each method over networks that differ in their training seed alone."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for row in rows:
        if row.gap is not None:
            groups.setdefault((row.tuned.replicate_of, row.tuned.method), []).append(row)
    return [_mean_over_networks(model, found) for (model, _), found in groups.items() if len(found) > 1]


def _mean_over_networks(model: str, rows: Sequence[Comparison]) -> Comparison:
    names = dict(rows[0].at_matched)
    matches = tuple((name, mean_gap([dict(row.at_matched)[name] for row in rows])) for name in names)
    return Comparison(model, "", rows[0].tuned, len(rows), mean_gap([row.gap for row in rows]), at_matched=matches)


def mean_gap(gaps: Sequence[Estimate | None]) -> Estimate | None:
    """The mean over networks, with the spread between them as its error; None where one is lacking."""
    values = [gap.value for gap in gaps if gap is not None]
    return statistics.mean_of(np.array(values)) if len(values) == len(gaps) else None


def _seconds_ratio(results: Results, tuned: Tuned) -> float | None:
    """Seconds per image over those of the same sampler and steps without guidance."""
    unguided = results.unguided(tuned.record.cell)
    own = seconds_per_image(results, tuned.record)
    base = None if unguided is None else seconds_per_image(results, unguided)
    return None if own is None or base is None or own[1] != base[1] else own[0] / base[0]


def _row(results: Results, row: Comparison) -> Row:
    tuned, several = row.tuned, row.networks > 1
    found: Row = {"model": row.model, "networks": row.networks, "method": tuned.method}
    if not several:
        column = results.column("fid")
        plain = value(column, tuned.record) if column else None
        fair = statistics.mean_of(tuned.cross_fitted)
        found |= {"setting": tuned.setting, "cells_tried": tuned.cells, "images_tried": tuned.cells * tuned.samples}
        found |= {"id": tuned.record.id}
        found |= {"num_samples": tuned.record.num_samples, "fid_best": plain.value if plain else None}
        found |= estimate_row("fid", fair) | {"nfe": tuned.record.nfe, "seconds_ratio": _seconds_ratio(results, tuned)}
    found |= estimate_row("fid_vs_cfg", row.gap) | {"p_holm": row.p_holm}
    for name, gap in row.at_matched:
        found |= estimate_row(f"fid_at_matched_{name.lower().replace(' ', '_')}", gap)
    return found


def estimate_row(name: str, found: Estimate | None) -> Row:
    """An estimate as four columns; empty ones where there is none."""
    low, high = (found.interval if found else None) or (None, None)
    error = found.standard_error if found else None
    return {name: found.value if found else None, f"{name}_se": error, f"{name}_lo": low, f"{name}_hi": high}


def _texts(results: Results, row: Comparison, rows: Sequence[Comparison], names: Sequence[str]) -> tuple[Text, ...]:
    tuned, several = row.tuned, row.networks > 1
    model = f"{row.model}, mean of {row.networks} networks" if several else row.model
    setting = (Text(""), Text("")) if several else (Text(tuned.setting), Text(str(tuned.cells)))
    fid = Text("") if several else Text(with_error(statistics.mean_of(tuned.cross_fitted)), _mark(row, rows))
    gaps = [row.gap, *(dict(row.at_matched).get(name) for name in names)]
    first, *rest = (Text(with_error(gap) if gap else "") for gap in gaps)
    p = Text("" if row.p_holm is None else f"{row.p_holm:.2g}")
    ratio = None if several else _seconds_ratio(results, tuned)
    nfe = tuned.record.nfe  # not known of samples that were made elsewhere
    cost = (Text("" if nfe is None else f"{nfe:g}"), Text("" if ratio is None else f"{ratio:.2g}"))
    return (Text(model), Text(tuned.label), *setting, fid, first, p, *rest, *cost)


def _mark(row: Comparison, rows: Sequence[Comparison]) -> str:
    """Best of its contest, or not shown to differ from the best."""
    contest = [r.tuned.cross_fitted for r in rows if r.contest == row.contest]
    best = min(contest, key=lambda values: float(values.mean()))
    if row.tuned.cross_fitted is best:
        return BEST
    gap = statistics.mean_of(row.tuned.cross_fitted - best)
    level = 0.05 / max(1, len(contest) - 1)
    return TIED if gap.p_value is None or gap.p_value / 2 > level else ""
