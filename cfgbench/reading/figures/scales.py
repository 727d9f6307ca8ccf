"""Two scales at once: a score over that of the method and one of the model's own."""

from matplotlib.figure import Figure

from cfgbench.cell import canonical_json
from cfgbench.reading.figures import heatmap
from cfgbench.reading.figures.heatmap import Labels, Map, Place
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Results, describe, scale_text, varying
from cfgbench.records import CellRecord


def scale_heatmap(results: Results) -> Figure | None:
    """The first score over guidance_scale and a scale of the model's own; what is tied with the best is framed."""
    column, names = next(iter(results.columns), None), _names(results)
    if column is None or not names:
        return None
    maps = _maps(results, names[0])
    labels = Labels(SCALE_SYMBOLS[names[0]], "guidance scale s", scale_text)
    return heatmap.draw(column, maps, labels) if maps else None


def _names(results: Results) -> list[str]:
    """The scales of models' own."""
    return list(dict.fromkeys(name for record in results.done for name in record.cell.model.scales))


def _maps(results: Results, name: str) -> list[Map]:
    """The grids of curves that differ in a scale of the model alone."""
    found: dict[str, tuple[dict[str, str], dict[Place, CellRecord]]] = {}
    for arm in results.arms:
        if arm.axis == "guidance_scale" and name in arm.fields:
            fields = {key: text for key, text in arm.fields.items() if key != name}
            _, cells = found.setdefault(canonical_json(fields), (fields, {}))
            cells |= {(point.record.cell.model.scales[name], point.scale): point.record for point in arm.points}
    grids = [one for one in found.values() if heatmap.has_sides(list(one[1]), 2)]
    names = dict.fromkeys(["model", *varying([fields for fields, _ in grids])])
    return [Map(describe(fields, names), cells) for fields, cells in grids]
