"""The ledger as CSV, Markdown, LaTeX and figures, and each experiment's share of it beside its own results."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from cfgbench.claims.claim import Decision
from cfgbench.claims.findings import NEEDS, VERDICTS, with_interval
from cfgbench.claims.ledger import Section
from cfgbench.reading.tables.rows import Row, to_csv
from cfgbench.reading.tables.text import Table, Text, escape_latex, to_markdown

FORMATS = ("pdf", "png")
SCOPE = (
    "Verdicts are about 8x8 digits, Gaussians in closed form and this machine: a claim that does not hold here is not "
    "refuted where it was made, and one that holds here is not confirmed there. Intervals are at 95 % for each finding "
    "by itself, so that of twenty decided claims about one may be wrong by chance. Rules were written down before the "
    "experiments that they judge were run; one that had to change later says so."
)


def write(sections: Sequence[Section], decisions: Sequence[Decision], folder: Path) -> list[Path]:
    """All files of the ledger; the same records give the same bytes."""
    from cfgbench.reading.figures import claims as figures
    from cfgbench.reading.figures import save, style

    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "claims.csv": to_csv([claim_row(decision) for decision in decisions]),
        "findings.csv": to_csv([row for decision in decisions for row in finding_rows(decision)]),
        "claims.md": to_text(sections, decisions),
        "claims.tex": to_latex(decisions),
    }
    written = [_written(folder / name, content) for name, content in files.items()]
    with style.applied():
        for name, figure in figures.draw(sections, decisions).items():
            (folder / "figures").mkdir(exist_ok=True)
            written += [save(figure, folder / "figures" / f"{name}.{kind}") for kind in FORMATS]
    return written


def write_shares(decisions: Sequence[Decision], root: Path) -> list[Path]:
    """`claims.csv` in the folder of each experiment that some rule read: the claims that it shows."""
    paths = []
    for name in sorted({name for decision in decisions for name in decision.claim.experiments}):
        share = [claim_row(one) for one in decisions if name in one.claim.experiments and one.findings]
        if share and (root / name / "plan.json").is_file():
            shown = [{key: value for key, value in row.items() if key != "rule"} for row in share]
            paths.append(_written(root / name / "claims.csv", to_csv(shown)))
    return paths


def claim_row(decision: Decision) -> Row:
    """One claim: what was published, what we found, the verdict and the rule that was applied."""
    claim = decision.claim
    return {
        "number": claim.number,
        "claim": claim.text,
        "source": claim.source,
        "published": claim.published,
        "ours": ours(decision),
        "verdict": decision.verdict,
        "rule": claim.criterion,
        "experiments": " ".join(claim.experiments),
    }


def finding_rows(decision: Decision) -> Iterator[Row]:
    """One row per number that a rule held against a threshold."""
    for finding in decision.findings:
        measured = finding.measured
        row: Row = {"number": decision.claim.number, "statement": finding.statement, "value": measured.value}
        row |= {"low": _bounded(measured.low), "high": _bounded(measured.high), "interval": measured.how}
        row |= {"claimed": "above" if finding.above else "below", "threshold": finding.threshold}
        yield row | {"verdict": finding.verdict}


def ours(decision: Decision) -> str:
    """The findings as text, or what is missing."""
    if not decision.findings:
        return decision.lacking
    return "; ".join(f"{finding.statement}: {with_interval(finding.measured)}" for finding in decision.findings)


def to_text(sections: Sequence[Section], decisions: Sequence[Decision]) -> str:
    """The ledger as Markdown: how many of each verdict, a table per section, the rules."""
    by_number = {decision.claim.number: decision for decision in decisions}
    lines = ["# Claims put to the test", "", f"{tally(decisions)}.", "", SCOPE, ""]
    lines += ["![Claims by verdict](figures/claims_at_a_glance.png)", "", "![How far](figures/claims_margins.png)", ""]
    for section in sections:
        rows = [_table_row(by_number[claim.number]) for claim in section.claims]
        table = Table("", ("", "claim", "published", "ours", "verdict"), tuple(rows))
        lines += [f"## {section.title}", "", to_markdown(table)]
    lines += ["## Rules", ""]
    lines += [f"- **{d.claim.number}.** {d.claim.criterion} {_places(d)}" for d in decisions if d.claim.criterion]
    return "\n".join([*lines, ""])


def to_latex(decisions: Sequence[Decision]) -> str:
    r"""A `longtable` of numbers, claims and verdicts; needs \usepackage{booktabs,longtable}."""
    lines = [r"\begin{longtable}{rp{0.36\linewidth}p{0.36\linewidth}p{0.14\linewidth}}", r"\toprule"]
    lines += [r"& claim & ours & verdict \\", r"\midrule", r"\endhead"]
    for one in decisions:
        texts = (one.claim.number, f"{one.claim.text} ({one.claim.source})", ours(one), one.verdict)
        lines.append(" & ".join(map(escape_latex, texts)) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", ""])


def tally(decisions: Sequence[Decision]) -> str:
    """How many claims have which verdict, in one line; questions of our own are told from published claims."""
    words = ("hold on this testbed", "do not hold on it", "are undecided for lack of power", "need what we do not have")
    counts = [sum(one.verdict == verdict for one in decisions) for verdict in VERDICTS]
    told = (f"{count} {word}" for count, word in zip(counts, words, strict=True))
    own = sum(one.claim.number.startswith("T") for one in decisions)
    return f"Of {len(decisions) - own} published claims and {own} questions of our own, " + ", ".join(told)


def _table_row(decision: Decision) -> tuple[Text, ...]:
    claim = decision.claim
    mark = "" if decision.verdict == NEEDS else "best"
    texts = (claim.number, f"{claim.text} ({claim.source})", claim.published, ours(decision))
    return (*map(Text, texts), Text(decision.verdict, mark))


def _places(decision: Decision) -> str:
    names = ", ".join(f"`results/{name}`" for name in decision.claim.experiments)
    return f"From {names}."


def _bounded(value: float) -> float | None:
    return value if isfinite(value) else None


def _written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="\n")
    return path
