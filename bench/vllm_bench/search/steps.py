"""Which load to try next: a pure function of the runs so far, so a search can be gone on with.

Up by doubling from the lowest load, then bisection on the log until the bracket is 3 % wide (or two
neighbouring whole numbers), then confirmation of its lower end on fresh seeds; where that fails,
3 % down. Of several tiers each has its own bracket, and each run counts for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .probe import Probe, Purpose, confirmation

BRACKET = 0.03  # of the answer: narrower than what the confirmation can tell
FEWEST, MOST = 3, 6  # runs of a confirmation
FAR = (1 + BRACKET) ** 4  # down to the next load that met: then there is more to look for
DIGITS = 4  # of a rate that is tried
SPOILT = 2  # runs in a row that can't be believed: a third would hardly be better

End = Literal["confirmed", "up to high", "below low"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Among which loads the answer is looked for."""

    low: float
    high: float
    whole: bool = False  # streams, sessions
    tiers: tuple[str, ...] = ("",)

    def rounded(self, load: float) -> float:
        """Return a load that can be tried, near this one."""
        near = round(load) if self.whole else float(f"{load:.{DIGITS}g}")
        return min(self.high, max(self.low, near))

    def closed(self, low: float, high: float) -> bool:
        """Whether nothing worth trying lies between two loads."""
        return high <= low * (1 + BRACKET) or (self.whole and high - low <= 1)

    def middle(self, low: float, high: float) -> float:
        """Return the load halfway between on the log, other than both."""
        found = self.rounded(math.sqrt(low * high))
        return min(high - 1, max(low + 1, found)) if self.whole else found

    def below(self, load: float) -> float:
        """Return the load 3 % down; a whole one at least 1 down."""
        down = load * (1 - BRACKET)
        return self.rounded(min(load - 1, math.floor(down)) if self.whole else down)


@dataclass(frozen=True, slots=True)
class Step:
    """A run to be made."""

    purpose: Purpose
    load: float
    tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """What the runs so far say of one tier."""

    tier: str
    low: float | None  # the highest load that met below all that didn't
    high: float | None  # the lowest that didn't
    step: Step | None  # what to try next; None: it has ended
    end: End | None


def next_step(space: Space, probes: Sequence[Probe], *, hurry: bool = False) -> Step | None:
    """Return the next run; None: each tier has its answer, or no run can be believed.

    In a hurry the lower end is confirmed, however wide the bracket is.
    """
    if stuck(probes):
        return None
    brackets = (bracket(space, tier, probes, hurry=hurry) for tier in space.tiers)
    return next((one.step for one in brackets if one.step is not None), None)


def stuck(probes: Sequence[Probe]) -> str | None:
    """Return why the search can't go on: its last runs can't be believed; None: it can."""
    last = probes[-SPOILT:]
    if len(last) == SPOILT and all(probe.spoilt is not None for probe in last):
        return last[-1].spoilt
    return None


def bracket(space: Space, tier: str, probes: Sequence[Probe], *, hurry: bool = False) -> Bracket:
    """Return between which loads a tier's answer lies, and the next step towards it."""
    judged = _judged(tier, probes)
    high = min(judged.failed, default=None)
    low = max((load for load in judged.met if high is None or load < high), default=None)
    found = _next(space, judged, low, high, hurry=hurry)
    if found is None:
        return Bracket(tier=tier, low=None, high=high, step=None, end="below low")
    purpose, load = found
    if purpose == "confirm" and load in judged.confirmed:
        end: End = "up to high" if high is None else "confirmed"
        return Bracket(tier=tier, low=load, high=high, step=None, end=end)
    return Bracket(tier=tier, low=low, high=high, step=Step(purpose, load, tier), end=None)


def _next(
    space: Space, judged: _Judged, low: float | None, high: float | None, *, hurry: bool
) -> tuple[Purpose, float] | None:
    """Return what to try next; None: not even the lowest load meets the objectives."""
    if high is None:
        if low is None:
            return "find", space.low
        return ("find", space.rounded(2 * low)) if low < space.high else ("confirm", low)
    if high in judged.unsure:
        return "close", high
    if low is None and high <= space.low:
        return None
    least = space.low if low is None else low
    refuted = high in judged.refuted
    enough = space.closed(least, high) or (hurry and low is not None)
    if not enough and (not refuted or high > least * FAR):
        return "close", space.middle(least, high)
    down = space.below(high)
    return "confirm", max(down, least) if refuted and not hurry else least


def confirming(tier: str, probes: Sequence[Probe]) -> Iterator[Probe]:
    """Yield the runs that were made to confirm a tier's answer: others don't count for that."""
    for probe in believed(probes):
        if probe.purpose == "confirm" and probe.tier == tier:
            yield probe


def believed(probes: Sequence[Probe]) -> Iterator[Probe]:
    """Yield the runs that answer something."""
    return (probe for probe in probes if probe.spoilt is None)


@dataclass(frozen=True, slots=True)
class _Judged:
    """The loads that were tried, by what they showed of one tier."""

    met: set[float]
    failed: set[float]
    unsure: set[float]  # of those that failed: by few requests, and not clearly
    refuted: set[float]  # of those that failed: by the runs that should confirm them
    confirmed: set[float]


def _judged(tier: str, probes: Sequence[Probe]) -> _Judged:
    """Judge each load by its last run, and by its confirmation where it has one."""
    last = {probe.load: probe for probe in believed(probes)}
    met = {load for load, probe in last.items() if probe.holds(tier)}
    few = {load for load, p in last.items() if p.purpose == "find" and p.word(tier) == "not shown"}
    own: dict[float, list[Probe]] = {}
    for probe in confirming(tier, probes):
        own.setdefault(probe.load, []).append(probe)
    words = {load: confirmation(runs, tier, FEWEST, MOST) for load, runs in own.items()}
    refuted = {load for load, word in words.items() if word is False}
    met = (met | words.keys()) - refuted
    failed = last.keys() - met
    confirmed = {load for load, word in words.items() if word}
    return _Judged(met, failed, failed & few, refuted, confirmed)
