"""One figure over the repeats of a level: each run is one sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .batches import MIN_REPEATS, TAIL, Interval
from .quantiles import student_t


@dataclass(frozen=True, slots=True)
class Repeated:
    """One figure of several runs of a level: each run's value, their mean and its interval."""

    values: tuple[float, ...]  # in the runs' order
    centre: float  # their geometric mean
    interval: Interval | None  # t on the logarithms; None: fewer than three runs


def repeated(values: Sequence[float]) -> Repeated | None:
    """Return the figure over the runs; None where no run has a positive value.

    Each run is one sample. The mean is of logarithms, since runs differ by factors.
    """
    kept = tuple(values)
    if not kept or min(kept) <= 0:
        return None
    logs = [math.log(value) for value in kept]
    mean = sum(logs) / len(logs)
    if len(kept) < MIN_REPEATS:
        # exp(log(x)) would change a single run's figure by rounding.
        return Repeated(kept, math.exp(mean) if len(kept) > 1 else kept[0], None)
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1) / len(logs))
    half = student_t(len(logs) - 1, 1 - TAIL) * error
    return Repeated(kept, math.exp(mean), Interval(math.exp(mean - half), math.exp(mean + half)))
