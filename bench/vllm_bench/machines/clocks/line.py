"""A machine's clock against this one's, by pings: their fastest, and a line through them. Pure.

A ping asks a machine for its monotonic clock. It was read somewhere within the round trip, so the
clocks differ by (theirs less the middle of ours) ± half the round trip, and no queue breaks that
bound. Where within it can't be seen: a way that is always slower in one direction looks like an
offset of half of the difference. Two free crystals part by 1 to 3 ms a minute, hence a line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations

EVERY_NS = 10_000_000_000  # the fastest of so long is a point of the line
WINDOW = 30  # points of a line: over more than five minutes crystals change their pace
LEAST = 3  # points of a line with a slope
EXACT = 10e-6  # and some pair of them tells the slope to this
FLOOR = 0.1  # of a round trip, by which the fastest still differ unseen
# How fast clocks may part from their line, between pings: crystals keep within 50 ppm each.
DOUBT = 100e-6


@dataclass(frozen=True, slots=True)
class Ping:
    """What one answer tells."""

    at_ns: int  # the middle of its round trip, by our clock
    offset_ns: int  # their clock less ours
    half_ns: int  # of the round trip: by so much the offset can be wrong

    @property
    def theirs_ns(self) -> int:
        """The same instant by their clock."""
        return self.at_ns + self.offset_ns

    def bound_ns(self, at_ns: int) -> float:
        """Return how wrong its offset can be at an instant."""
        return self.half_ns + DOUBT * abs(at_ns - self.at_ns)


def ping(sent_ns: int, theirs_ns: int, got_ns: int) -> Ping:
    """Return what an answer tells, by when it was asked for and came (our clock)."""
    middle_ns = (sent_ns + got_ns) // 2
    return Ping(middle_ns, theirs_ns - middle_ns, (got_ns - sent_ns + 1) // 2)


@dataclass(frozen=True, slots=True)
class Line:
    """Their clock less ours, as it changes."""

    at_ns: int  # by our clock
    offset_ns: int  # then
    drift: float | None  # theirs gains so much of each second; None: too little is known

    def offset_at(self, ours_ns: int) -> int:
        """Return the offset at an instant of our clock."""
        return self.offset_ns + round((self.drift or 0.0) * (ours_ns - self.at_ns))

    def ours(self, theirs_ns: int) -> int:
        """Return an instant of their clock by ours."""
        since_ns = theirs_ns - self.at_ns - self.offset_ns
        return self.at_ns + since_ns - round(since_ns * (d := self.drift or 0.0) / (1 + d))

    def miss_ns(self, of: Ping) -> int:
        """Return how far a ping lies from the line."""
        return abs(of.offset_ns - self.offset_at(of.at_ns))


def nearest(points: Sequence[Ping], at_ns: int) -> Line:
    """Return the offset of the ping that tells most about an instant."""
    best = min(points, key=lambda point: point.bound_ns(at_ns))
    return Line(best.at_ns, best.offset_ns, None)


def through(points: Sequence[Ping], at_ns: int) -> Line:
    """Return a line through points in the order of time; without a slope where they don't tell it.

    Its slope is the median of those of all pairs, each weighed by how exactly it tells the slope
    (Theil-Sen, weighted): points that a queue held up don't bend it. What all round trips have in
    common is no doubt here, since it is the same at both ends.
    """
    least_ns = min(point.half_ns for point in points)
    doubts = {p: p.half_ns - least_ns + FLOOR * least_ns + 1 for p in points}
    slopes = []
    for a, b in combinations(points, 2):
        apart_ns = b.at_ns - a.at_ns
        slope = (b.offset_ns - a.offset_ns) / apart_ns
        slopes.append((slope, apart_ns / (doubts[a] + doubts[b])))
    if len(points) < LEAST or max(weight for _, weight in slopes) * EXACT < 1:
        return nearest(points, at_ns)
    drift, middle = weighted_median(slopes), points[len(points) // 2]
    flat = Line(middle.at_ns, middle.offset_ns, drift)
    rests = [(p.offset_ns - flat.offset_at(p.at_ns), 1 / doubts[p]) for p in points]
    return Line(middle.at_ns, middle.offset_ns + round(weighted_median(rests)), drift)


def weighted_median(values: Iterable[tuple[float, float]]) -> float:
    """Return the value with half of the weight on each side, of (value, weight)."""
    ordered = sorted(values)
    until = list(accumulate(weight for _, weight in ordered))
    return ordered[min(bisect_right(until, until[-1] / 2), len(ordered) - 1)][0]
