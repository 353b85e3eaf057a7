"""The connections of a sending process, and the exchange that each carries.

Runs on the sending loop. It parses nothing and writes no file; `closed_loop`, `open_loop` and
`session_loop` decide when to send.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import Callable, Iterator
from typing import cast

from ..plan.dealt.own import ALL, Own
from ..plan.share import NS_PER_S, PlannedRequest, Target
from ..reply.back_off import turned_away, wait_s
from ..reply.exchange import Exchange, Failure
from ..wire.connection import Connection
from ..wire.opening import open_connection
from ..wire.streams import Streams
from .deadlines import Heard, check_deadline
from .outbox import Drop
from .timer import in_background

CONNECT_TIMEOUT_S = 10.0
DEADLINE_TICK_S = 0.1
# Deadlines checked per tick: requests that began together come due together, and a check reads
# JSON. With 64 per tick, 1,000 are checked within two seconds.
LOOKS_A_TICK = 64
TICKS_A_LINGER = 10  # in which each lane is asked once whether its reply only lingers
HELD_UP_NS = NS_PER_S  # a tick that comes so late says that the loop was held up
# Many servers accept no more than 100 connections at a time: connect in waves.
CONNECTS_AT_ONCE = 64
# uvicorn, and so vLLM, closes a connection that was idle for 5 s: a request sent at the same moment
# would fail, although the server is fine.
FRESH_NS = 3 * NS_PER_S
MOST_KEPT = 32_000_000  # bytes of an answer that is needed for the next turn


class Lane:
    """A connection, opened again when it is lost, and the exchange that it carries."""

    def __init__(self, index: int, lanes: Lanes) -> None:
        self.index = index
        self._lanes = lanes
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.request: PlannedRequest | None = None  # of the exchange, should it be sent again
        self.heard = Heard()
        self.look_again_ns = 0  # when a timeout may be due
        self.idle_since_ns = 0
        self.turned_away = 0  # how many requests in a row
        self.waited_ns = 0  # because of that, before the next one
        self.kept: bytearray | None = None  # the reply's body, if it is needed

    async def connect(self, target: Target, tls: ssl.SSLContext | None) -> None:
        """Open the connection. Raises OSError, for instance TimeoutError."""
        at, streams = (target.host, target.port), self._lanes.streams
        opening = open_connection(streams, at, tls, self._ended, self._full)
        wanted_by = self.exchange
        try:
            connection = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except asyncio.TimeoutError as e:  # not a TimeoutError before Python 3.11
            raise TimeoutError(f"no connection within {CONNECT_TIMEOUT_S:g} s") from e
        if self.exchange is not wanted_by:
            # The exchange was given up meanwhile, and the lane may already have a new connection.
            connection.close()
            return
        self.connection = connection
        self.idle_since_ns = time.perf_counter_ns()

    @property
    def connected(self) -> bool:
        """Whether a request can be sent at once."""
        return self.connection is not None and self.connection.usable

    def fresh(self, now_ns: int) -> bool:
        """Whether a request can be sent at once, and the server won't close just now."""
        return self.connected and now_ns - self.idle_since_ns < FRESH_NS

    def send(self, request: bytes) -> None:
        """Send the bytes of the lane's exchange. Only while `connected`."""
        if self.connection is not None and self.exchange is not None:
            self.connection.send(self.exchange, request)

    def begin(self, request: PlannedRequest, slot_ns: int, look_ns: int) -> Exchange:
        """Take a request that was meant to go at `slot_ns`."""
        made = Exchange(request.index, self.index, slot_ns, waited_ns=self.waited_ns)
        self.exchange, self.request, self.waited_ns = made, request, 0
        self.heard, self.look_again_ns = Heard(), look_ns
        return made

    def wait_ns(self, exchange: Exchange) -> int:
        """Return how long the lane has to wait before the request after this exchange."""
        self.turned_away = self.turned_away + 1 if turned_away(exchange) else 0
        return int(wait_s(exchange, self.turned_away) * NS_PER_S) if self.turned_away else 0

    def fail(self, failure: Failure) -> None:
        """End the exchange in flight, whether or not it was already sent."""
        if self.connection is not None and self.connection.exchange is not None:
            self.connection.abort(failure)
        elif self.exchange is not None:
            self.exchange.failure = failure
            self.exchange.t_end_ns = time.perf_counter_ns()
            self._ended(self.exchange)

    def close(self) -> None:
        """Close the connection; no exchange may be under way."""
        if self.connection is not None:
            self.connection.close()

    def may_linger(self, now_ns: int) -> bool:
        """Whether all seems to have been said a while ago."""
        return self.exchange is not None and self.heard.may_linger(self.exchange.reads, now_ns)

    def keep(self, exchange: Exchange) -> None:
        """Keep a copy of what was read since the last hand-over, if the reply's body is needed."""
        if self.kept is not None:
            for _, body in exchange.reads:
                self.kept += body

    def _full(self, exchange: Exchange) -> None:
        self.keep(exchange)
        self.heard.hand_over(exchange.reads)
        self._lanes.report(exchange.hand_over())
        if self.kept is not None and len(self.kept) > MOST_KEPT:
            self.fail(Failure("oversized", f"an answer of more than {MOST_KEPT} bytes"))

    def _ended(self, exchange: Exchange) -> None:
        if self.connection is not None and self.connection.crossed and not exchange.resent:
            self.connection = None
            self._lanes.send_again(self, exchange)
            return
        self.exchange = self.request = None
        self.idle_since_ns = time.perf_counter_ns()
        self._lanes.ended(self, exchange)


