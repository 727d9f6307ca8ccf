"""The guide's commands, YAML and Python work, its links lead somewhere, and its numbers are those of the results."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from cfgbench import cli
from cfgbench.claims.ledger import claims
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.registry import DTYPES, METHODS, MODELS, SAMPLERS

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "cfgbench" / "docs" / "guide.md"
TEXT = GUIDE.read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block, without the indent of its list item."""

    language: str
    text: str
    line: int


def blocks(language: str) -> list[Block]:
    found = re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", TEXT, re.MULTILINE | re.DOTALL)
    every = [
        Block(
            match[2], re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE), TEXT[: match.start()].count("\n") + 1
        )
        for match in found
    ]
    return [block for block in every if block.language == language]


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.text.splitlines() if line.strip()]


def anchors() -> set[str]:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_language_of_the_guide_is_tested() -> None:
    assert len(re.findall(r"^ *```\w+$", TEXT, re.MULTILINE)) == sum(
        len(blocks(language)) for language in ("sh", "yaml", "python", "text")
    )
    assert all(blocks(language) for language in ("sh", "yaml", "python"))


@pytest.mark.parametrize("line", commands())
def test_a_command_parses_and_what_it_reads_is_there(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "cfgbench"
    options = cli._parser().parse_args(arguments)
    if "experiment" in options:
        assert planner.plan(experiment.load(options.experiment, options.overrides)).tasks
    if "folder" in options:
        made = {
            str(cli._parser().parse_args(shlex.split(other)[1:]).output) for other in commands() if "--output" in other
        }
        assert str(options.folder) in made or (options.folder / "plan.json").is_file()


def test_the_plan_of_the_guide_is_printed() -> None:
    line = next(line for line in commands() if line.startswith("cfgbench plan"))
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert cli.main(shlex.split(line)[1:]) == 0
    assert "cells of 2000 samples" in text.getvalue()


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: f"line{block.line}")
def test_an_experiment_of_the_guide_can_be_planned(block: Block) -> None:
    made = planner.plan(experiment.parse(yaml.safe_load(block.text), f"line {block.line} of the guide"))
    assert len(made.tasks) > 1


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"line{block.line}")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_python_of_the_guide_runs(block: Block) -> None:
    exec(compile(block.text, f"{GUIDE.name}:{block.line}", "exec"), {})


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_somewhere(target: str) -> None:
    if target.startswith("#"):
        assert target[1:] in anchors()
    else:
        assert (GUIDE.parent / target).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:results|experiments|cfgbench|tests)/[\w/.-]+)`", TEXT))))
def test_a_file_named_in_the_text_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_figure_has_a_text_for_those_who_do_not_see_it() -> None:
    assert all(len(text) > 20 for text in re.findall(r"!\[([^\]]*)\]", TEXT))


@pytest.mark.parametrize("quoted", sorted(set(re.findall(r"[\d.]+ ± [\d.]+\d", TEXT))))
def test_a_number_with_an_error_stands_in_the_results(quoted: str) -> None:
    tables = (path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("results/*/results.md")))
    assert any(quoted in table for table in tables)


def test_a_number_without_an_error_is_that_of_the_results() -> None:
    rows = {path.parent.name: path.read_text(encoding="utf-8") for path in ROOT.glob("results/*/results.md")}
    quoted = {
        "gaussians": ("0.958", "0.443", "0.0208"),
        "digits": ("0.823", "0.793", "0.486"),
        "baselines": ("0.482", "0.793"),
    }
    for name, numbers in quoted.items():
        for text in numbers:
            assert text in TEXT
            assert re.search(rf"\| \**{re.escape(text)}\** \|", rows[name])


@pytest.mark.parametrize("name", [*MODELS, *METHODS, *SAMPLERS, *DTYPES])
def test_every_name_that_an_experiment_can_use_is_in_the_guide(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("text", [TEXT, README], ids=["guide", "README"])
def test_the_number_of_claims_is_that_of_the_ledger(text: str) -> None:
    numbers = [claim.number for claim in claims()]
    own = sum(number.startswith("T") for number in numbers)
    assert f"{len(numbers) - own} published claims and {own} questions of our own" in text


def test_every_section_is_in_the_list_of_contents() -> None:
    listed = re.findall(r"^- \[(.+)\]\(#", TEXT, re.MULTILINE)
    assert listed == re.findall(r"^## (.+)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_a_link_of_the_readme_leads_somewhere(target: str) -> None:
    path, _, anchor = target.partition("#")
    assert (ROOT / path).exists() and (not anchor or anchor in anchors())
