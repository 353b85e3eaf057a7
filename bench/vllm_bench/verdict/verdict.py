"""Whether to believe a run: VALID, SUSPECT or INVALID, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..figures.attained import run_objectives
from ..figures.digits import markdown_table
from ..figures.facts import Facts
from ..records.text import printable
from . import (
    client_checks,
    delivery_checks,
    load_checks,
    machine_checks,
    queue_checks,
    reply_checks,
    run_checks,
    server_checks,
)
from .finding import Check, Doubt, Family, Finding, Severity

FILES = (
    run_checks,
    load_checks,
    queue_checks,
    client_checks,
    delivery_checks,
    reply_checks,
    server_checks,
    machine_checks,
)
# Equally serious findings are shown in the order of these files.
CHECKS: tuple[Check, ...] = tuple(
    found for file in FILES for found in vars(file).values() if isinstance(found, Check)
)


def codes_table() -> str:
    """Return the codes as a Markdown table, as docs/METHOD.md has it."""
    headings = ("code", "meaning", "about", "SUSPECT", "INVALID", "why there")
    return markdown_table([headings, ["---"] * len(headings), *(check.row for check in CHECKS)])


Level = Literal["VALID", "SUSPECT", "INVALID"]
LEVELS: dict[Severity, Level] = {
    Severity.NOTE: "VALID",
    Severity.SUSPECT: "SUSPECT",
    Severity.INVALID: "INVALID",
}
# TTFT, latency, TPOT and throughput: what a run is first read for.
HEADLINE: tuple[Family, ...] = ("TTFT", "pace")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of a run, the most serious first; and the families of its headline figures."""

    findings: tuple[Finding, ...]
    families: tuple[Family, ...] = HEADLINE

    def of(self, *families: Family) -> Level:
        """Return the word on a family's figures, or the worst of several."""
        return _worst(f for f in self.findings if f.about in ("all", *families))

    def alone(self, family: Family) -> Level:
        """Return the word on a family's figures by the findings about them alone."""
        return _worst(f for f in self.findings if f.about == family)

    @property
    def level(self) -> Level:
        """The run's word: the worst of its headline's families."""
        return self.of(*self.families)

    @property
    def doubts(self) -> tuple[Finding, ...]:
        """The findings because of which the run is not VALID."""
        return tuple(f for f in self.findings if self._counts(f))

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The others: worth knowing, or doubts about figures outside the headline alone."""
        return tuple(f for f in self.findings if not self._counts(f))

    def _counts(self, finding: Finding) -> bool:
        return finding.severity > Severity.NOTE and finding.about in ("all", *self.families)

    @property
    def reasons(self) -> str:
        """The codes of the doubts, in words for a cell: `errors, window_short`."""
        return ", ".join(dict.fromkeys(f.code for f in self.doubts))


def _worst(found: Iterable[Finding]) -> Level:
    return LEVELS[max((f.severity for f in found), default=Severity.NOTE)]


# ---- one voice: no finding contradicts another one's cause or remedy ----


@dataclass(frozen=True, slots=True)
class _Found:
    """A doubt past a limit, and the check that has it."""

    check: Check
    doubt: Doubt
    severity: Severity


def findings(checks: Sequence[Check], facts: Facts) -> list[Finding]:
    """Return what the checks find, in their order."""
    found = _unsilenced(list(_found(checks, facts)))
    return [_finding(one, _remedy(one.doubt, found)) for one in found]


def _found(checks: Sequence[Check], facts: Facts) -> Iterable[_Found]:
    for check in checks:
        for doubt in check.doubts(facts):
            severity = check.grade(doubt)
            if severity is not None:
                yield _Found(check, doubt, severity)


def _unsilenced(found: Sequence[_Found]) -> list[_Found]:
    """Leave out what another finding explains: it names the cause, and what to do about it."""
    codes = {one.check.code for one in found}
    return [one for one in found if codes.isdisjoint(one.check.rule.silenced_by)]


def _remedy(doubt: Doubt, found: Iterable[_Found]) -> str:
    """Return a doubt's advice. Of several values for one key the largest removes all doubts."""
    if doubt.sets is None:
        return doubt.advice
    wanted = [one.doubt.sets for one in found if one.doubt.sets is not None]
    largest = max((s for s in wanted if s.key == doubt.sets.key), key=lambda s: s.least)
    return doubt.advice.replace("{set}", largest.words)


def _finding(one: _Found, advice: str) -> Finding:
    about = one.doubt.about or one.check.rule.about[0]
    return Finding(one.check.code, one.severity, one.doubt.figures, advice, about)


# ---- the run ----


def judge(facts: Facts) -> Verdict:
    """Return the verdict on a run."""
    found = sorted(findings(CHECKS, facts), key=lambda f: -f.severity)
    return Verdict(tuple(found), headline_families(facts))


def headline_families(facts: Facts) -> tuple[Family, ...]:
    """Return the families of the figures that a run is first read for."""
    asked = {objective.metric for objective in run_objectives(facts)}
    return (*HEADLINE, "gaps") if "max_gap_ms" in asked else HEADLINE


def headline(verdict: Verdict) -> str:
    """Return the verdict in a line: `SUSPECT (window_short)`."""
    return verdict.level + (f" ({verdict.reasons})" if verdict.doubts else "")


def finding_text(finding: Finding) -> str:
    """Return a finding as one plain line."""
    return printable(f"{title(finding)}: {finding.figures} → {finding.advice}", 800)


def title(finding: Finding) -> str:
    """Return how bad it is, its code, and what it is about: `SUSPECT loop_lag (gaps)`."""
    about = "" if finding.about == "all" else f" ({finding.about})"
    return f"{finding.severity.name} {finding.code}{about}"
