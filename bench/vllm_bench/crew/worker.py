"""Who sends for a run, as the one who runs it sees them: processes here, or machines elsewhere."""

from __future__ import annotations

import select
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, Protocol

from ..errors import BenchError
from ..interrupts import Interrupts
from ..live.counts import Counts
from ..plan.part import Part
from ..plan.plan import Plan
from ..send.outbox import Connected
from .health import WorkerHealth
from .inbox import Inbox
from .judged import Judged

START_LIMIT_S = 60.0  # for workers to start and connections to open
FROZEN_S = 10.0  # a process that stands still for less is waited for
WORD_S = 1.5  # so old its last word may have been by then: one is due each second
HURRY_S = 2.0  # the same after everything was cut off: somebody waits for the end


class RunError(BenchError):
    """A run that could not start or go on; the text is one line for people."""


def _as_it_is(message: Any) -> Any:
    return message


def _not_known() -> bool:
    return False


@dataclass(slots=True)
class Worker:
    """One sending process, or one machine of them."""

    name: str  # for people: `sending process 0`
    orders: Pipe
    results: Pipe
    inbox: Inbox  # of `results`
    senders: list[WorkerHealth]  # of a process: its own
    kill: Callable[[], None]
    # Turns its clock's times into ours, in what it says, and ours into its, in what it is told.
    ours: Callable[[Any], Any] = _as_it_is
    theirs: Callable[[Any], Any] = _as_it_is
    # Where a machine can be seen to be frozen before it has said anything.
    frozen: Callable[[], bool] = _not_known
    roomy: bool = False  # whether its results' pipe holds many messages
    heard_s: float | None = None  # when it last said something; None: nothing yet
    rows: Counter[int] = field(default_factory=Counter)  # that it has told, by part
    elsewhere: Counts = field(default_factory=Counts)  # what stays with it until the run is over
    left: int = 0  # requests by the clock that it is still to measure
    untold: deque[object] = field(default_factory=deque)

    def tell(self, message: object) -> None:
        """Send it an order; if it has died, the end of its results shows that."""
        self.untold.append(self.theirs(message))
        self.tell_rest()

    def tell_rest(self) -> None:
        """Send it the orders that its pipe has room for: who waited here wouldn't read its results.

        It may itself be waiting until they are read.
        """
        room = select.poll()
        room.register(self.orders, select.POLLOUT)
        try:
            while self.untold and room.poll(0):
                self.orders.send(self.untold.popleft())
        except OSError:  # its end, or a machine that takes nothing
            self.untold.clear()

    @property
    def ended(self) -> int:
        """How many of its measured requests have ended, as far as it has told."""
        return self.rows.total() + self.elsewhere.ended

    def lose(self) -> None:
        """Note that nothing more will come from it."""
        for sender in self.senders:
            sender.lost = True


class Crew(Protocol):
    """Who sends a plan: each worker has its portion or share of it, and waits for the start."""

    what: str  # they are: `sending processes`
    head_start_s: float  # from the order to start to the start

    @property
    def workers(self) -> Sequence[Worker]:
        """Return all of them; a place in this list is a worker's number."""

    def begun(self) -> int:
        """Return how many requests of closed loops have begun."""

    def due(self, part: Part) -> int:
        """Return how many requests of a part should have a row, by those that have begun."""

    def to_measure(self) -> list[int]:
        """Return, of each worker, how many requests by the clock it is to measure.

        Those alone that have a tail behind them.
        """

    def alone(self, worker: Worker) -> int:
        """Return how many requests to be measured nobody but this worker would send."""

    def reached(self, told: Sequence[tuple[Worker, Connected]]) -> str | None:
        """Return what kept streams from connecting; None: nothing did."""

    def lose(self, worker: Worker, how: str) -> str:
        """Take note that a worker is lost; return how, in the words of whoever knows best."""

    def take(self, worker: Worker, message: object) -> None:
        """Take what only this crew understands."""

    def rest(self, is_broken_off: Callable[[], bool]) -> Iterator[tuple[Worker, Sequence[Judged]]]:
        """Yield what has stayed with the workers, once they have ended."""

    def notes(self) -> Sequence[str]:
        """Return what the run's JSON notes of it, once all is over."""

    def facts(self) -> dict[str, Any]:
        """Return what the run's JSON says of it, in `client_health`."""


class AwakeClock:
    """Counts the seconds that this process was awake.

    Suspended itself (Ctrl-Z, a laptop's lid), it has heard nobody, and nobody is to blame.
    """

    def __init__(self) -> None:
        self.s = 0.0
        self._looked_s = time.monotonic()

    def look(self) -> None:
        """Count the time since the last look: a second of it at most, since looks are frequent."""
        now_s = time.monotonic()
        self.s += min(now_s - self._looked_s, 1.0)
        self._looked_s = now_s


CrewMaker = Callable[[Plan, Interrupts], AbstractContextManager[Crew]]
