"""Where more load stops bringing more work: the knee of throughput over the levels of load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..scenario.load import Load
from .levels import Level
from .summary import RunSummary

# Throughput ~ load ^ elasticity between two levels: 1 while there is room, 0 once there is none.
# At 0.15 twice the load brings 11 % more tokens, and the rest of it waits.
FLAT = 0.15


@dataclass(frozen=True, slots=True)
class Knee:
    """The level from which on more load brought hardly more throughput."""

    load: Load
    next_load: Load
    gain: float  # throughput at the next level over that at this one, less 1

    @property
    def words(self) -> str:
        """The knee for people."""
        more = self.next_load.value / self.load.value - 1
        return (
            f"throughput is used up at {self.load.words}: {self.next_load.words} "
            f"({100 * more:+.0f} % load) brought {100 * self.gain:+.1f} % output tokens/s"
        )


def output_tokens_per_s(run: RunSummary) -> float | None:
    """Return a run's output rate: in the steady window where stamps allow it, else overall."""
    for found in (run.steady, run.throughput):
        if found is not None and found.output_tokens_per_s:
            return found.output_tokens_per_s
    return None


def find_knee(levels: Sequence[Level]) -> Knee | None:
    """Return the knee of levels in rising order; None where throughput rose all the way.

    It is the first level beyond which no level brought much more: one flat step with a rise after
    it is noise.
    """
    points = [_Point(lv.load, _offered(lv), lv.centre(output_tokens_per_s) or 0) for lv in levels]
    known = [point for point in points if point.rate > 0]
    for place, point in enumerate(known[:-1]):
        later = known[place + 1 :]
        if all(_elasticity(point, more) < FLAT for more in later):
            return Knee(point.load, later[0].load, later[0].rate / point.rate - 1)
    return None


@dataclass(frozen=True, slots=True)
class _Point:
    load: Load
    offered: float
    rate: float  # output tokens a second


def _offered(level: Level) -> float:
    """Return the load as it came: a schedule that is drawn at random misses the rate asked for."""
    return level.centre(lambda run: run.realised_rate) or level.load.value


def _elasticity(point: _Point, more: _Point) -> float:
    # Two schedules may come out the other way round: then what was asked for has to do.
    ratio = more.offered / point.offered
    ratio = ratio if ratio > 1 else more.load.value / point.load.value
    return math.log(more.rate / point.rate) / math.log(ratio)
