"""What a sending process and its parent tell each other; its own messages go by a thread."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING, Literal

from ..reply.exchange import Segment

if TYPE_CHECKING:
    from ..wire.clock import ClockFacts

PAUSE_S = 0.0005  # between messages: a burst of ended streams is reported over milliseconds
HURRY = 1000  # with this many messages waiting there is no pause
IDLE_S = 0.02  # sleep of an empty outbox: a wake-up per message would cost the loop time

Command = Literal["stop", "cancel"]


@dataclass(frozen=True, slots=True)
class Go:
    """From the parent: start at this instant of the shared monotonic clock (ns)."""

    start_ns: int
    spread_ns: int = 0  # over which the streams of a closed loop begin


@dataclass(frozen=True, slots=True)
class Connected:
    """To the parent: how many streams are connected, and the first failure to do so."""

    connected: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """To the parent: the warm-up is over."""


@dataclass(frozen=True, slots=True)
class Alive:
    """To the parent, each second: the loop goes round."""


@dataclass(frozen=True, slots=True)
class Finished:
    """To the parent: the last message."""

    end_ns: int
    wall_s: float
    connections_opened: int  # after the start
    peak_memory_bytes: int
    cpu_s: float  # since the process began
    clock: ClockFacts  # from the start on


@dataclass(frozen=True, slots=True)
class Pulse:
    """One second of a sending process."""

    at_ns: int  # `perf_counter_ns` at its end
    cpu_share: float  # of one core; above 1 if several threads ran at once
    lags_us: bytes  # uint32 each, one for every tick


class Outbox:
    """Sends messages to the parent, in order.

    Python runs one thread at a time, so this one works in small steps: it sends at most one message
    before the loop, which waits for the interpreter, runs again.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pipe = pipe
        self._closing = False
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def put(self, message: object) -> None:
        """Queue a message; returns at once."""
        self._queue.put(message)

    def close(self) -> None:
        self._closing = True
        self._thread.join()

    def _send_all(self) -> None:
        try:
            while not (self._closing and self._queue.empty()):
                self._send_next()
        except (BrokenPipeError, ConnectionResetError):
            return  # the parent is gone; the end of the orders' pipe ends the run

    def _send_next(self) -> None:
        try:
            message = self._queue.get_nowait()
        except queue.Empty:
            time.sleep(IDLE_S)
            return
        self._pipe.send(_packed(message))
        if self._queue.qsize() < HURRY and not self._closing:
            time.sleep(PAUSE_S)


def _packed(message: object) -> object:
    """Return a message with its segments as flat buffers."""
    if isinstance(message, Segment):
        return message.packed()
    return tuple(map(_packed, message)) if isinstance(message, tuple) else message
