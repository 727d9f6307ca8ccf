"""The interactive report: one HTML file that needs no server and no network. Reads records only, imports no torch."""

from collections.abc import Mapping, Sequence

from cfgbench.reading.html import page, strips
from cfgbench.reading.html.data import page_data
from cfgbench.reading.html.extras import claims_files
from cfgbench.reading.tables.results import Results
from cfgbench.reading.tables.text import Table


def render(
    results: Results,
    tables: Mapping[str, Table],
    csv_files: Mapping[str, str],
    notes: Sequence[str],
    provenance: Sequence[str],
) -> str:
    """The report of whatever is finished, as the text of `report.html`; the same records give the same text."""
    data = page_data(results, tables, notes, provenance)
    return page.assemble(results, data, strips.encoded(results), {**csv_files, **claims_files(results.folder)})
