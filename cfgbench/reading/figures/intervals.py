"""Where on the noise scale guidance helps: a score over both ends of the guidance interval."""

from matplotlib.figure import Figure

from cfgbench.cell import canonical_json, number
from cfgbench.reading.figures import heatmap
from cfgbench.reading.figures.heatmap import Labels, Map, Place
from cfgbench.reading.tables.results import Results, arm_fields
from cfgbench.records import CellRecord

MIN_ENDS = 3  # of intervals, on either side; fewer are a list, not a map


def interval_heatmap(results: Results) -> Figure | None:
    """The first score over the ends of the guidance interval, a panel per scale; what is tied with the best is framed.

    (0, inf] is guidance everywhere.
    """
    column, maps = next(iter(results.columns), None), _maps(results)
    if column is None or not maps:
        return None
    return heatmap.draw(column, maps, Labels("guided from $\\sigma$", "guided up to noise level $\\sigma$", _text))


def _maps(results: Results) -> list[Map]:
    found: dict[str, tuple[str, dict[Place, CellRecord]]] = {}
    for record in results.done:
        cell = record.cell
        if cell.guidance.method != "cfg":
            continue
        fields = {k: v for k, v in arm_fields(cell).items() if k != "interval"}
        title = f"{cell.model.label}, s = {number(cell.guidance_scale)}"
        _, cells = found.setdefault(canonical_json([fields, cell.guidance_scale]), (title, {}))
        cells[_interval(record)] = record
    return [Map(*one) for one in found.values() if heatmap.has_sides(list(one[1]), MIN_ENDS)]


def _interval(record: CellRecord) -> Place:
    ends = record.cell.guidance.parameters.get("interval")
    low, high = ends if isinstance(ends, list | tuple) else (0.0, None)
    return float(low or 0.0), float("inf") if high is None else float(high)


def _text(end: float) -> str:
    return "\N{INFINITY}" if end == float("inf") else number(end)
