"""How far a run has come, and lines that say so where there is no terminal to draw on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from .live_facts import LiveFacts
from .records import RequestRecord

EVERY_S = 10.0  # between two lines


@dataclass(slots=True)
class Progress:
    """What a watcher of the run may show. Times in seconds."""

    planned: int
    started_s: float
    ended: int = 0
    completion_tokens: int = 0
    last_end_s: float = 0.0  # from the run's start
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str | None = None
    stopping: bool = False
    phase: str = ""  # what goes on besides measuring: `warming up 3/8`
    begun: Callable[[], int] | None = None  # how many of those planned have begun so far
    streams: int | None = None  # as many can be in flight; None: any number
    schedule_s: float | None = None  # when the last one is due, in an open loop
    recent: LiveFacts = field(default_factory=LiveFacts)

    def count(self, record: RequestRecord, stamps: Sequence[int] = ()) -> None:
        """Add one record, and the stamps (ns) of its token events."""
        self.ended += 1
        self.completion_tokens += record.completion_tokens or 0
        self.last_end_s = max(self.last_end_s, record.t_end_s)
        if record.error_kind:
            self.errors[record.error_kind] += 1
            self.last_error = record.error
        self.recent.ended(record, stamps)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run's start."""
        return max(0.0, time.perf_counter() - self.started_s)

    @property
    def in_flight(self) -> int | None:
        """Requests begun that have not ended; None: nobody says how many began."""
        if self.begun is None:
            return None
        # A stream begins its next request some milliseconds before the last one's end is told.
        found = max(0, self.begun() - self.ended)
        return found if self.streams is None else min(found, self.streams)

    @property
    def left_s(self) -> float | None:
        """Seconds left: of the schedule, else at the rate so far; None before the first end."""
        if self.schedule_s is not None:
            return max(0.0, self.schedule_s - self.elapsed_s)
        if not self.ended or not self.elapsed_s:
            return None
        return (self.planned - self.ended) * self.elapsed_s / self.ended


def progress_line(progress: Progress) -> str:
    """Return how far the run is: phase, requests, rates, failures by kind, time left."""
    so_far = _line(progress, progress.elapsed_s)
    return ", ".join(part for part in (progress.phase, so_far, time_left(progress)) if part)


def last_line(progress: Progress) -> str:
    """Return how far the run came, with rates up to the last request's end."""
    return _line(progress, progress.last_end_s)


def _line(progress: Progress, span_s: float) -> str:
    per_s = 1 / span_s if span_s > 0 else 0.0
    return (
        f"{progress.ended}/{progress.planned} requests, {progress.ended * per_s:.3g} req/s, "
        f"{progress.completion_tokens * per_s:,.0f} tok/s, {failures(progress)}"
    )


def failures(progress: Progress) -> str:
    """Return how many requests failed, and how many of each kind."""
    kinds = " ".join(f"{kind}:{count}" for kind, count in progress.errors.most_common())
    return f"{sum(progress.errors.values())} failed ({kinds})" if kinds else "0 failed"


def time_left(progress: Progress) -> str:
    """Return how long the run will still take, or that it is being stopped."""
    if progress.stopping:
        return "stopping: no new requests (Ctrl-C again cuts off those under way)"
    left_s = progress.left_s
    if left_s is None or progress.ended == progress.planned:
        return ""
    return f"{minutes(left_s)} left"


def minutes(seconds: float) -> str:
    """Return seconds as people read them: `2:07`."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02}"


class ProgressLines:
    """A line every ten seconds, one when the end is asked for, and one at the end."""

    def __init__(self, stream: TextIO) -> None:
        """Show on `stream`."""
        self._stream = stream
        self._next_s = EVERY_S
        self._stopping = False
        self._last: Progress | None = None

    def __enter__(self) -> ProgressLines:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Say how far it came."""
        if self._last is not None:
            self._say(last_line(self._last))

    def show(self, progress: Progress) -> None:
        """Show how far the run is, where it is time to."""
        self._last = progress
        if progress.ended == progress.planned:
            return  # the last line says it
        if progress.elapsed_s >= self._next_s or progress.stopping > self._stopping:
            self._next_s = progress.elapsed_s + EVERY_S
            self._stopping = progress.stopping
            self._say(progress_line(progress))

    def _say(self, line: str) -> None:
        print(f"  {line}", file=self._stream, flush=True)
