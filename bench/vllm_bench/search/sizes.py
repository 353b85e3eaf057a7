"""How many requests a run of a search has, by its purpose and by the time that there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .probe import Purpose
from .steps import FEWEST, Space, Step

# Requests, and how many of the first aren't counted: the queue is shorter then than it will be.
FULL: dict[Purpose, tuple[int, int]] = {
    "find": (400, 120),
    "close": (1000, 300),
    "confirm": (2000, 500),
}
FEWEST_REQUESTS = 100
# Of the whole time, for one run: some five double, five halve, and four confirm.
SHARE: dict[Purpose, float] = {"find": 0.03, "close": 0.06, "confirm": 0.12}
A_STREAM = 10  # requests of a closed loop: its start is one for each stream
AROUND_S = 5.0  # a run's start and end, and the time in which the server comes to rest


@dataclass(frozen=True, slots=True)
class Size:
    """The requests of a run, and how many of them aren't counted."""

    requests: int
    dropped: int


def size_of(step: Step, space: Space, budget_s: float, per_s: float) -> Size:
    """Return the size of a run whose requests come at about this rate.

    As the method asks, or what a share of the time allows, but not fewer than 100.
    """
    full, dropped = FULL[step.purpose]
    if space.whole:
        full = max(full, A_STREAM * round(step.load))
    fits = math.floor(per_s * budget_s * SHARE[step.purpose])
    requests = max(FEWEST_REQUESTS, min(full, fits))
    if space.whole:  # each stream has ended its first ones
        requests = max(requests, A_STREAM // 2 * round(step.load))
    return Size(requests, math.ceil(requests * dropped / FULL[step.purpose][0]))


def run_s(size: Size, per_s: float) -> float:
    """Return about how long a run takes, with what lies before and after it."""
    return size.requests / per_s + AROUND_S


def expected(space: Space, answer: float) -> Iterator[Step]:
    """Yield the runs of a search that ends at this answer, if nothing goes wrong."""
    low, high = space.low, None
    while high is None and low < space.high:
        yield Step("find", low)
        up = space.rounded(2 * low)
        if up > answer:
            yield Step("find", up)
            high = up
        else:
            low = up
    while high is not None and not space.closed(low, high):
        middle = space.middle(low, high)
        yield Step("close", middle)
        low, high = (middle, high) if middle <= answer else (low, middle)
    for _ in range(FEWEST):
        yield Step("confirm", low)
