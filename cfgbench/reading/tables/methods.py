"""Guidance methods against CFG: each at its own best setting, with what the search for it cost.

The best of many cells flatters itself on the samples that it was chosen by, so differences are cross-fitted: half of
the samples choose, the other half judges, and the other way round. P-values are corrected for the number of comparisons
in the table (Holm). Where equally trained networks of several training seeds took part, a row says what holds on
average, with their spread and the sampling error that they share as the error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cfgbench.cell import canonical_json
from cfgbench.reading.tables import matched
from cfgbench.reading.tables.compare import seconds_per_image, value
from cfgbench.reading.tables.results import Column, Fields, Results
from cfgbench.reading.tables.rows import Row
from cfgbench.reading.tables.text import BEST, TIED, Table, Text, short, with_error
from cfgbench.reading.tables.tuning import Tuned, contest_label, contests
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Estimate
from cfgbench.scores.training_seeds import Difference, together


@dataclass(frozen=True)
class Comparison:
    """A method against CFG: score differences, method - CFG; None where they cannot be had."""

    contest: Fields
    tuned: Tuned  # of the first network, in a row of several
    networks: int
    gap: Difference | None  # of cross-fitted scores; None for CFG itself
    p_holm: float | None = None
    at_matched: tuple[tuple[str, Difference | None], ...] = ()


def compare_methods(results: Results) -> list[Comparison]:
    """All methods of every contest that CFG took part in with another, then the means over training seeds."""
    column = results.column("fid")
    found = contests(results, column) if column else ()
    single = [row for entries in found if column for row in _against_cfg(results, column, entries)]
    rows = [*single, *_over_networks(single)]
    corrected = statistics.holm([row.gap.estimate.p_value if row.gap else None for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]


def method_rows(results: Results, rows: Iterable[Comparison]) -> list[Row]:
    """`methods.csv`."""
    return [_row(results, row) for row in rows]


def methods_table(results: Results, rows: Sequence[Comparison]) -> Table:
    """What `methods.csv` says, as text; the lowest FID of a contest in bold, what is not shown worse underlined."""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.at_matched))
    networks = network_texts([(row.contest, row.networks) for row in rows])
    texts = tuple((network, *_texts(results, row, rows, names)) for network, row in zip(networks, rows, strict=True))
    caption = (
        "Each method at its best FID of the cells tried; search: their number, the images drawn for them and the "
        "network passes of these. FID is cross-fitted: half of the samples choose the setting, the others judge. "
        f"Differences are to {_baseline(rows)} on the same noise; p is Holm's over the table. Rows of several "
        "networks: mean and interval over training seeds. NFE: passes of the model per image, without those of a "
        "classifier or of a plug-in's own networks. Best of a contest in bold, those not shown to differ from it "
        "underlined."
    )
    matches = tuple(f"FID difference at CFG's {name}" for name in names)
    header = ("model", "method", "setting", "search", "FID", "FID - CFG's", "p", *matches, "NFE", "seconds ratio")
    return Table(caption, header, texts)


def _baseline(rows: Sequence[Comparison]) -> str:
    """What CFG may be called: tuned only where its scale was searched for."""
    cfg = [row.tuned for row in rows if row.gap is None]
    untuned = [one.contest for one in cfg if not one.is_tuned]
    if not untuned:
        return "tuned CFG"
    which = "" if len(untuned) == len(cfg) else f" on {'; '.join(contest_label(one, untuned) for one in untuned)}"
    return f"CFG, which is not tuned{which} (fewer than three scales, or the best at an end of the grid),"


def _against_cfg(results: Results, column: Column, entries: Sequence[Tuned]) -> list[Comparison]:
    cfg, *others = entries
    gaps = [Difference((other.cross_fitted - cfg.cross_fitted)[None]) for other in others]
    return [
        Comparison(cfg.contest, cfg, 1, None),
        *(
            Comparison(cfg.contest, other, 1, gap, at_matched=_matches(results, column, other, cfg))
            for other, gap in zip(others, gaps, strict=True)
        ),
    ]


def _matches(results: Results, column: Column, other: Tuned, cfg: Tuned) -> tuple[tuple[str, Difference | None], ...]:
    found = []
    for on in matched.levels(results.columns):
        match = matched.at_matched(other.arm, cfg.arm, column, on, cfg.record)
        found.append((on.label, Difference(match.pseudo[None]) if isinstance(match, matched.Matched) else None))
    return tuple(found)


def _over_networks(rows: Sequence[Comparison]) -> list[Comparison]:
    """The mean difference of each method over networks that differ in their training seed alone."""
    groups: dict[str, list[Comparison]] = {}
    for row in rows:
        if row.gap is not None:
            groups.setdefault(canonical_json([row.tuned.replicate_of, row.tuned.method]), []).append(row)
    return [_mean_over_networks(found) for found in groups.values() if len(found) > 1]


def _mean_over_networks(rows: Sequence[Comparison]) -> Comparison:
    first, names = rows[0].tuned, dict(rows[0].at_matched)
    matches = tuple((name, together([dict(row.at_matched)[name] for row in rows])) for name in names)
    return Comparison(first.replicate_of, first, len(rows), together([row.gap for row in rows]), at_matched=matches)


def _seconds_ratio(results: Results, tuned: Tuned) -> float | None:
    """Seconds per image over those of the same sampler and steps without guidance."""
    unguided = results.unguided(tuned.record.cell)
    own = seconds_per_image(results, tuned.record)
    base = None if unguided is None else seconds_per_image(results, unguided)
    return None if own is None or base is None or own[1] != base[1] else own[0] / base[0]


def _row(results: Results, row: Comparison) -> Row:
    tuned, several = row.tuned, row.networks > 1
    found: Row = {**row.contest, "networks": row.networks, "method": tuned.method}
    if not several:
        column = results.column("fid")
        plain = value(column, tuned.record) if column else None
        fair = statistics.mean_of(tuned.cross_fitted)
        found |= {"setting": tuned.setting, "cells_tried": tuned.cells, "images_tried": tuned.images}
        found |= {"passes_tried": tuned.passes, "id": tuned.record.id}
        found |= {"num_samples": tuned.record.num_samples, "fid_best": plain.value if plain else None}
        found |= _estimate_row("fid", fair) | {"nfe": tuned.record.nfe, "seconds_ratio": _seconds_ratio(results, tuned)}
    found |= difference_row("fid_vs_cfg", row.gap) | {"p_holm": row.p_holm}
    for name, gap in row.at_matched:
        found |= difference_row(f"fid_at_matched_{name.lower().replace(' ', '_')}", gap)
    return found


def difference_row(name: str, found: Difference | None) -> Row:
    """A difference as four columns; empty ones where there is none."""
    return _estimate_row(name, found.estimate if found else None)


def _estimate_row(name: str, found: Estimate | None) -> Row:
    low, high = (found.interval if found else None) or (None, None)
    error = found.standard_error if found else None
    return {name: found.value if found else None, f"{name}_se": error, f"{name}_lo": low, f"{name}_hi": high}


def _texts(results: Results, row: Comparison, rows: Sequence[Comparison], names: Sequence[str]) -> tuple[Text, ...]:
    tuned, several = row.tuned, row.networks > 1
    setting = (Text(""), Text("")) if several else (Text(tuned.setting), Text(_search(tuned)))
    fid = Text("") if several else Text(with_error(statistics.mean_of(tuned.cross_fitted)), _mark(row, rows))
    gaps = [row.gap, *(dict(row.at_matched).get(name) for name in names)]
    first, *rest = (Text(with_error(gap.estimate) if gap else "") for gap in gaps)
    p = Text("" if row.p_holm is None else f"{row.p_holm:.2g}")
    ratio = None if several else _seconds_ratio(results, tuned)
    nfe = tuned.record.nfe  # not known of samples that were made elsewhere
    cost = (Text("" if nfe is None else short(nfe)), Text("" if ratio is None else f"{ratio:.2g}"))
    return (Text(tuned.label), *setting, fid, first, p, *rest, *cost)


def network_texts(contests: Sequence[tuple[Fields, int]]) -> list[Text]:
    """The networks of rows that are of one each or means of several, told apart."""
    labels = [contest_label(contest, [other for other, _ in contests]) for contest, _ in contests]
    means = [f", mean of {networks} networks" if networks > 1 else "" for _, networks in contests]
    return [Text(label + mean) for label, mean in zip(labels, means, strict=True)]


def _search(tuned: Tuned) -> str:
    """`29 cells, 58,000 images, 3,200,000 passes`."""
    cells = f"{tuned.cells} cell{'s' if tuned.cells > 1 else ''}"
    passes = "" if tuned.passes is None else f", {tuned.passes:,.0f} passes"
    return f"{cells}, {tuned.images:,} images{passes}"


def _mark(row: Comparison, rows: Sequence[Comparison]) -> str:
    """Best of its contest, or not shown to differ from the best."""
    contest = [r.tuned.cross_fitted for r in rows if r.contest == row.contest and r.networks == 1]
    best = min(contest, key=lambda values: float(values.mean()))
    if row.tuned.cross_fitted is best:
        return BEST
    gap = statistics.mean_of(row.tuned.cross_fitted - best)
    level = 0.05 / max(1, len(contest) - 1)
    return TIED if gap.p_value is None or gap.p_value / 2 > level else ""
