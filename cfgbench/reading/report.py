"""Writes everything a results folder can show: CSV, Markdown and LaTeX tables, figures, a summary, an HTML report.

Reads records only, so it works on any machine, without torch.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from cfgbench import __version__
from cfgbench.errors import unwritable, vanished
from cfgbench.reading import notes
from cfgbench.reading.answer import answer_lines
from cfgbench.reading.tables import budget, equal_cost, methods, protocol, rows, text
from cfgbench.reading.tables.results import Results, load
from cfgbench.store import replace

FORMATS = ("pdf", "png")
STATE = ".shown"  # in a results folder: of which records its tables and figures are
MAX_ROWS = 60  # of a table in the summary; longer ones are linked


def build(folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write all tables and figures of a results folder beside its records; InputError where there is no plan."""
    from cfgbench.reading import html
    from cfgbench.reading.figures import draw_all, remove_others

    results = load(folder)
    tables, files = own_tables(results), _csv_files(results)
    for name, (table, rows_of) in comparisons(results).items():
        tables[name], files[f"{name}.csv"] = table, rows.to_csv(rows_of)
    files["report.html"] = html.render(
        results, tables, files, [*notes.names(results), *notes.notes(results)], list(notes.provenance(results))
    )
    files |= {f"{name}.md": text.to_markdown(table) for name, table in tables.items()}
    files |= {f"{name}.tex": text.to_latex(table) for name, table in tables.items()}
    if not folder.is_dir():
        raise vanished(folder)
    figures = draw_all(results, folder / "figures", formats)
    remove_others(folder / "figures", figures)
    files["summary.md"] = summary(results, tables, figures)
    return [*(_write(folder / name, content) for name, content in files.items()), *figures]


def refresh(folder: Path) -> None:
    """Build what a results folder shows, unless all of it is there already and of these very records."""
    state = _state(folder)
    try:
        kept = json.loads((folder / STATE).read_bytes())
        if kept["records"] == state and all((folder / name).is_file() for name in kept["files"]):
            return
    except (OSError, ValueError, LookupError, TypeError):
        pass  # never built, or not to its end
    files = [path.relative_to(folder).as_posix() for path in build(folder)]
    _write(folder / STATE, json.dumps({"records": state, "files": files}))


def _state(folder: Path) -> str:
    """Names the content of all records of a folder, and the version that shows them."""
    found = hashlib.sha256(__version__.encode())
    for path in (folder / "plan.json", *sorted((folder / "records").glob("*"))):
        found.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def own_tables(results: Results) -> dict[str, text.Table]:
    """Every curve at its best, where there are scores, and at every scale; the speed, where it was measured."""
    tables = {"best": text.best_table(results), "results": text.results_table(results)}
    tables |= {"speed": text.speed_table(results)} if results.speeds else {}
    return {name: table for name, table in tables.items() if table.rows or name == "results"}


def comparisons(results: Results) -> dict[str, tuple[text.Table, list[rows.Row]]]:
    """Methods against CFG, where there are others, and what an adaptive sweep spent."""
    at_best, at_cost = methods.compare_methods(results), equal_cost.compare_at_cost(results)
    found = {
        "methods": (methods.methods_table(results, at_best), methods.method_rows(results, at_best)),
        "equal_cost": (equal_cost.cost_table(at_cost), equal_cost.cost_rows(at_cost)),
    }
    by_protocol = protocol.checked(results)
    if by_protocol:
        found["protocol"] = (protocol.protocol_table(results, by_protocol), protocol.protocol_rows(by_protocol))
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
    said = {"Names": notes.names(results), "Notes": notes.notes(results), "Provenance": notes.provenance(results)}
    for title, sentences in said.items():
        lines += [f"## {title}", "", *(f"- {_prose(sentence)}" for sentence in list(sentences) or ["none"]), ""]
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
        raise (unwritable(path, error) if path.parent.is_dir() else vanished(path.parent)) from None
    return path


def _prose(line: str) -> str:
    """Text that Markdown cannot take for HTML."""
    return " ".join(line.split()).replace("&", "&amp;").replace("<", "&lt;")


def _figure_links(folder: Path, figures: Sequence[Path]) -> list[str]:
    from cfgbench.reading.figures import FIGURES, caption

    names = dict.fromkeys(path.stem for path in figures)
    links = []
    for name in names:
        kinds = {path.suffix: path.relative_to(folder).as_posix() for path in figures if path.stem == name}
        others = ", ".join(f"[{suffix[1:]}]({path})" for suffix, path in kinds.items())
        shown = f"![{name}]({kinds['.png']})\n\n" if ".png" in kinds else ""
        links.append(f"{shown}{_prose(caption(FIGURES[name]))} ({others})\n")
    return links
