"""Whether a run is worth believing: VALID, SUSPECT or INVALID, and why.

Reason codes: `codes.py`. Limits: `thresholds.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vllm_bench.records.run_info import RunInfo

from ..figures.facts import Facts
from ..records.text import printable
from .codes import CHECKS
from .finding import Finding, Severity

if TYPE_CHECKING:
    import pandas as pd

Level = Literal["VALID", "SUSPECT", "INVALID"]
LEVELS: dict[Severity, Level] = {
    Severity.NOTE: "VALID",
    Severity.SUSPECT: "SUSPECT",
    Severity.INVALID: "INVALID",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about a run, the gravest first."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """VALID where nothing but notes was found."""
        return LEVELS[max((f.severity for f in self.findings), default=Severity.NOTE)]

    @property
    def doubts(self) -> tuple[Finding, ...]:
        """The findings that took VALID away."""
        return tuple(f for f in self.findings if f.severity > Severity.NOTE)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that are only worth knowing."""
        return tuple(f for f in self.findings if f.severity == Severity.NOTE)

    @property
    def reasons(self) -> str:
        """The codes of the doubts, in words for a cell: `errors, window_short`."""
        return ", ".join(f.code for f in self.doubts)


def judge(frame: pd.DataFrame, info: RunInfo | None) -> Verdict:
    """Return the verdict on a run's rows and what is known of it."""
    return judge_facts(Facts(frame, info))


def judge_facts(facts: Facts) -> Verdict:
    """Return the verdict on facts that somebody else needs too."""
    found = [finding for check in CHECKS if (finding := check.find(facts)) is not None]
    return Verdict(tuple(sorted(found, key=lambda f: -f.severity)))


def headline(verdict: Verdict) -> str:
    """Return the verdict in a line: `SUSPECT (window_short)`."""
    return verdict.level + (f" ({verdict.reasons})" if verdict.doubts else "")


def finding_text(finding: Finding) -> str:
    """Return a finding as one plain line."""
    return printable(
        f"{finding.severity.name} {finding.code}: {finding.figures} → {finding.advice}", 800
    )
