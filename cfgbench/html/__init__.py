"""The interactive report: one HTML file that needs no server and no network. Reads records only, imports no torch."""

from collections.abc import Mapping, Sequence

from cfgbench.html import page, strips
from cfgbench.html.data import page_data
from cfgbench.html.extras import claims_files
from cfgbench.tables.results import Results
from cfgbench.tables.text import Table


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
