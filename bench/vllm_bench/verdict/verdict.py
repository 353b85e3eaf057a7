"""Whether to believe a run: VALID, SUSPECT or INVALID, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..figures.digits import markdown_table
from ..figures.facts import Facts
from ..records.text import printable
from . import client_checks, load_checks, machine_checks, run_checks, server_checks
from .finding import Check, Finding, Severity

# Equally serious findings are shown in the order of these files.
CHECKS: tuple[Check, ...] = tuple(
    found
    for file in (run_checks, load_checks, client_checks, server_checks, machine_checks)
    for found in vars(file).values()
    if isinstance(found, Check)
)


def codes_table() -> str:
    """Return the codes as a Markdown table, as docs/METHOD.md has it."""
    headings = ("code", "meaning", "SUSPECT", "INVALID", "why there")
    return markdown_table([headings, ["---"] * 5, *(check.row for check in CHECKS)])


Level = Literal["VALID", "SUSPECT", "INVALID"]
LEVELS: dict[Severity, Level] = {
    Severity.NOTE: "VALID",
    Severity.SUSPECT: "SUSPECT",
    Severity.INVALID: "INVALID",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of a run, the most serious first."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """VALID where only notes were found."""
        return LEVELS[max((f.severity for f in self.findings), default=Severity.NOTE)]

    @property
    def doubts(self) -> tuple[Finding, ...]:
        """The findings because of which the run is not VALID."""
        return tuple(f for f in self.findings if f.severity > Severity.NOTE)

    @property
    def notes(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == Severity.NOTE)

    @property
    def reasons(self) -> str:
        """The codes of the doubts, in words for a cell: `errors, window_short`."""
        return ", ".join(f.code for f in self.doubts)


def judge(facts: Facts) -> Verdict:
    """Return the verdict on a run."""
    found = [finding for check in CHECKS if (finding := check.look(facts)) is not None]
    return Verdict(tuple(sorted(found, key=lambda f: -f.severity)))


def headline(verdict: Verdict) -> str:
    """Return the verdict in a line: `SUSPECT (window_short)`."""
    return verdict.level + (f" ({verdict.reasons})" if verdict.doubts else "")


def finding_text(finding: Finding) -> str:
    """Return a finding as one plain line."""
    return printable(
        f"{finding.severity.name} {finding.code}: {finding.figures} → {finding.advice}", 800
    )
