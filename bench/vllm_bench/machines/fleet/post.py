"""A machine in one run: its portion, how far it is, its clock; a `Worker` to who runs the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...crew.health import WorkerHealth
from ...crew.worker import Worker
from ...plan.plan import Plan
from ...reply.read_times import ReadTimes
from ..clocks.timeline import Timeline
from ..messages import Told
from .machine import Machine


@dataclass(slots=True)
class Post:
    """A machine in one run."""

    machine: Machine
    plan: Plan  # its portion
    timeline: Timeline
    worker: Worker
    begun: int = 0  # when it last said how far it is
    rows_then: int = 0  # that it had told by then
    due: dict[int, int] = field(default_factory=dict)  # by part
    over: bool = True  # from Idle on; and before it was given its portion
    stays: bool = False  # its rows, until they are fetched
    fetched: int = 0  # rows that came after the run's end
    server_is_here: bool | None = None  # None: it hasn't said
    lates: ReadTimes = field(default_factory=ReadTimes)

    def begun_by_now(self) -> int:
        """Return how many requests of closed loops it has begun, if one went on for each row.

        Rows come sooner than how far it is, so less would seem to be under way; and those that end
        together are told after the next have begun, so more, but never more than it has streams.
        One that was lost has nothing under way.
        """
        ended, streams = self.worker.ended, 0 if self.machine.lost else self.plan.streams
        begun = self.begun + self.worker.rows.total() - self.rows_then
        return begun if streams is None else min(begun, ended + streams)

    def facts(self) -> dict[str, Any]:
        """Return what the run's JSON says of the machine, once it is over."""
        return {
            "machine": self.machine.name,
            "host": self.machine.facts.host,
            "cores": self.machine.facts.cores,
            "nice": self.machine.facts.nice,
            "boot_id": self.machine.facts.boot_id,
            "senders": len(self.worker.senders),
            "server_here": self.server_is_here,
            "lateness_ms": self.lates.facts()["lateness_ms"],
            "lost": self.machine.lost,
            "rows": self.worker.rows.total(),
            **self.timeline.facts(),
            "fetched": None if self.stays or self.machine.lost else self.fetched,
        }


def post_of(machine: Machine, plan: Plan, run_id: str) -> Post:
    """Return a machine's post in one run, before it has been given its portion."""
    timeline = Timeline(machine.clock)
    worker = Worker(
        machine.name,
        machine.pipes["orders"],
        machine.pipes["results"],
        machine.inbox,
        [WorkerHealth(0, None, 0, machine=machine.name)],
        lambda: None,  # what has lost its connections ends by itself
        ours=timeline.ours,
        theirs=lambda order: Told(run_id, timeline.theirs(order)),
        frozen=machine.clock.frozen,
        roomy=True,  # what the head hasn't read waits in the socket, or with the machine
    )
    return Post(machine, plan, timeline, worker)
