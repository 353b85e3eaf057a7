"""A closed loop: so many streams held open, each sending again as soon as its last reply ended.

Runs in a sending process, on its loop. It parses nothing, writes no file and draws nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from .connection import Connection
from .exchange import Exchange, Failure
from .target import PlannedRequest, Target
from .timeouts import NS_PER_S, Timeouts, check_deadline

CONNECT_TIMEOUT_S = 10.0
DEADLINE_TICK_S = 0.1
# Deadlines looked at in a tick: streams that began together come due together, and a look
# reads JSON. With 64 a tick, 1,000 streams are looked at within two seconds.
LOOKS_A_TICK = 64
# Many servers accept no more than 100 connections at a time: connect in waves.
CONNECTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Share:
    """What one sending process has to do of a plan."""

    target: Target
    streams: tuple[int, ...]  # the indexes of its streams
    requests: tuple[PlannedRequest, ...]  # all of the plan's: whichever stream is free takes one
    timeouts: Timeouts
    replies_stream: bool


class Stream:
    """One of the concurrent streams: a connection, and the exchange that it carries."""

    def __init__(
        self,
        index: int,
        on_end: Callable[[Stream, Exchange], None],
        on_full: Callable[[Exchange], None],
    ) -> None:
        """Make a stream without a connection."""
        self.index = index
        self._on_end = on_end
        self._on_full = on_full
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.look_again_ns = 0  # when a timeout may be due

    async def connect(self, target: Target, tls: ssl.SSLContext | None) -> None:
        """Open the connection. Raises OSError (TimeoutError among them)."""
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(
            lambda: Connection(self._ended, self._on_full), target.host, target.port, ssl=tls
        )
        try:
            _, self.connection = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except asyncio.TimeoutError as e:  # not a TimeoutError before Python 3.11
            raise TimeoutError(f"no connection within {CONNECT_TIMEOUT_S:g} s") from e

    @property
    def connected(self) -> bool:
        """Whether a request can be sent at once."""
        return self.connection is not None and self.connection.usable

    def send(self, request: bytes) -> None:
        """Send the bytes of the exchange that the stream holds. Only while `connected`."""
        if self.connection is not None and self.exchange is not None:
            self.connection.send(self.exchange, request)

    def fail(self, failure: Failure) -> None:
        """End the exchange under way, on the wire or before it got there."""
        if self.connection is not None and self.connection.exchange is not None:
            self.connection.abort(failure)
        elif self.exchange is not None:
            self.exchange.failure = failure
            self.exchange.t_end_ns = time.perf_counter_ns()
            self._ended(self.exchange)

    def _ended(self, exchange: Exchange) -> None:
        self.exchange = None
        self._on_end(self, exchange)


class ClosedLoop:
    """`streams` streams, each sending its next request as soon as its last one ended."""

    def __init__(
        self, share: Share, take: Callable[[], int | None], report: Callable[[object], None]
    ) -> None:
        """Prepare the streams; nothing is sent yet.

        `take` gives the index of the next request, None when there is none left; `report` is
        given each `Exchange` that ended, and each `Segment` of one that goes on.
        Raises OSError where the CA file can't be read.
        """
        self._share = share
        self._take = take
        self._report = report
        self._head = share.target.head()
        self._tls = share.target.tls.context() if share.target.tls else None
        self._streams = [Stream(i, self._ended, self._hand_over) for i in share.streams]
        self._reconnects: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._over = asyncio.Event()
        self._stopping = False
        self.connections_opened = 0  # inside the window
        # Before this, no timeout of a request can be due.
        timeouts = share.timeouts
        patience_s = min(timeouts.first_token_s, timeouts.stall_s, timeouts.total_s)
        self._patience_ns = int(patience_s * NS_PER_S)

    @property
    def connected(self) -> int:
        """How many streams have a connection."""
        return sum(s.connected for s in self._streams)

    async def connect(self) -> str | None:
        """Open every stream's connection before the window; return the first problem."""
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def connect_one(stream: Stream) -> str | None:
            async with gate:
                try:
                    await stream.connect(self._share.target, self._tls)
                except OSError as e:
                    return str(e)
                return None

        problems = await asyncio.gather(*map(connect_one, self._streams))
        return next((p for p in problems if p is not None), None)

    async def run(self, start_ns: int) -> None:
        """Send the plan from `start_ns` on; returns when the last exchange has ended."""
        await asyncio.sleep(max(0, start_ns - time.perf_counter_ns()) / 1e9)
        ticking = asyncio.ensure_future(self._watch_deadlines())
        for stream in self._streams:
            self._send_next(stream, start_ns)
        self._end_if_idle()
        await self._over.wait()
        ticking.cancel()
        for stream in self._streams:
            if stream.connection is not None:
                stream.connection.close()

    def stop(self, *, cut_off: bool) -> None:
        """Stop sending new requests; and, if asked, cut off those in flight."""
        self._stopping = True
        if cut_off:
            for stream in self._streams:
                stream.fail(Failure("cancelled", "cut off by the user"))
        self._end_if_idle()

    def _send_next(self, stream: Stream, slot_ns: int) -> None:
        index = None if self._stopping else self._take()
        if index is None:
            return
        request = self._share.requests[index]
        stream.exchange = Exchange(request.index, stream.index, t_scheduled_ns=slot_ns)
        stream.look_again_ns = slot_ns + self._patience_ns
        self._in_flight += 1
        if stream.connected:
            stream.send(request.after(self._head))
        else:
            task = asyncio.ensure_future(self._connect_and_send(stream, stream.exchange, request))
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    async def _connect_and_send(
        self, stream: Stream, exchange: Exchange, request: PlannedRequest
    ) -> None:
        began_ns = time.perf_counter_ns()
        try:
            await stream.connect(self._share.target, self._tls)
        except OSError as e:
            if stream.exchange is exchange:
                stream.fail(Failure("connect", str(e)))
            return
        exchange.connect_ns = time.perf_counter_ns() - began_ns
        self.connections_opened += 1
        if stream.exchange is not exchange:
            return  # it was cancelled meanwhile
        if stream.connected:
            stream.send(request.after(self._head))
        else:  # a server that dies may still have accepted
            stream.fail(Failure("connect", "closed as soon as it was open"))

    def _ended(self, stream: Stream, exchange: Exchange) -> None:
        freed_ns = time.perf_counter_ns()  # the slot is free from here on
        self._in_flight -= 1
        self._report(exchange.hand_over())
        self._report(exchange)
        self._send_next(stream, freed_ns)
        self._end_if_idle()

    def _hand_over(self, exchange: Exchange) -> None:
        self._report(exchange.hand_over())

    def _end_if_idle(self) -> None:
        if self._in_flight == 0:
            self._over.set()

    async def _watch_deadlines(self) -> None:
        while True:
            await asyncio.sleep(DEADLINE_TICK_S)
            now_ns = time.perf_counter_ns()
            due = [s for s in self._streams if s.exchange and now_ns >= s.look_again_ns]
            due.sort(key=lambda s: s.look_again_ns)
            for stream in due[:LOOKS_A_TICK]:
                self._look(stream, now_ns)

    def _look(self, stream: Stream, now_ns: int) -> None:
        if stream.exchange is None:
            return  # the one before it, failing, ended the run
        found = check_deadline(
            stream.exchange, self._share.timeouts, now_ns, stream=self._share.replies_stream
        )
        if isinstance(found, Failure):
            stream.fail(found)
        else:
            stream.look_again_ns = found
