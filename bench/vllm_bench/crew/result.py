"""How a run ended, as who asked for it is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..live.progress import Progress
from ..plan.plan import Plan
from ..plan.share import NS_PER_S
from ..records.run_info import ClockPair, RunStatus
from ..send.outbox import Finished
from .ending import Ending
from .health import health_facts
from .tally import Tally
from .unmeasured import Unmeasured
from .worker import Crew


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    status: RunStatus
    clock_start: ClockPair
    clock_end: ClockPair
    start: dict[str, Any]  # see Plan.start_facts
    num_requests: int  # those that should have a row
    by_class: dict[str, int]  # the same of each class
    uses: Counter[str] | None  # of each prompt, where they are used again; None: as planned
    progress: Progress
    fingerprint: str | None
    replied_as: dict[str, int]  # replies by the model that they name
    client_health: dict[str, Any]
    unmeasured: Unmeasured
    sessions: dict[str, Any]  # empty: the run has none
    notes: tuple[str, ...]


@dataclass(slots=True)
class Course:
    """What has become of a run so far, and what is to be told of it at its end."""

    plan: Plan
    crew: Crew
    progress: Progress
    tally: Tally
    ending: Ending
    start: ClockPair
    how: dict[str, Any] = field(default_factory=dict)  # see Plan.start_facts
    finished: list[Finished] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # how each worker was lost

    def result(self) -> RunResult:
        """Return how it ended; machines tell their clocks once more for it."""
        last = max(self.finished, key=lambda f: f.end_ns, default=None)
        tally, crew = self.tally, self.crew
        senders = [sender for worker in crew.workers for sender in worker.senders]
        health = health_facts(senders, self.start.monotonic_ns)
        return RunResult(
            status=self.status(),
            clock_start=self.start,
            clock_end=ClockPair(wall_s=last.wall_s, monotonic_ns=last.end_ns)
            if last
            else clock_now(),
            start=self.how,
            num_requests=sum(due for _, due in self._due()),
            by_class={name: due for name, due in self._due() if name},
            uses=tally.uses,
            progress=self.progress,
            fingerprint=tally.fingerprint,
            replied_as=tally.replied_as,
            client_health={**health, **tally.read_times.facts(), **crew.facts()},
            unmeasured=tally.unmeasured,
            sessions=tally.sessions.facts(),
            notes=self.notes(),
        )

    def status(self) -> RunStatus:
        """Return how it ended, in a word."""
        if self.ending.why or not self.finished:
            return "failed"
        progress = self.progress
        missing = (
            progress.ended < sum(due for _, due in self._due()) or progress.errors["cancelled"]
        )
        early = progress.stopped_s < (self.plan.duration_s or 0.0)
        if not progress.stopping or not (missing or early):
            senders = [sender for worker in self.crew.workers for sender in worker.senders]
            return "incomplete" if any(sender.lost for sender in senders) else "complete"
        return "interrupted" if self.ending.enough is None else "stopped"

    def _due(self) -> Iterator[tuple[str | None, int]]:
        """Yield how many requests of each part should have a row; by time: all that began.

        Of a session that began, each turn counts, but for those that a failure kept from being
        sent.
        """
        sessions = self.tally.sessions
        for part in self.plan.drawn:
            due = self.crew.due(part) - sessions.not_sent(part)
            # How many turns there were to be is only known where all are sent.
            yield part.name, sessions.rows[part.place] if self.plan.cuts_plays(part) else due

    def notes(self) -> tuple[str, ...]:
        """Return what people should know of it."""
        was = "was lost, with its load" if len(self.lost) == 1 else "were lost, with their load"
        many = f"{len(self.lost)} of {len(self.crew.workers)} {self.crew.what}"
        lost = f"{many} {was}: {', '.join(self.lost)}"
        together = (
            "the streams started together: without a request that warmed the server up, no latency "
            "is known over which to spread them"
        )
        wanted = self.plan.scenario.start == "staggered"
        burst = wanted and self.how.get("start") == "together"
        return (
            *self.tally.unmeasured.notes,
            *((together,) if burst else ()),
            *((lost,) if self.lost else ()),
            *self.crew.notes(),
            *filter(None, (self.ending.why, self.ending.enough)),
        )


def clock_now() -> ClockPair:
    """Return this instant on both clocks."""
    return clock_at(time.perf_counter_ns())


def clock_at(monotonic_ns: int) -> ClockPair:
    """Return an instant near now on both clocks."""
    ahead_ns = monotonic_ns - time.perf_counter_ns()
    return ClockPair(wall_s=time.time() + ahead_ns / NS_PER_S, monotonic_ns=monotonic_ns)
