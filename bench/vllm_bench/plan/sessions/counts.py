"""What became of the sessions of a run, told by the rows of their turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ...records.request_record import RequestRecord
from ..part import Part
from ..plan import Plan
from ..share import NS_PER_S
from .script import Step

HELD_S = 0.001  # later than a stamp by more than this: the last answer held a turn up
APART = 100e-6  # the clock of a machine that has kept it may part from the head's as fast as this


class SessionCounts:
    """Counts the plays of a run's parts, and their turns."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._open: dict[tuple[int, int], _Seen] = {}  # by part and play, until all turns ended
        self.rows: Counter[int] = Counter()  # by part
        self._counts: Counter[str] = Counter()
        self._cut_ns = 0

    def count(self, index: int, record: RequestRecord) -> None:
        """Add a turn that has ended."""
        part = self._plan.part(index)
        if part.plays is None:
            return
        self.rows[part.place] += 1
        number = index // part.of
        play, place = part.plays.at(number)
        seen = self._open.setdefault((part.place, play), _Seen(part.plays.size(play)))
        seen.rows += 1
        seen.failed |= record.error_kind not in (None, "cancelled")  # cut off by the run's own end
        step = part.plays.script(play).steps[place]
        self._counts["gaps_cut"] += step.cut_ns > 0
        self._cut_ns += step.cut_ns
        self._counts["unknown_waits"] += step.wait_kind == "unknown"
        self._counts["held"] += seen.held(step, record)
        if seen.rows == 1:
            self._counts["plays"] += 1
            self._counts["wrapped"] += part.requests.uses.earlier(play) > 0
        if seen.rows == seen.size:
            self._counts["failed" if seen.failed else "ended"] += 1
            del self._open[part.place, play]

    def not_sent(self, part: Part) -> int:
        """Return how many turns of a part's sessions that failed have no row so far."""
        mine = (seen for (place, _), seen in self._open.items() if place == part.place)
        return sum(seen.size - seen.rows for seen in mine if seen.failed)

    def facts(self) -> dict[str, Any]:
        """The entry on sessions in the run's JSON; empty: it has none."""
        if all(part.plays is None for part in self._plan.drawn):
            return {}
        names = ("plays", "ended", "failed", "gaps_cut", "held", "wrapped", "unknown_waits")
        found: dict[str, Any] = {name: self._counts[name] for name in names}
        found["failed"] += sum(seen.failed for seen in self._open.values())
        found["turns_not_sent"] = sum(map(self.not_sent, self._plan.drawn))
        found["gaps_cut_s"] = round(self._cut_ns / NS_PER_S, 3)
        return found


@dataclass(slots=True)
class _Seen:
    """The turns of a play whose rows came."""

    size: int
    rows: int = 0
    failed: bool = False
    zero_s: float | None = None  # when the session began, by its stamps

    def held(self, step: Step, record: RequestRecord) -> bool:
        """Whether an answer kept a turn that has a stamp from being due at it."""
        if step.not_before_ns is None:
            return False
        stamp_s, due_s = step.not_before_ns / NS_PER_S, record.t_scheduled_s
        if self.zero_s is None:
            self.zero_s = due_s - stamp_s
        apart_s = 0.0 if record.machine is None else APART * abs(due_s - self.zero_s)
        return due_s - self.zero_s - stamp_s > HELD_S + apart_s
