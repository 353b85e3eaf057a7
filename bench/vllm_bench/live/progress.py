"""The progress of a run, and lines that show it where there is no terminal."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from ..plan.plan import Plan
from ..records.request_record import RequestRecord
from ..reply.read_times import ReadTimes
from .counts import Counts
from .last_seconds import LastSeconds

EVERY_S = 10.0  # between two lines
MOST_LOST = 3  # that are named

ServerSays = Callable[[], Mapping[str, float]]  # empty: nothing recent


@dataclass(frozen=True, slots=True)
class Title:
    """The name of a run, and which of how many runs it is."""

    number: int
    total: int
    scenario: str
    load: str  # for people: `8 streams`
    run_id: str


@dataclass(slots=True)
class Progress(Counts):
    """What a live view can show of a run. Times in seconds."""

    planned: int  # where a closed loop goes by time: at least
    started_s: float
    stopping: bool = False
    stopped_s: float = math.inf  # when sending stopped, from the run's start
    enough: str = ""  # why it is stopping, where nobody asked for it
    over: bool = False  # nothing is sent any more; rows may be fetched
    phase: str = ""  # if not measuring: `warming up 3/8`
    lost: Sequence[str] = ()  # how each machine or sending process was lost
    planned_lost: int = 0  # of lost machines alone, which nobody else sends
    ended_lost: int = 0  # of these
    begun: Callable[[], int] | None = None  # how many planned requests have begun so far
    most_in_flight: int | None = None  # None: any number
    last_due_s: float | None = None  # when the last is due; None: no schedule
    duration_s: float | None = None  # of a closed loop that goes by time
    recent: LastSeconds = field(default_factory=LastSeconds)
    read_times: ReadTimes = field(default_factory=ReadTimes)

    def count(self, record: RequestRecord, stamps: Sequence[int] = ()) -> None:
        """Add one record, and the stamps (ns) of its token events."""
        self.add(record)
        self.recent.ended(record, stamps)

    def counted(self, now: Counts, before: Counts) -> None:
        """Take what has ended where no row comes from, and what was told of that before."""
        self.put_in(before, -1)
        self.put_in(now)
        self.recent.counted(
            self.elapsed_s,
            now.ended - before.ended,
            now.failed - before.failed,
            now.completion_tokens - before.completion_tokens,
        )

    def lose(self, planned: int, ended: int) -> None:
        """Note that nobody sends the rest of these any more."""
        self.planned_lost += planned
        self.ended_lost += ended

    @property
    def elapsed_s(self) -> float:
        return max(0.0, time.perf_counter() - self.started_s)

    @property
    def sending_s(self) -> float:
        return min(self.elapsed_s, self.stopped_s)

    def stop(self, enough: str = "") -> None:
        self.stopping, self.stopped_s, self.enough = True, self.elapsed_s, enough

    @property
    def in_flight(self) -> int | None:
        """Planned requests that began and haven't ended; None: unknown."""
        if self.over:
            return 0
        if self.begun is None or (self.lost and self.last_due_s is not None):
            return None  # who was lost sends nothing of what comes due
        # A stream begins its next request some milliseconds before the end of its last is reported.
        found = max(0, self.begun() - self.ended)
        return found if self.most_in_flight is None else min(found, self.most_in_flight)

    @property
    def left_s(self) -> float | None:
        """Seconds left by the schedule or the time, and at the rate so far; None: unknown, none."""
        if self.over:
            return None
        if self.last_due_s is not None:
            return max(0.0, self.last_due_s - self.elapsed_s) or None
        ended = self.ended - self.ended_lost  # by those that go on
        left = max(0, self.planned - self.planned_lost - ended)
        by_count_s = left * self.elapsed_s / ended if ended else 0.0
        return max(by_count_s, (self.duration_s or 0.0) - self.elapsed_s, 0.0) or None

    @property
    def share(self) -> float:
        """Which part of the run is over, 0 to 1."""
        by_count = min(1.0, self.ended / self.planned) if self.planned else 1.0
        if self.duration_s is None:
            return by_count
        gone_s = 0.0 if self.phase else self.elapsed_s  # connecting and the warm-up aren't part
        return min(by_count, gone_s / self.duration_s, 1.0)

    @property
    def missing(self) -> bool:
        """Whether requests whose number is known have yet to end."""
        return self.ended < self.planned or self.duration_s is None


