"""Whether to believe a run: VALID, SUSPECT or INVALID, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from .finding import Check, Doubt, Family, Finding, Found, Severity, found_by
from .machines import fleet_checks
from .machines.each import by_machine

FILES = (
    run_checks,
    load_checks,
    queue_checks,
    fleet_checks,
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


def findings(found: Sequence[Found]) -> list[Finding]:
    """Return what checks found, in its order, without what another finding explains.

    That one names the cause, and what to do about it.
    """
    codes = {one.check.code for one in found}
    told = [one for one in found if codes.isdisjoint(one.check.rule.silenced_by)]
    return [
        Finding(of.check.code, of.severity, of.doubt.figures, _remedy(of.doubt, told), of.about)
        for of in told
    ]


def _remedy(doubt: Doubt, found: Iterable[Found]) -> str:
    """Return a doubt's advice. Of several values for one key the largest removes all doubts."""
    if doubt.sets is None:
        return doubt.advice
    wanted = [one.doubt.sets for one in found if one.doubt.sets is not None]
    largest = max((s for s in wanted if s.key == doubt.sets.key), key=lambda s: s.least)
    return doubt.advice.replace("{set}", largest.words)


# ---- the run ----


def judge(facts: Facts) -> Verdict:
    """Return the verdict on a run."""
    return verdicts(facts)[0]


def verdicts(facts: Facts) -> tuple[Verdict, dict[str, Verdict]]:
    """Return the verdict on a run, and that on each of its classes.

    The run's has all that was found, so that its word is the worst; a class's what was found of
    the run as a whole, and of its own requests.
    """
    own = [one for one in CHECKS if not facts.classes or one.code not in CLASS_ALONE]
    whole = by_machine(list(found_by(own, facts)), own, facts)
    parts = {name: list(_of_class(name, part)) for name, part in facts.classes.items()}
    every = [*whole, *(one for found in parts.values() for one in found)]
    families = headline_families(facts)
    of_each = {
        name: _verdict([*whole, *found], headline_families(facts.classes[name]))
        for name, found in parts.items()
    }
    return _verdict(every, families), of_each


def _verdict(found: Sequence[Found], families: tuple[Family, ...]) -> Verdict:
    return Verdict(tuple(sorted(findings(found), key=lambda f: -f.severity)), families)


# Checks on what each class asked for and sent: not of the run as a whole where it has classes.
CLASS_ALONE = frozenset(
    {
        *("turned_away", "rate_shortfall", "cap_bound"),
        *("no_first_token", "usage_contradicts", "answers_without_text", "length_mismatch"),
        *("unanswered", "thoughts_in_content", "prefix_not_as_wanted"),
    }
)
# A class that lacks successes has no figures (`needs …`): all others are what they are.
CLASS_CHECKS = tuple(
    one
    for one in CHECKS
    if one.code in {*CLASS_ALONE, "not_stationary", "errors", "few_samples", "cache_hits"}
)


def _of_class(name: str, part: Facts) -> Iterable[Found]:
    """Yield what is found of a class's requests, with its name."""
    for one in found_by(CLASS_CHECKS, part):
        severity = Severity.NOTE if one.check.code == "few_samples" else one.severity
        figures = f"class {printable(name, 32)}: {one.doubt.figures}"
        yield replace(one, severity=severity, doubt=replace(one.doubt, figures=figures))


def headline_families(facts: Facts) -> tuple[Family, ...]:
    """Return the families of the figures that a run is first read for."""
    parts = (facts, *facts.classes.values())
    asked = {objective.metric for part in parts for objective in run_objectives(part)}
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
