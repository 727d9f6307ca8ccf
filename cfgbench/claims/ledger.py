"""All claims in order, and the decision on each from the evidence."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cfgbench.claims import article, dhariwal_nichol, ho_salimans, testbed, variants
from cfgbench.claims.claim import Claim, Decision, Rule, decide
from cfgbench.claims.evidence import Evidence
from cfgbench.claims.shared_noise import leave_one_out

RULES: dict[str, Rule] = {
    number: rule
    for module in (article, ho_salimans, dhariwal_nichol, variants, testbed)
    for number, rule in module.RULES.items()
}


@dataclass(frozen=True)
class Section:
    """Claims of one source."""

    title: str
    claims: tuple[Claim, ...]


@cache
def sections() -> tuple[Section, ...]:
    """The ledger: texts from `ledger.toml`, each with its rule."""
    text = (files("cfgbench.claims") / "ledger.toml").read_text(encoding="utf-8")
    return tuple(
        Section(section["title"], tuple(_claim(entry) for entry in section["claims"]))
        for section in tomllib.loads(text)["sections"]
    )


def claims() -> tuple[Claim, ...]:
    """Every claim in order."""
    return tuple(claim for section in sections() for claim in section.claims)


def experiments() -> list[str]:
    """The names of the results folders that some rule reads."""
    return sorted({name for claim in claims() for name in claim.experiments} - {"claims", "costs"})


def judge(evidence: Evidence) -> list[Decision]:
    """The decision on every claim."""
    worlds = leave_one_out(evidence)
    return [decide(claim, evidence, worlds) for claim in claims()]


def _claim(entry: dict[str, object]) -> Claim:
    texts = {name: str(value) for name, value in entry.items() if name != "experiments"}
    names = entry.get("experiments", [])
    assert isinstance(names, list)
    return Claim(**texts, experiments=tuple(map(str, names)), rule=RULES.get(texts["number"]))
