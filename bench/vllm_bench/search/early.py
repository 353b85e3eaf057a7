"""When a run of a search may be ended early: more requests wouldn't change what it says."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..figures.digits import counted
from ..figures.objectives import BETWEEN_TOKENS, Objective
from ..records.request_record import RequestRecord
from .probe import ROUNDING
from .sizes import Size

# A confirmation counts several runs together: one that is over may be made up for by the others.
OVER = {"find": 1.0, "close": 1.0, "confirm": 2.0}
CHANCE = 4.0  # standard deviations of what comes, by which more came than was served
GREW = 0.20  # of what came: see not_stationary
GROWING = "the queue grew"  # how a reason begins that is about that
MORE = 1.5  # times as many under way as halfway
LATENCIES = 3.0  # a run must have lasted this many before a queue can be told from its start


@dataclass
class Counts:
    """Counts the rows of a run as they come, and says when they are enough."""

    tiers: Sequence[Sequence[Objective]]
    size: Size
    over: float  # how many times what is allowed may be late before it is over
    due_s: Sequence[float]  # of an open loop; empty: a closed one, whose queue can't grow
    # Of the requests, by class. One with streams of its own has none: it is known only at the end.
    shares: Mapping[str, float] = field(default_factory=dict)
    _late: dict[Objective, int] = field(default_factory=dict)
    _seen: int = 0
    _ends_s: list[float] = field(default_factory=list)
    _latency_s: float = 0.0  # of all together

    def enough(self, rows: Sequence[RequestRecord], now_s: float) -> str | None:
        """Take the rows since the last time; return why the run may end, or None."""
        for row in rows:
            self._take(row)
        return self._over() or (self._growing(now_s) if rows else None)

    def _take(self, row: RequestRecord) -> None:
        self._seen += 1
        self._ends_s.append(row.t_end_s)
        self._latency_s += row.t_end_s - row.t_scheduled_s
        # Turns of a conversation are numbered together, however late they come.
        place = row.request_index if self.due_s else self._seen - 1
        if row.class_ is not None:  # each class numbers its own
            place = bisect_left(self.due_s, row.t_scheduled_s)
        if place < self.size.dropped:
            return
        for objective in {one for tier in self.tiers for one in tier}:
            if objective.of_jobs or objective.of_class not in (None, row.class_):
                continue
            late = not _within(row, objective)
            self._late[objective] = self._late.get(objective, 0) + late

    def _over(self) -> str | None:
        """Return which objective each tier can't meet any more; None: one of them can."""
        missed = [next(filter(self._lost, tier), None) for tier in self.tiers]
        first = missed[0] if missed else None
        if first is None or None in missed:
            return None
        return (
            f"ended after {self._seen} of {counted(self.size.requests, 'request')}: "
            f"{self._late[first]} late, and {self._may(first):.0f} may be"
        )

    def _lost(self, objective: Objective) -> bool:
        return self._late.get(objective, 0) > self.over * self._may(objective)

    def _may(self, objective: Objective) -> float:
        """Return how many of the counted requests may be late; of a class about as many."""
        share = max(1 - objective.share, 0.0)
        if objective.of_class is not None:
            share *= self.shares.get(objective.of_class, math.inf)
            if not math.isfinite(share):
                return math.inf
        return math.floor(share * (self.size.requests - self.size.dropped) + ROUNDING)

    def _growing(self, now_s: float) -> str | None:
        """Return how far the queue has grown; None: it hasn't, or it is too early to say.

        In the second half of the time so far a fifth of what came wasn't served, and by more than
        chance; and many more are under way than halfway: from the start on it would be twice.
        """
        if not self.due_s or self._seen <= self.size.dropped:
            return None
        if now_s < LATENCIES * self._latency_s / self._seen:
            return None
        half_s = now_s / 2
        came, before = bisect_right(self.due_s, now_s), bisect_right(self.due_s, half_s)
        ended = sum(1 for end_s in self._ends_s if end_s <= half_s)
        grown = (came - before) - (self._seen - ended)
        if grown <= max(GREW * (came - before), CHANCE * math.sqrt(came - before)):
            return None
        if came - self._seen < MORE * (before - ended):
            return None
        return (
            f"{GROWING} from {before - ended} to {came - self._seen} requests under way in "
            f"{now_s - half_s:.0f} s"
        )


def _within(row: RequestRecord, objective: Objective) -> bool:
    """Whether a request succeeded within the limit: see figures/attained.py."""
    if row.error_kind is not None or row.error is not None:
        return False
    if objective.metric is None or objective.limit is None:
        return True
    found: float | None = getattr(row, objective.metric.replace("_from_schedule_ms", "_ms"))
    if found is None:
        return objective.metric in BETWEEN_TOKENS and row.token_events > 0
    lag_ms = row.send_lag_ms or 0.0 if "_from_schedule" in objective.metric else 0.0
    return found + lag_ms <= objective.limit
