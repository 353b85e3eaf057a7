"""What all checks together say of a run: no finding contradicts another one's cause or remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..figures.facts import Facts
from .finding import Check, Doubt, Finding, Severity


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
