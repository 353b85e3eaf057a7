"""The highest load that met a scenario's objectives, and the next higher one, which didn't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .levels import Level


@dataclass(frozen=True, slots=True)
class Capacity:
    """Two neighbouring levels: the last that met, the first that missed. At most one is None.

    The capacity between them is unknown.
    """

    met: Level | None
    missed: Level | None

    @property
    def words(self) -> str:
        most = "no level met every objective"
        if self.met is not None:
            most = f"every objective was met up to {self.met.load.words}"
        if self.missed is None:
            return f"{most}, the highest level: try higher ones"
        return f"{most}; {self.missed.load.words} missed: {_names(self.missed)}"


def capacity(levels: Sequence[Level]) -> Capacity | None:
    """Return the capacity of levels in rising order; None where they have no objectives.

    A level above one that missed doesn't count, even if it met them: that was chance. An INVALID
    level doesn't count either.
    """
    if not any(run.attainment for level in levels for run in level.runs):
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
        return level.invalid or "its runs had other objectives"
    return ", ".join(outcome.objective.words for outcome in found.missed)
