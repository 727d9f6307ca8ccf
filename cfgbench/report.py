"""Writes everything a results folder can show: CSV, Markdown and LaTeX tables, figures, a summary, an HTML report.

Reads records only, so it works on any machine, without torch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cfgbench.answer import answer_lines
from cfgbench.cell import canonical_json
from cfgbench.errors import unwritable
from cfgbench.records import Machine
from cfgbench.store import replace
from cfgbench.tables import budget, equal_cost, methods, rows, text
from cfgbench.tables.results import Results, load

FORMATS = ("pdf", "png")
MAX_ROWS = 60  # of a table in the summary; longer ones are linked


def build(folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write all tables and figures of a results folder beside its records; InputError where there is no plan."""
    from cfgbench import html
    from cfgbench.figures import draw_all

    results = load(folder)
    tables, files = _tables(results), _csv_files(results)
    for name, (table, rows_of) in comparisons(results).items():
        tables[name], files[f"{name}.csv"] = table, rows.to_csv(rows_of)
    files["report.html"] = html.render(results, tables, files, list(_notes(results)), list(_provenance(results)))
    files |= {f"{name}.md": text.to_markdown(table) for name, table in tables.items()}
    files |= {f"{name}.tex": text.to_latex(table) for name, table in tables.items()}
    figures = draw_all(results, folder / "figures", formats)
    files["summary.md"] = summary(results, tables, figures)
    return [*(_write(folder / name, content) for name, content in files.items()), *figures]


def _tables(results: Results) -> dict[str, text.Table]:
    tables = {"best": text.best_table(results), "results": text.results_table(results)}
    return tables | ({"speed": text.speed_table(results)} if results.speeds else {})


def comparisons(results: Results) -> dict[str, tuple[text.Table, list[rows.Row]]]:
    """Methods against CFG, where there are others, and what an adaptive sweep spent."""
    at_best, at_cost = methods.compare_methods(results), equal_cost.compare_at_cost(results)
    found = {
        "methods": (methods.methods_table(results, at_best), methods.method_rows(results, at_best)),
        "equal_cost": (equal_cost.cost_table(at_cost), equal_cost.cost_rows(at_cost)),
    }
    found["budget"] = (budget.budget_table(results), budget.budget_rows(results))
    return {name: made for name, made in found.items() if made[1]}


def answer(folder: Path) -> str:
    """The three lines that a run ends with, and what an adaptive sweep came to."""
    results = load(folder)
    return "\n".join([*answer_lines(results), *budget.budget_lines(results)])


def summary(results: Results, tables: dict[str, text.Table], figures: Sequence[Path]) -> str:
    """The answer, the tables, the figures and where the numbers come from, as Markdown."""
    lines = [f"# {results.plan.name}", "", _prose(results.plan.description), ""]
    lines += [f"{number}. {_prose(line)}" for number, line in enumerate(answer_lines(results), 1)]
    lines += [
        "",
        "± is half of a 95 % interval. All intervals and ties hold for this trained model and this reference.",
    ]
    for name, table in tables.items():
        lines += ["", f"## {name.replace('_', ' ').capitalize()}", ""]
        short = len(table.rows) <= MAX_ROWS
        lines.append(text.to_markdown(table) if short else f"{len(table.rows)} rows: [{name}.md]({name}.md)\n")
    lines += ["## Figures", "", *_figure_links(results.folder, figures), ""]
    lines += ["## Notes", "", *(f"- {_prose(note)}" for note in list(_notes(results)) or ["none"]), ""]
    lines += ["## Provenance", "", *(f"- {_prose(line)}" for line in _provenance(results)), ""]
    return "\n".join(lines)


def _csv_files(results: Results) -> dict[str, str]:
    files = {"results.csv": rows.to_csv(rows.result_rows(results)), "scores.csv": rows.to_csv(rows.score_rows(results))}
    files["identities.csv"] = rows.to_csv(rows.identity_rows(results))
    files["best.csv"] = rows.to_csv(rows.best_rows(results))
    if results.speeds:
        files["speed.csv"] = rows.to_csv(rows.speed_rows(results))
    return files


def _write(path: Path, content: str) -> Path:
    try:
        replace(path, content.encode())
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def _prose(line: str) -> str:
    """Text that Markdown cannot take for HTML."""
    return " ".join(line.split()).replace("&", "&amp;").replace("<", "&lt;")


def _figure_links(folder: Path, figures: Sequence[Path]) -> list[str]:
    names = dict.fromkeys(path.stem for path in figures)
    links = []
    for name in names:
        kinds = {path.suffix: path.relative_to(folder).as_posix() for path in figures if path.stem == name}
        others = ", ".join(f"[{suffix[1:]}]({path})" for suffix, path in kinds.items())
        shown = f"![{name}]({kinds['.png']})\n\n" if ".png" in kinds else ""
        links.append(f"{shown}`{name}`: {others}\n")
    return links


def _notes(results: Results) -> Iterator[str]:
    """What a reader must know: failures, absences, broken samples, axes without effect, unequal sample counts."""
    missing = [cell.id for cell in results.plan.cells if cell.id not in results.records]
    if missing:
        yield f"{len(missing)} of {len(results.plan.cells)} cells have no record yet"
    for record in results.records.values():
        if record.status == "failed":
            lines = (record.error or "no reason given").strip().splitlines()
            yield f"cell {record.id} ({canonical_json(record.cell.guidance.model_dump())}) failed: {lines[-1]}"
    reasons = {(absent.column, absent.reason): 0 for record in results.done for absent in record.absent}
    for record in results.done:
        for absent in record.absent:
            reasons[absent.column, absent.reason] += 1
    yield from (f"{column} is absent in {count} cells: {reason}" for (column, reason), count in reasons.items())
    yield from _sample_notes(results)
    yield from results.plan.notes


def _sample_notes(results: Results) -> Iterator[str]:
    broken = [
        record for record in results.done if record.health.nan or record.health.constant or record.health.saturated
    ]
    for record in broken:
        health = record.health
        counts = f"{health.nan} with NaN, {health.constant} constant, {health.saturated} saturated"
        yield f"cell {record.id}: of {record.num_samples} samples {counts}"
    same: dict[str, list[str]] = {}
    for record in results.done:
        if record.pixels is not None:
            same.setdefault(record.pixels, []).append(record.id)
    for ids in same.values():
        if len(ids) > 1:
            yield f"cells {', '.join(ids)} drew identical samples: what tells them apart had no effect"
    counts_seen = sorted({record.num_samples for record in results.done})
    if len(counts_seen) > 1 and results.plan.budget is None:
        sizes = ", ".join(map(str, counts_seen))
        yield f"cells have {sizes} samples; comparisons use the first samples that all cells compared have"
    yield from dict.fromkeys(note for record in results.done for note in record.notes)


def _provenance(results: Results) -> Iterator[str]:
    plan = results.plan
    yield f"experiment {plan.source or plan.name}: {len(plan.cells)} cells of {plan.num_samples} samples"
    for column in results.columns:
        yield f"{column.name}: {canonical_json(column.identity)}"
    machines = [*(record.machine for record in results.done), *(speed.machine for speed in results.speeds)]
    yield from dict.fromkeys(map(_machine, machines))


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.packages.items()))
    driver = f", {machine.driver}" if machine.driver else ""
    place = f"{machine.device}{driver}, {machine.processor}, {machine.cores} cores, {machine.threads} threads"
    system = f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.system}, Python {machine.python}"
    return f"{place}, {system}, {versions}, commit {machine.commit or 'unknown'}"
