"""What one sending process has to do of a plan, and what does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..plan.work import Arrival, Manner, PlannedRequest, Talk
from .closed_loop import ClosedLoop
from .conversation_loop import ConversationLoop
from .lanes import Lanes
from .open_loop import OpenLoop
from .tickets import Tickets

MOST_CONNECTIONS = 65536  # more ports than this has no address


class Sender(Protocol):
    """Sends requests over the lanes that it was given."""

    async def run(self, start_ns: int) -> None:
        """Send from `start_ns` on; return when the last reply has ended."""

    def stop(self, *, cut_off: bool) -> None:
        """Stop sending new requests; and, if asked, cut off those in flight."""


@dataclass(frozen=True, slots=True)
class Share:
    """Connections, requests, and in which way they go."""

    manner: Manner
    first_lane: int  # lanes are numbered from here, so far apart that no two processes share one
    lane_step: int
    lanes: int  # streams of a closed loop; connections that an open one keeps ready
    warmup: tuple[PlannedRequest, ...]
    requests: tuple[PlannedRequest, ...] = ()  # closed: all of the plan's, shared by tickets
    talk: Talk | None = None  # closed: where requests are turns of conversations
    arrivals: tuple[Arrival, ...] | None = None  # open: its own
    most_in_flight: int | None = None

    @property
    def most_sockets(self) -> int:
        """How many connections may have to be open at once."""
        if self.arrivals is None:
            return self.lanes
        return self.lanes + (self.most_in_flight or min(len(self.arrivals), MOST_CONNECTIONS))

    def sender(self, lanes: Lanes, tickets: Tickets) -> Sender:
        """Return what sends this share."""
        if self.arrivals is not None:
            return OpenLoop(lanes, self.arrivals, self.most_in_flight)
        if self.talk is not None:
            return ConversationLoop(lanes, self.talk, self.requests, tickets.take)

        def take() -> PlannedRequest | None:
            index = tickets.take()
            return None if index is None else self.requests[index]

        return ClosedLoop(lanes, take)

    def warm_up(self, lanes: Lanes) -> Sender:
        """Return what sends the requests that nobody measures, one a lane at a time."""
        rest = iter(self.warmup)
        return ClosedLoop(lanes, lambda: next(rest, None))
