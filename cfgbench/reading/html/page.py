"""The HTML file: static text that reads without scripts, our scripts, the data and the plotting library, all in one.

Nothing from outside is ever markup: static text goes through `html.escape`, data through JSON whose `<` are escaped,
the library and the CSV files through gzip and base64; scripts write text nodes. The content security policy allows
the two scripts by their hashes and forbids the network.
"""

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from string import Template

from cfgbench.reading.answer import answer_lines
from cfgbench.reading.html.views import PageData
from cfgbench.reading.tables.results import Results

SCRIPTS = ("base", "pictures", "plots", "details", "explorer", "curves", "sections", "main")
CAVEAT = (
    "± is half of a 95 % interval. All intervals and ties hold for this trained model and this reference. "
    "FID and KID are bias-corrected where error bars exist."
)
_BETWEEN_PARTS = re.compile(r"; (?![^(]*\))")


def assemble(results: Results, data: PageData, strips: Mapping[str, str], csv_files: Mapping[str, str]) -> str:
    """The text of `report.html`."""
    script = "\n".join(_static(f"{name}.js") for name in SCRIPTS)
    library = _library()
    policy = f"default-src 'none'; script-src {_hash(script)} {_hash(library)}; style-src 'unsafe-inline'; "
    parts = {
        "policy": policy + "img-src data:; base-uri 'none'; form-action 'none'",
        "title": _escape(results.plan.name),
        "description": _escape(results.plan.description),
        "progress": _escape(_progress(results)),
        "answer": "\n".join(_answer(answer_lines(results))),
        "caveat": _escape(CAVEAT),
        "style": _static("page.css"),
        "data": _json(dataclasses.asdict(data)),
        "strips": _json(dict(strips)),
        "csv": _packed(_json(dict(csv_files))),
        "library": _packed(library),
        "script": script,
    }
    return Template(_static("page.html")).substitute(parts)


def _static(name: str) -> str:
    return (files("cfgbench.reading.html") / "static" / name).read_text(encoding="utf-8")


def _library() -> str:
    """The source of plotly.js, as the Python package carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _escape(text: str) -> str:
    """Text as HTML in ASCII, so that no character, not even a lone surrogate, depends on an encoding."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _json(value: object) -> str:
    """JSON that cannot end the script element it stands in: ASCII, without `<`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _packed(text: str) -> str:
    """Text compressed for the page's `unpack`; without a date, so that it is the same bytes twice."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _progress(results: Results) -> str:
    planned, failed = len(results.plan.cells), sum(r.status == "failed" for r in results.records.values())
    text = f"{len(results.done)} of {planned} cells finished"
    return text + (f", {failed} failed" if failed else "")


def _answer(lines: Sequence[str]) -> Iterator[str]:
    """Each line as a term and its parts."""
    for line in lines:
        term, _, rest = line.partition(": ")
        items = "".join(f"<li>{_escape(part)}</li>" for part in _BETWEEN_PARTS.split(rest))
        yield f'<div><dt dir="auto">{_escape(term)}</dt><dd dir="auto"><ul>{items}</ul></dd></div>'
