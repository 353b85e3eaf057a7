"""What a sending process and its parent tell each other; its own messages go by a thread."""

from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING, Literal

from ..errors import BenchError
from ..reply.exchange import Failure, Segment

if TYPE_CHECKING:
    from ..wire.clock import ClockFacts

PAUSE_S = 0.0005  # between messages: a burst of ended streams is reported over milliseconds
HURRY = 1000  # with this many messages waiting there is no pause
IDLE_S = 0.02  # sleep of an empty outbox: a wake-up per message would cost the loop time
MOST_WAITING = 64_000_000  # bytes that wait for the parent; then the loop waits, too

# `drain`: no new requests, since all that were to be measured have ended.
Command = Literal["stop", "drain", "cancel"]


@dataclass(frozen=True, slots=True)
class Go:
    """From the parent: start at this instant of the shared monotonic clock (ns)."""

    start_ns: int
    spread_ns: int = 0  # over which the streams of a closed loop begin


@dataclass(frozen=True, slots=True)
class Drop:
    """From the parent: end this exchange with a failure that only its bytes show."""

    request_index: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Connected:
    """To the parent: how many streams are connected, and the first failure to do so."""

    connected: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """To the parent: the warm-up is over."""


@dataclass(frozen=True, slots=True)
class Measured:
    """From a machine of several: all that it was to measure has ended, or is lost."""


@dataclass(frozen=True, slots=True)
class Alive:
    """To the parent, each second: the loop goes round."""


@dataclass(frozen=True, slots=True)
class Finished:
    """To the parent: a sending process has ended; its last message."""

    end_ns: int
    wall_s: float
    connections_opened: int  # after the start
    peak_memory_bytes: int
    cpu_s: float  # since the process began
    clock: ClockFacts  # from the start on
    sender: int = 0  # which of the sending processes of its machine
    trip_ms: float | None = None  # of half its connections, or less; None: it opened none


@dataclass(frozen=True, slots=True)
class Broke:
    """To the parent: what ended this process, before its work was done."""

    text: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """One second of a sending process."""

    at_ns: int  # `perf_counter_ns` at its end
    cpu_share: float  # of one core; above 1 if several threads ran at once
    lags_us: bytes  # uint32 each, one for every tick
    replying: bool = False  # whether any reply is under way
    sender: int = 0  # which of the sending processes of its machine


class Outbox:
    """Sends messages to the parent, in order.

    Python runs one thread at a time, so this one works in small steps: it sends at most one message
    before the loop, which waits for the interpreter, runs again.

    Where the parent takes less than the server sends, the loop has to wait in `put`. Meanwhile
    bytes stay in the sockets, which hold the server up; the kernel's stamps stay true, and the
    ticks of `loop_health` that are missed tell how long.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pipe = pipe
        self._closing = False
        self._put_bytes = self._sent_bytes = 0  # each written by one thread alone
        # Ends when all is sent, when the parent is gone, or with what broke it.
        self.sending = ThreadPoolExecutor(1, "outbox").submit(self._send_all)

    def put(self, message: object) -> None:
        """Queue a message; returns at once, unless too much is waiting."""
        self._put_bytes += _size_of(message)
        self._queue.put(message)
        while self._put_bytes - self._sent_bytes > MOST_WAITING and not self.sending.done():
            time.sleep(PAUSE_S)

    def close(self) -> None:
        """Send what is left, and end. If its thread broke, that is told, and the rest sent here."""
        self._closing = True
        problem = self.sending.exception()  # waits
        if problem is not None:
            self._queue.put(Broke(in_words(problem)))
            self._send_all()

    def _send_all(self) -> None:
        try:
            while not (self._closing and self._queue.empty()):
                self._send_next()
        except OSError:
            return  # the parent is gone; the end of the orders' pipe ends the run

    def _send_next(self) -> None:
        try:
            message = self._queue.get_nowait()
        except queue.Empty:
            time.sleep(IDLE_S)
            return
        self._pipe.send(_packed(message))
        self._sent_bytes += _size_of(message)
        if self._queue.qsize() < HURRY and not self._closing:
            time.sleep(PAUSE_S)


def in_words(problem: BaseException) -> str:
    """Return an exception as a line: of what nobody foresaw with its kind, for who reports it."""
    text = str(problem)
    if isinstance(problem, OSError) and problem.strerror:
        text = f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    elif not isinstance(problem, BenchError):
        text = f"{type(problem).__name__}: {problem}"
    return " ".join(text.split())[:300]


def _size_of(message: object) -> int:
    """Return about what a message's segments take; all else is small."""
    if isinstance(message, tuple):
        return sum(map(_size_of, message))
    return int(getattr(message, "memory_bytes", 0))


def _packed(message: object) -> object:
    """Return a message with its segments as flat buffers."""
    if isinstance(message, Segment):
        return message.packed()
    return tuple(map(_packed, message)) if isinstance(message, tuple) else message
