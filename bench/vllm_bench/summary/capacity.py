"""The highest load that met a scenario's objectives, and the next one up, that didn't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .levels import Level


@dataclass(frozen=True, slots=True)
class Capacity:
    """Two neighbours among the levels that were measured: at most one is None.

    What lies between them is unknown.
    """

    met: Level | None
    missed: Level | None

    @property
    def words(self) -> str:
        most = "no level met every objective"
        if self.met is not None:
            most = f"every objective was met up to {self.met.load.words}"
        if self.missed is None:
            return f"{most}, the most that was tried: try more"
        return f"{most}; {self.missed.load.words} missed: {_names(self.missed)}"


def capacity(levels: Sequence[Level]) -> Capacity | None:
    """Return the capacity of levels in rising order; None where they have no objectives.

    A level above one that missed doesn't count, were it to meet them: it did so by luck. Nor does
    an INVALID one.
    """
    if all(level.attainment is None for level in levels):
        return None
    met: Level | None = None
    for level in levels:
        found = level.attainment
        if found is None or level.verdict == "INVALID" or not found.met:
            return Capacity(met, level)
        met = level
    return Capacity(met, None)


def _names(level: Level) -> str:
    found = level.attainment
    if found is None:
        return "its runs had other objectives"
    if found.met and level.invalid is not None:
        return level.invalid
    return ", ".join(outcome.objective.words for outcome in found.missed)