def progress_line(progress: Progress) -> str:
    """Return the progress in a line: phase, requests, rates, failures by kind, time left."""
    so_far = _line(progress, progress.elapsed_s)
    lost = f"lost: {lost_words(progress)}" if progress.lost else ""
    parts = (progress.phase, so_far, lost, _by_class(progress), time_left(progress))
    return ", ".join(part for part in parts if part)


def last_line(progress: Progress) -> str:
    """Return the final progress in a line, with rates up to the last request's end."""
    return ", ".join(filter(None, (_line(progress, progress.last_end_s), _by_class(progress))))


def _by_class(progress: Progress) -> str:
    """Return how many requests of each class have ended: `chat 214, legal 86 (2 failed)`."""
    each = ", ".join(f"{name} {class_words(*n)}" for name, n in progress.classes.items())
    return f"by class: {each}" if each else ""


def class_words(ended: int, failed: int) -> str:
    """Return how many requests of a class have ended, and how many of them failed."""
    return f"{ended:,} ({failed:,} failed)" if failed else f"{ended:,}"


def _line(progress: Progress, until_s: float) -> str:
    """Return the rates as the table has them over the whole run: of successes, from the first send.

    With failures included, a server that refuses would look fast.
    """
    span_s = until_s - progress.first_sent_s
    per_s = 1 / span_s if span_s > 0 else 0.0
    good_per_s = (progress.ended - progress.failed) * per_s
    of = f"/{progress.planned}" if progress.missing else ""
    return (
        f"{progress.ended}{of} requests, {good_per_s:.3g} req/s, "
        f"{progress.good_tokens * per_s:,.0f} tok/s, {progress.failed} failed{kinds(progress)}"
    )


def kinds(progress: Progress) -> str:
    """Return how many requests failed of each kind, the commonest first; empty: none."""
    each = " ".join(f"{kind}:{count}" for kind, count in progress.errors.most_common())
    return f" ({each})" if each else ""


def lost_words(progress: Progress) -> str:
    """Return who of those that send was lost, and how: `b died, c died`; empty: nobody."""
    more = len(progress.lost) - MOST_LOST
    return ", ".join((*progress.lost[:MOST_LOST], *((f"{more} more",) if more > 0 else ())))


def time_left(progress: Progress) -> str:
    """Return how long the run will still take, or that it is stopping."""
    if progress.enough:
        return progress.enough
    if progress.stopping:
        return "stopping: no new requests (Ctrl-C again cuts off those in flight)"
    left_s = progress.left_s
    if left_s is None:
        return ""
    return f"{minutes(left_s)} left"


def minutes(seconds: float) -> str:
    """Return seconds as minutes and seconds: `2:07`."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02}"


class ProgressLines:
    """Prints a line every ten seconds, at Ctrl-C, when a sender is lost, and at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started_s = -math.inf
        self._next_s = EVERY_S
        self._stopping = False
        self._lost = 0
        self._last: Progress | None = None

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._say(last_line(self._last))

    def show(self, progress: Progress) -> None:
        self._last = progress
        if progress.started_s != self._started_s:  # the warm-up is over
            self._started_s, self._next_s = progress.started_s, EVERY_S
        news = progress.stopping > self._stopping or len(progress.lost) > self._lost
        if progress.elapsed_s >= self._next_s or news:
            self._next_s = progress.elapsed_s + EVERY_S
            self._stopping, self._lost = progress.stopping, len(progress.lost)
            self._say(progress_line(progress))

    def _say(self, line: str) -> None:
        print(f"  {line}", file=self._stream, flush=True)


def progress_of(plan: Plan, tickets_taken: Callable[[], int], started_s: float) -> Progress:
    """Return the progress of a run before its start.

    In a closed loop requests begin when tickets are taken, in an open loop when they are due. Which
    turns of conversations are in flight only the sending processes know.
    """
    progress = Progress(plan.measured, started_s, phase="connecting", duration_s=plan.duration_s)
    progress.classes = {part.name: [0, 0] for part in plan.drawn if part.name is not None}
    sessions = any(part.plays for part in plan.drawn)
    if not sessions and all(part.open_loop for part in plan.drawn):
        due_s = plan.measured_s
        progress.begun = lambda: (  # nothing is due before the warm-up is over
            0 if progress.started_s == started_s else bisect_right(due_s, progress.sending_s)
        )
        progress.last_due_s = due_s[-1] if due_s else None
        caps = [part.scenario.max_in_flight for part in plan.drawn]
        progress.most_in_flight = None if None in caps else sum(cap or 0 for cap in caps)
    elif not sessions and not any(part.open_loop for part in plan.drawn):
        progress.begun = tickets_taken
        progress.most_in_flight = plan.level.concurrency
    return progress
