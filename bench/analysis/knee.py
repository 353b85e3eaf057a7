"""Where more load stops bringing more work: the knee of throughput over the levels of load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .levels import Level
from .load import Load
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
    rates = [(level.load, level.centre(output_tokens_per_s)) for level in levels]
    known = [(load, rate) for load, rate in rates if rate]
    for place, (load, rate) in enumerate(known[:-1]):
        later = known[place + 1 :]
        if all(_elasticity(load.value, rate, more.value, r) < FLAT for more, r in later):
            return Knee(load, later[0][0], later[0][1] / rate - 1)
    return None


def _elasticity(load: float, rate: float, more_load: float, more_rate: float) -> float:
    return math.log(more_rate / rate) / math.log(more_load / load)
