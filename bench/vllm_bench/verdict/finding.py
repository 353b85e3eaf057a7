"""A check looks for a doubt about a run; what it finds is a finding.

Each reason code is one function in one of the files of checks:

    @check("why the limits lie there", suspect=0.01, invalid=0.05, about=("TTFT",))
    def its_code(facts: Facts) -> Doubt | None:
        \"\"\"What it means for a run.\"\"\"
        return Doubt("the figures", "what to do about it", value=0.03)

Its name is the code. `suspect` and `invalid` are limits of the value. Words instead of a number
mean that any doubt is past this limit. A check with neither is a note. `about` says which figures
it puts in doubt; a check that is about several may yield a doubt for each.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from ..figures.digits import counted
from ..figures.facts import Facts
from ..records.text import ABSENT

# What a doubt is about: every figure; TTFT; TPOT, latency and rates; gaps between tokens and ITL;
# GPUs and energy.
Family = Literal["all", "TTFT", "pace", "gaps", "GPUs"]


class Severity(enum.IntEnum):
    """What a finding does to the verdict."""

    NOTE = 0  # worth knowing; doesn't change the verdict
    SUSPECT = 1  # the figures may mislead
    INVALID = 2  # the figures don't mean what they say


@dataclass(frozen=True, slots=True)
class Setting:
    """A remedy: a key of the scenario, and the least value of it that removes a doubt."""

    key: str
    least: float

    @property
    def words(self) -> str:
        number = two_digits_up(self.least)
        if self.key == "trace":
            return f"replay a longer piece of the trace, about {counted(number, 'request')}"
        return f"set {self.key} to about {number}"


def two_digits_up(number: float) -> int:
    """Return the number, rounded up to two significant digits."""
    step = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / step) * step


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason code with its figures and the remedy, each a sentence for people."""

    code: str
    severity: Severity
    figures: str
    advice: str
    about: Family = "all"


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a check saw, before it is compared with the limits.

    `{set}` in the advice becomes the words of `sets`, or of a larger value of the same key that
    another doubt needs.
    """

    figures: str
    advice: str
    value: float = 0.0
    at_most: Severity = Severity.INVALID  # not worse than this, whatever the limits say
    at_least: Severity | None = None  # said even where the value is within the limits
    about: Family | None = None  # None: what the check is about
    sets: Setting | None = None


Find = Callable[[Facts], Doubt | Iterable[Doubt] | None]
Limit = float | str | None  # of a value; words: any doubt; None: never


@dataclass(frozen=True, slots=True)
class Rule:
    """The limits of a check with the reason for them; `@check(...)` makes a check of a function."""

    why: str
    _: KW_ONLY
    suspect: Limit = None
    invalid: Limit = None
    unit: str = "%"  # of the limits; %: the value is a share
    only: tuple[str, str] = ("", "")  # what else must be true for SUSPECT and INVALID, in words
    about: tuple[Family, ...] = ("all",)  # the first, where a doubt doesn't say
    silenced_by: tuple[str, ...] = ()  # codes that name the cause of this one, and its remedy

    def __call__(self, find: Find) -> Check:
        return Check(find, self)

    def past(self, value: float) -> Severity | None:
        """Return how severe a value is; None where it is within the limits."""
        if self.suspect is None and self.invalid is None:
            return Severity.NOTE
        if _is_past(self.invalid, value):
            return Severity.INVALID
        return Severity.SUSPECT if _is_past(self.suspect, value) else None

    @property
    def words(self) -> tuple[str, str]:
        """The limits of SUSPECT and INVALID."""
        suspect, invalid = self._in_words(self.suspect), self._in_words(self.invalid)
        return suspect + self.only[0], invalid + self.only[1]

    def _in_words(self, limit: Limit) -> str:
        if limit is None:
            return ABSENT
        if isinstance(limit, str):
            return limit
        return f"> {100 * limit if self.unit == '%' else limit:g} {self.unit}"


def _is_past(limit: Limit, value: float) -> bool:
    return isinstance(limit, str) or (limit is not None and value > limit)


check = Rule


@dataclass(frozen=True, slots=True)
class Check:
    """A reason code: the function that looks for it, and its rule."""

    find: Find
    rule: Rule

    @property
    def code(self) -> str:
        return self.find.__name__

    @property
    def meaning(self) -> str:
        return (self.find.__doc__ or "").strip()

    def doubts(self, facts: Facts) -> tuple[Doubt, ...]:
        """Return what it saw, within the limits or not."""
        found = self.find(facts)
        if found is None:
            return ()
        return (found,) if isinstance(found, Doubt) else tuple(found)

    def grade(self, doubt: Doubt) -> Severity | None:
        """Return how severe a doubt is; None where it is within the limits."""
        found = self.rule.past(doubt.value)
        if found is None:
            return doubt.at_least
        return max(min(found, doubt.at_most), doubt.at_least or Severity.NOTE)

    @property
    def row(self) -> tuple[str, ...]:
        """The code as a row of docs/METHOD.md's table."""
        about = ", ".join(self.rule.about)
        return f"`{self.code}`", self.meaning, about, *self.rule.words, self.rule.why


@dataclass(frozen=True, slots=True)
class Found:
    """A doubt past a limit, and the check that has it."""

    check: Check
    doubt: Doubt
    severity: Severity

    @property
    def about(self) -> Family:
        return self.doubt.about or self.check.rule.about[0]


def found_by(checks: Iterable[Check], facts: Facts) -> Iterator[Found]:
    """Yield what checks find past their limits, in their order."""
    for one in checks:
        for doubt in one.doubts(facts):
            severity = one.grade(doubt)
            if severity is not None:
                yield Found(one, doubt, severity)
