"""One machine, as the head has it: three connections."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

from ...crew.inbox import Inbox
from ..clocks.pings import MachineClock
from ..meeting.sockets import cut
from ..messages import Kind, LetGo, MachineFacts


@dataclass(slots=True)
class Machine:
    """A machine, over its three connections."""

    name: str
    facts: MachineFacts
    pipes: dict[Kind, Pipe]
    inbox: Inbox = field(init=False)
    clock: MachineClock = field(init=False)
    lost: str | None = None  # how it was
    missed: bool = False  # lost in the middle of a run, whose verdict tells it
    leaving: str | None = None  # why it is about to go, as it said itself

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.pipes["results"])
        self.clock = MachineClock(self.pipes["clock"])

    def order(self, order: object) -> None:
        """Ask for something between runs; a lost machine isn't asked."""
        if self.lost is None:
            with contextlib.suppress(OSError):  # shown by its results
                self.pipes["orders"].send(order)

    def lose(self, how: str) -> str:
        """Cut its connections: its foreman stops sending then; return how it was lost.

        They are closed at the session's end, when no thread has them in its hands any more.
        """
        self.lost = self.lost or self.leaving or how
        for pipe in self.pipes.values():
            cut(pipe)
        return self.lost

    def let_go(self) -> None:
        """Say that the session is over."""
        if self.lost is None:
            with contextlib.suppress(OSError):
                self.pipes["orders"].send(LetGo())
        self.clock.close()
        for kind in ("orders", "results"):
            self.pipes[kind].close()
