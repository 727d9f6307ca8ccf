"""A claim as a record: what is claimed and where, what was published, and the rule that decides it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cfgbench.claims.evidence import Evidence
from cfgbench.claims.findings import FAILS, HOLDS, NEEDS, UNDECIDED, Finding, LackingError, standing, together
from cfgbench.claims.shared_noise import with_shared_error

Rule = Callable[[Evidence], Sequence[Finding]]


@dataclass(frozen=True)
class Claim:
    """One claim. Without a rule, `needs` says what it would take to decide it."""

    number: str
    text: str
    source: str
    published: str = ""
    criterion: str = ""  # the rule in words: what is measured, the margin, what decides
    experiments: tuple[str, ...] = ()  # that the rule reads
    rule: Rule | None = None
    needs: str = ""


@dataclass(frozen=True)
class Decision:
    """A claim, what its rule found, and the verdict; `lacking` says what is missing where there is no finding."""

    claim: Claim
    findings: tuple[Finding, ...]
    verdict: str
    lacking: str = ""

    @property
    def decided(self) -> bool:
        """Whether the testbed says yes or no."""
        return self.verdict in (HOLDS, FAILS)


def decide(claim: Claim, evidence: Evidence, worlds: Sequence[Evidence] = ()) -> Decision:
    """Apply a claim's rule to the evidence, and to that without each group of samples for the error of the latter."""
    if claim.rule is None:
        return Decision(claim, (), NEEDS, claim.needs)
    try:
        findings = with_shared_error(tuple(claim.rule(evidence)), _everywhere(claim.rule, worlds))
    except LackingError as lacking:
        return Decision(claim, (), NEEDS, str(lacking))
    verdict = together(findings)
    return Decision(claim, findings, verdict, "" if verdict != UNDECIDED else _power(findings))


def _everywhere(rule: Rule, worlds: Sequence[Evidence]) -> list[Sequence[Finding]]:
    """What a rule finds without each group of samples; nothing where it cannot be applied to all of them."""
    try:
        return [rule(world) for world in worlds]
    except LackingError:
        return []


def decisive(decision: Decision) -> Finding:
    """The finding that the verdict hangs on: the one least far on the claimed side, in widths of its interval."""
    return min(decision.findings, key=standing)


def _power(findings: Sequence[Finding]) -> str:
    """What an undecided claim waits for."""
    open_ones = [finding for finding in findings if finding.verdict == UNDECIDED]
    return f"{len(open_ones)} of {len(findings)} findings have the threshold inside their interval"
