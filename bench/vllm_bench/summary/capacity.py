"""The highest load that met a scenario's objectives, and the next higher one, which didn't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .levels import Level


@dataclass(frozen=True, slots=True)
class Capacity:
    """Two neighbouring levels: the last that met, and the first that didn't. At most one is None.

    The capacity between them is unknown.
    """

    met: Level | None
    beyond: Level | None  # it missed, or its runs don't show that it met

    @property
    def words(self) -> str:
        most = "no level was shown to meet every objective"
        if self.met is not None:
            most = f"every objective was met up to {self.met.load.words}"
        if self.beyond is None:
            return f"{most}, the highest level: try higher ones"
        return f"{most}; {self.beyond.load.words} {_why_not(self.beyond)}"


def capacity(levels: Sequence[Level]) -> Capacity | None:
    """Return the capacity of levels in rising order; None where they have no objectives.

    A level above one that didn't meet them doesn't count, even if it met them: that was chance.
    """
    if all(run.attainment is None for level in levels for run in level.runs):
        return None
    met: Level | None = None
    for level in levels:
        if level.attainment is None or not level.attainment.met:
            return Capacity(met, level)
        met = level
    return Capacity(met, None)


def _why_not(level: Level) -> str:
    found = level.attainment
    if found is None:
        return f"doesn't count: {level.invalid or 'its runs had other objectives'}"
    if found.missed:
        return f"missed: {', '.join(outcome.objective.words for outcome in found.missed)}"
    return f"doesn't show: {', '.join(outcome.objective.words for outcome in found.not_shown)}"
