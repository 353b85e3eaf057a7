"""The sending process: holds the streams of a closed loop open and stamps what arrives.

It parses nothing, writes no file and draws nothing. Finished exchanges leave
through a thread that feeds the pipe to the parent, so that a slow reader
never blocks the sending loop.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import resource
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Literal

from .connection import Connection
from .exchange import Exchange, Failure
from .plan import Plan
from .request import PlannedRequest, Target
from .timeouts import NS_PER_S, check_deadline

CONNECT_TIMEOUT_S = 10.0
DEADLINE_TICK_S = 0.1
# uvloop's own back-pressure limit is 100 pending accepts on many servers: connect in waves.
CONNECTS_AT_ONCE = 64

Command = Literal["stop", "cancel"]


@dataclass(frozen=True, slots=True)
class Go:
    """From the parent: start at this instant of the shared monotonic clock (ns)."""

    start_ns: int


@dataclass(frozen=True, slots=True)
class Ready:
    """To the parent: the streams are connected, or the first failure to do so."""

    connected: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """To the parent: every exchange has been sent before this."""

    end_ns: int
    wall_s: float


def run_worker(plan: Plan, orders: Pipe, results: Pipe) -> None:
    """Run the whole plan; the entry point of the child process.

    Two pipes of one direction each: the loop reads `orders` without blocking, and a pipe of
    both directions would then refuse to block for the thread that sends.
    """
    import uvloop

    _allow_sockets(plan.streams)
    # What uvloop.run does; that function does not exist for all Pythons that we run on.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_run(plan, orders, results))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone, and with it anybody who could read on
    finally:
        loop.close()


async def _run(plan: Plan, orders: Pipe, results: Pipe) -> None:
    loop = asyncio.get_running_loop()
    outbox = Outbox(results)
    closed_loop = ClosedLoop(plan, outbox.put)
    outbox.put(await closed_loop.connect())
    go: Go = await loop.run_in_executor(None, orders.recv)
    # Garbage made before the window is not looked at again, and none is looked for inside it:
    # what a request leaves has no cycles.
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.add_reader(orders.fileno(), lambda: closed_loop.obey(_receive(orders)))
    await closed_loop.run(go.start_ns)
    loop.remove_reader(orders.fileno())
    outbox.put(Finished(time.perf_counter_ns(), time.time()))
    outbox.close()


def _receive(orders: Pipe) -> Command:
    try:
        command: Command = orders.recv()
    except EOFError:
        return "cancel"  # the parent is gone: leave the server in peace
    return command


def _allow_sockets(streams: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = streams + 64
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class Outbox:
    """Sends objects to the parent from a thread of its own, in order."""

    def __init__(self, pipe: Pipe) -> None:
        """Start the thread."""
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pipe = pipe
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def put(self, message: object) -> None:
        """Queue a message; returns at once."""
        self._queue.put(message)

    def close(self) -> None:
        """Wait until all is sent."""
        self._queue.put(None)
        self._thread.join()

    def _send(self) -> None:
        try:
            while (message := self._queue.get()) is not None:
                self._pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the parent is gone; the reading side of the pipe ends the run


class Stream:
    """One of the concurrent streams: a connection, and the exchange that it carries."""

    def __init__(self, index: int, on_end: Callable[[Stream, Exchange], None]) -> None:
        """Make a stream without a connection."""
        self.index = index
        self._on_end = on_end
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.look_again_ns = 0  # when a timeout may be due

    async def connect(self, target: Target, tls: ssl.SSLContext | None) -> None:
        """Open the connection. Raises OSError (TimeoutError among them)."""
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(
            lambda: Connection(self._ended), target.host, target.port, ssl=tls
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

    def __init__(self, plan: Plan, report: Callable[[Exchange], None]) -> None:
        """Prepare the plan's requests; nothing is sent yet."""
        self._plan = plan
        self._report = report
        self._requests: Iterator[PlannedRequest] = iter(plan.requests)
        self._tls = ssl.create_default_context() if plan.target.tls else None
        self._streams = [Stream(i, self._ended) for i in range(plan.streams)]
        self._reconnects: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._over = asyncio.Event()
        self._stopping = False
        # Before this, no timeout of a request can be due.
        timeouts = plan.timeouts
        patience_s = min(timeouts.first_token_s, timeouts.stall_s, timeouts.total_s)
        self._patience_ns = int(patience_s * NS_PER_S)

    async def connect(self) -> Ready:
        """Open every stream's connection before the window."""
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def connect_one(stream: Stream) -> str | None:
            async with gate:
                try:
                    await stream.connect(self._plan.target, self._tls)
                except OSError as e:
                    return str(e)
                return None

        problems = await asyncio.gather(*map(connect_one, self._streams))
        found = next((p for p in problems if p is not None), None)
        return Ready(sum(s.connected for s in self._streams), found)

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

    def obey(self, command: Command) -> None:
        """Stop sending new requests; or, too, cut off those in flight."""
        self._stopping = True
        if command == "cancel":
            for stream in self._streams:
                stream.fail(Failure("cancelled", "cut off by the user"))
        self._end_if_idle()

    def _send_next(self, stream: Stream, slot_ns: int) -> None:
        request = None if self._stopping else next(self._requests, None)
        if request is None:
            return
        stream.exchange = Exchange(request.index, stream.index, t_scheduled_ns=slot_ns)
        stream.look_again_ns = slot_ns + self._patience_ns
        self._in_flight += 1
        if stream.connected:
            stream.send(self._plan.target.request_bytes(request))
        else:
            task = asyncio.ensure_future(self._connect_and_send(stream, stream.exchange, request))
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    async def _connect_and_send(
        self, stream: Stream, exchange: Exchange, request: PlannedRequest
    ) -> None:
        began_ns = time.perf_counter_ns()
        try:
            await stream.connect(self._plan.target, self._tls)
        except OSError as e:
            if stream.exchange is exchange:
                stream.fail(Failure("connect", str(e)))
            return
        exchange.connect_ns = time.perf_counter_ns() - began_ns
        if stream.exchange is exchange:  # it may have been cancelled meanwhile
            stream.send(self._plan.target.request_bytes(request))

    def _ended(self, stream: Stream, exchange: Exchange) -> None:
        freed_ns = time.perf_counter_ns()  # the slot is free from here on
        self._in_flight -= 1
        self._report(exchange)
        self._send_next(stream, freed_ns)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._in_flight == 0:
            self._over.set()

    async def _watch_deadlines(self) -> None:
        timeouts, streaming = self._plan.timeouts, self._plan.scenario.stream
        while True:
            await asyncio.sleep(DEADLINE_TICK_S)
            now_ns = time.perf_counter_ns()
            for stream in self._streams:
                if stream.exchange is None or now_ns < stream.look_again_ns:
                    continue
                due = check_deadline(stream.exchange, timeouts, now_ns, stream=streaming)
                if isinstance(due, Failure):
                    stream.fail(due)
                else:
                    stream.look_again_ns = due
