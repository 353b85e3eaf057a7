"""A check looks for a doubt about a run; what it finds is a finding.

Each reason code is one function in one of the files of checks:

    @check("why the limits lie there", suspect=0.01, invalid=0.05)
    def its_code(facts: Facts) -> Doubt | None:
        \"\"\"What it means for a run.\"\"\"
        return Doubt("the figures", "what to do about it", value=0.03)

Its name is the code. `suspect` and `invalid` are limits of the value. Words instead of a number
mean that any doubt is past this limit. A check with neither is a note.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from ..figures.facts import Facts
from ..records.text import ABSENT


class Severity(enum.IntEnum):
    """What a finding does to the verdict."""

    NOTE = 0  # worth knowing; doesn't change the verdict
    SUSPECT = 1  # the figures may mislead
    INVALID = 2  # the figures don't mean what they say


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason code with its figures and the remedy, each a sentence for people."""

    code: str
    severity: Severity
    figures: str
    advice: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a check saw, before it is compared with the limits."""

    figures: str
    advice: str
    value: float = 0.0
    at_most: Severity = Severity.INVALID  # not worse than this, whatever the limits say


Find = Callable[[Facts], Doubt | None]
Limit = float | str | None  # of a value; words: any doubt; None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A reason code: the function that looks for it, its limits, and the reason for the limits."""

    find: Find
    why: str
    suspect: Limit
    invalid: Limit
    unit: str  # of the limits; %: the value is a share
    only: str  # what else must be true for SUSPECT, in words

    @property
    def code(self) -> str:
        return self.find.__name__

    @property
    def meaning(self) -> str:
        return (self.find.__doc__ or "").strip()

    def look(self, facts: Facts) -> Finding | None:
        doubt = self.find(facts)
        severity = None if doubt is None else self.severity(doubt.value)
        if doubt is None or severity is None:
            return None
        return Finding(self.code, min(severity, doubt.at_most), doubt.figures, doubt.advice)

    def severity(self, value: float) -> Severity | None:
        """Return how severe a value is; None where it is within the limits."""
        if self.suspect is None and self.invalid is None:
            return Severity.NOTE
        if _is_past(self.invalid, value):
            return Severity.INVALID
        return Severity.SUSPECT if _is_past(self.suspect, value) else None

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """The code as a row of docs/METHOD.md's table."""
        suspect, invalid = self._in_words(self.suspect), self._in_words(self.invalid)
        return f"`{self.code}`", self.meaning, suspect + self.only, invalid, self.why

    def _in_words(self, limit: Limit) -> str:
        if limit is None:
            return ABSENT
        if isinstance(limit, str):
            return limit
        return f"> {100 * limit if self.unit == '%' else limit:g} {self.unit}"


def _is_past(limit: Limit, value: float) -> bool:
    return isinstance(limit, str) or (limit is not None and value > limit)


def check(
    why: str, *, suspect: Limit = None, invalid: Limit = None, unit: str = "%", only: str = ""
) -> Callable[[Find], Check]:
    """Make a check of the function that looks for a doubt."""
    return lambda find: Check(
        find=find, why=why, suspect=suspect, invalid=invalid, unit=unit, only=only
    )