class Lanes:
    """The lanes of a share. `on_free` gets each whose exchange has ended, and the time."""

    def __init__(
        self,
        target: Target,
        report: Callable[[object], None],
        numbers: Own = ALL,
        streams: Streams | None = None,
    ) -> None:
        """Lanes are made later, with these numbers.

        `streams` are the process's, where it has several shares. `report` gets each `Segment` of a
        reply that goes on, and each exchange that ended, as its last segment and itself.
        Raises OSError where the CA file can't be read.
        """
        self.target = target
        self.report = report
        self.on_free: Callable[[Lane, Exchange, int], None] = lambda lane, exchange, freed_ns: None
        self._head = target.head()
        self._tls = target.tls.context() if target.tls else None
        self._patience_ns = target.timeouts.shortest_ns
        self.streams = streams or Streams()
        self._all: list[Lane] = []
        self._numbers = numbers
        self._opening: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        self.connections_opened = 0  # at the time of a request instead of before

    def add(self) -> Lane:
        lane = Lane(self._numbers.number(len(self._all)), self)
        self._all.append(lane)
        return lane

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._all)

    @property
    def connected(self) -> int:
        return sum(lane.connected for lane in self._all)

    async def connect(self) -> str | None:
        """Open every lane's connection before the run starts; return the first problem."""
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def connect_one(lane: Lane) -> str | None:
            async with gate:
                return await self.open(lane)

        problems = await asyncio.gather(*map(connect_one, self._all))
        return next((p for p in problems if p is not None), None)

    async def open(self, lane: Lane) -> str | None:
        """Give an idle lane a new connection; return why that failed (None: it didn't)."""
        lane.close()
        try:
            await lane.connect(self.target, self._tls)
        except OSError as e:
            return str(e)
        return None

    def send(self, lane: Lane, request: PlannedRequest, slot_ns: int) -> None:
        """Send a request that was meant to go at `slot_ns` on a free lane."""
        exchange = lane.begin(request, slot_ns, slot_ns + self._patience_ns)
        self.in_flight += 1
        if lane.connected:
            lane.send(request.after(self._head))
        else:
            in_background(self._connect_and_send(lane, exchange, request), self._opening)

    def send_again(self, lane: Lane, exchange: Exchange) -> None:
        """Send a lane's request on a fresh connection: nothing of its reply had come."""
        exchange.resent += 1
        exchange.failure = exchange.t_end_ns = None
        request = cast(PlannedRequest, lane.request)
        in_background(self._connect_and_send(lane, exchange, request), self._opening)

    async def _connect_and_send(
        self, lane: Lane, exchange: Exchange, request: PlannedRequest
    ) -> None:
        began_ns = time.perf_counter_ns()
        try:
            await lane.connect(self.target, self._tls)
        except OSError as e:
            if lane.exchange is exchange:
                lane.fail(Failure("connect", str(e)))
            return
        exchange.connect_ns = time.perf_counter_ns() - began_ns
        self.connections_opened += 1
        if lane.exchange is not exchange:
            return  # it was cancelled meanwhile
        if lane.connected:
            lane.send(request.after(self._head))
        else:  # a dying server may still have accepted
            lane.fail(Failure("connect", "closed as soon as it was open"))

    def drop(self, order: Drop) -> None:
        """End an exchange, if one of these lanes carries it: the parent has read that it should."""
        for lane in self._all:
            if lane.exchange is not None and lane.exchange.request_index == order.request_index:
                lane.fail(order.failure)
                return

    @property
    def replying(self) -> bool:
        """Whether any reply is under way."""
        return any(lane.exchange is not None and lane.exchange.http_status == 200 for lane in self)

    def cut_off(self) -> None:
        for lane in self._all:
            lane.fail(Failure("cancelled", "cut off by the client"))

    def close(self) -> None:
        """Close every connection; no exchange may be under way."""
        for lane in self._all:
            lane.close()

    async def watch_deadlines(self) -> None:
        for place in itertools.cycle(range(TICKS_A_LINGER)):
            before_ns = time.perf_counter_ns()
            await asyncio.sleep(DEADLINE_TICK_S)
            if time.perf_counter_ns() - before_ns > HELD_UP_NS:
                await asyncio.sleep(DEADLINE_TICK_S)  # what came meanwhile is read first
            now_ns = time.perf_counter_ns()
            due = [lane for lane in self._all if lane.exchange and now_ns >= lane.look_again_ns]
            due.sort(key=lambda lane: lane.look_again_ns)
            # Of the rest a part in each tick: a glance at a thousand at once is half a millisecond.
            due += [x for x in self._all[place::TICKS_A_LINGER] if x.may_linger(now_ns)]
            for lane in due[:LOOKS_A_TICK]:
                self._look(lane, now_ns)

    def _look(self, lane: Lane, now_ns: int) -> None:
        if lane.exchange is None:
            return  # the failure of the one before ended the run
        timeouts, stream = self.target.timeouts, self.target.stream
        found = check_deadline(lane.exchange, lane.heard, timeouts, now_ns, stream=stream)
        if isinstance(found, int):
            lane.look_again_ns = found
        elif found is not None:
            lane.fail(found)
        elif lane.connection is not None:
            lane.connection.conclude()

    def ended(self, lane: Lane, exchange: Exchange) -> None:
        """Free the lane of an exchange: the next request goes out before anything is handed over.

        The lane was free when the last byte came, and what is sent later than that is late.
        """
        self.in_flight -= 1
        lane.keep(exchange)
        self.on_free(lane, exchange, cast(int, exchange.t_end_ns))
        self.report((exchange.hand_over(), exchange))
