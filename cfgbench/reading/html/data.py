"""What the page shows of some results. Every number and every text with an error bar comes from `tables`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cfgbench import console
from cfgbench.cell import canonical_json, number
from cfgbench.reading.answer import main_arm
from cfgbench.reading.figures import style
from cfgbench.reading.figures.style import Facet, Look
from cfgbench.reading.figures.tradeoff import pairs
from cfgbench.reading.html.extras import claims_tables, command, failures, health_rows
from cfgbench.reading.html.strips import tile_count
from cfgbench.reading.html.views import ArmView, CellView, ColumnView, PageData, PanelView, PointsView, ScoreView
from cfgbench.reading.tables.compare import difference, seconds_per_image, value, verdict
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Arm, Column, Results, drawable, off
from cfgbench.reading.tables.rows import speed_rows
from cfgbench.reading.tables.text import Table, with_error
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS
from cfgbench.store import Store

# beside the slider; the first columns where none is there
EXPLORED = ("fid", "fd_dinov2", "fd_clip", "clip_score", "inception_score", "precision", "recall")


def page_data(
    results: Results, tables: Mapping[str, Table], notes: Sequence[str], provenance: Sequence[str]
) -> PageData:
    """What the page shows of these results."""
    curves = [arm for arm in results.arms if len(arm.points) > 1]
    panels, planes = ([*_facets(curves, by_axis)] for by_axis in (True, False))
    names = {column.name for column in results.columns}
    cost_label, costs = _costs(results)
    start = main_arm(results)
    return PageData(
        columns=[_column(results, column) for column in results.columns],
        explored=[name for name in EXPLORED if name in names] or [column.name for column in results.columns[:4]],
        cells={record.id: _cell(results, record, costs.get(record.id)) for record in results.done},
        points=_points(results),
        arms=_arms(results, style.looks(panels), panels),
        start=0 if start is None else results.arms.index(start),
        panels=[_panel(results, panel) for panel in panels],
        planes=[_panel(results, plane) for plane in planes],
        pairs=[(x.name, y.name) for x, y in pairs(results)],
        cost=cost_label,
        off={arm.axis: off(arm.axis) for arm in results.arms},
        symbols={arm.axis: SCALE_SYMBOLS[arm.axis] for arm in results.arms},
        colours=style.COLOURS,
        methods={name: METHODS[name].label for name in {record.cell.guidance.method: None for record in results.done}},
        speed=speed_rows(results),
        tables={**tables, **claims_tables(results.folder)},
        health=health_rows(results),
        failures=failures(results),
        notes=notes,
        provenance=provenance,
        command=command(results),
    )


def places(scales: Sequence[float], axis: str) -> dict[float, float]:
    """Where scales lie on an axis that spreads values near "off" by a square root if they are uneven."""
    drawn = drawable(scales)
    ordered = np.array([*drawn.values()])
    gaps = np.diff(ordered)
    moved = ordered - off(axis)
    if len(gaps) and gaps.max() > 4 * gaps.min():
        moved = np.sign(moved) * np.sqrt(np.abs(moved))
    return dict(zip(drawn, moved.tolist(), strict=True))


def _facets(arms: Sequence[Arm], by_axis: bool) -> list[Facet]:
    return style.facets(arms, by_axis=by_axis) if arms else []


def _column(results: Results, column: Column) -> ColumnView:
    values = [result.value for record in results.done if (result := value(column, record)) is not None]
    log = column.entry.lower_is_better and style.wide(values)
    label = style.axis_label(column, results)
    identity = canonical_json(dict(column.identity))
    return ColumnView(column.name, column.label, label, column.entry.lower_is_better, log, identity)


def _cell(results: Results, record: CellRecord, cost: float | None) -> CellView:
    unguided = results.unguided(record.cell)
    scores = {c.name: score for c in results.columns if (score := _score(c, record, unguided)) is not None}
    return CellView(
        title=console.title(record.cell),
        num_samples=record.num_samples,
        tiles=tile_count(record.num_samples),
        num_classes=record.num_classes,
        scores=scores,
        absent={absent.column: absent.reason for absent in record.absent},
        cost=cost,
        facts=_facts(results, record),
        unguided=None if unguided is None or unguided.id == record.id else unguided.id,
    )


def _score(column: Column, record: CellRecord, unguided: CellRecord | None) -> ScoreView | None:
    result = value(column, record)
    if result is None:
        return None
    gap = None if unguided is None else difference(column, record, unguided)
    gain = None if gap is None else ("" if gap.value < 0 else "+") + with_error(gap)
    noise = gap is not None and gap.interval is not None and gap.interval[0] <= 0 <= gap.interval[1]
    return ScoreView(result.value, result.interval, with_error(result), gain, noise)


def _facts(results: Results, record: CellRecord) -> list[tuple[str, str]]:
    """What a reader may ask about a cell beside its scores."""
    seconds = seconds_per_image(results, record)
    health = record.health
    facts = [("samples", number(record.num_samples))]
    facts += [("network passes per sample", number(record.nfe))] if record.nfe is not None else []
    facts += [("classifier gradients per sample", number(record.classifier_passes))] if record.classifier_passes else []
    facts += [(f"ms per image, batch {seconds[1]}", f"{1e3 * seconds[0]:.3g}")] if seconds else []
    facts.append(("health", f"{health.nan} with NaN, {health.constant} constant, {health.saturated} saturated"))
    facts += [("note", note) for note in record.notes]
    return [*facts, ("cell", record.id)]


def _points(results: Results) -> dict[str, PointsView]:
    store = Store(results.folder)
    found = {record.id: store.points(record.id) for record in results.done}
    return {name: PointsView(one[0].tolist(), one[1].tolist()) for name, one in found.items() if one is not None}


def _arms(results: Results, looks: Mapping[str, Look], panels: Sequence[Facet]) -> list[ArmView]:
    lines = {id(arm): looks[label] for panel in panels for label, arm in panel.lines.items()}
    axes: dict[str, list[float]] = {}
    for arm in results.arms:
        axes.setdefault(arm.axis, []).extend(point.scale for point in arm.points)
    spread = {axis: places(scales, axis) for axis, scales in axes.items()}
    return [
        _arm(results, arm, lines.get(id(arm), style.method_look(arm.fields["method"])), spread[arm.axis])
        for arm in results.arms
    ]


def _arm(results: Results, arm: Arm, look: Look, spread: Mapping[float, float]) -> ArmView:
    verdicts = {c.name: found for c in results.columns if (found := verdict(c, arm.records)) is not None}
    return ArmView(
        label=results.label(arm),
        axis=arm.axis,
        look=look,
        scales=[None if math.isinf(point.scale) else point.scale for point in arm.points],
        places=[spread[point.scale] for point in arm.points],
        cells=[point.record.id for point in arm.points],
        best={name: found.best.id for name, found in verdicts.items()},
        tied={name: [record.id for record in found.tied] for name, found in verdicts.items() if found.tied},
    )


def _panel(results: Results, panel: Facet) -> PanelView:
    order = {id(arm): i for i, arm in enumerate(results.arms)}
    return PanelView(panel.title, panel.axis, [(label, order[id(arm)]) for label, arm in panel.lines.items()])


def _costs(results: Results) -> tuple[str, dict[str, float]]:
    """Milliseconds per image where they were measured, else network passes, and what they are."""
    timed = {record.id: found for record in results.done if (found := seconds_per_image(results, record))}
    if timed:
        sizes = ", ".join(map(str, sorted({size for _, size in timed.values()})))
        return f"ms per image, batch {sizes}", {name: 1e3 * seconds for name, (seconds, _) in timed.items()}
    passes = {record.id: record.nfe for record in results.done if record.nfe is not None}
    return "network passes per image", passes
