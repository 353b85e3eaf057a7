"""A sending process: connects its streams, waits for the start, sends its share, reports.

A separate thread writes finished exchanges to the pipe to the parent, so that a slow reader never
blocks the sending loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from ..open_files import allow_files
from ..plan.share import PlannedRequest, Share
from ..wire.clock import kept_stamping
from ..wire.streams import Streams
from .closed_loop import ClosedLoop
from .lanes import Lanes
from .loop_health import Listening, LoopHealth, peak_memory_bytes, signs_of_life
from .open_loop import OpenLoop
from .outbox import Alive, Broke, Command, Connected, Drop, Finished, Go, Outbox, Ready, in_words
from .session_loop import SessionLoop
from .tickets import Tickets

OTHER_FILES = 64  # beside its connections
Sender = OpenLoop | ClosedLoop | SessionLoop


def run_worker(
    shares: Sequence[Share],
    tickets: Sequence[Tickets],
    core: int | None,
    orders: Pipe,
    results: Pipe,
) -> None:
    """Send the shares of a plan's parts, all at the same time; `tickets` are those of each part.

    There are two one-way pipes: the loop reads `orders` without blocking, and with a two-way pipe
    the sending thread couldn't block either.
    """
    import uvloop

    if core is not None:  # its own core
        os.sched_setaffinity(0, {core})
    allow_files(sum(share.most_sockets for share in shares) + OTHER_FILES)
    # A waiting thread gets the interpreter after this time, instead of Python's usual 5 ms.
    sys.setswitchinterval(0.0002)
    # As uvloop.run does, which doesn't exist in all supported versions of Python.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_run(shares, tickets, orders, results))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone: nobody reads the messages
    finally:
        loop.close()


async def _run(
    shares: Sequence[Share], tickets: Sequence[Tickets], orders: Pipe, results: Pipe
) -> None:
    """Do the work, or tell the parent what broke it: wherever in this process that was."""
    outbox, loop = Outbox(results), asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def break_off(_: object, context: dict[str, Any]) -> None:
        if not broken.done():
            broken.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(break_off)
    work = asyncio.ensure_future(_work(shares, tickets, orders, outbox))
    ends = (work, broken, asyncio.wrap_future(outbox.sending))
    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in done:
        problem = end.exception()
        if problem is not None:
            outbox.put(Broke(in_words(problem)))
    outbox.close()


async def _work(
    shares: Sequence[Share], tickets: Sequence[Tickets], orders: Pipe, outbox: Outbox
) -> None:
    streams = Streams()
    flows = [
        _Flow(share, theirs, _lanes_of(share, outbox, streams))
        for share, theirs in zip(shares, tickets, strict=True)
    ]
    session = _Session(flows, orders, streams)
    with kept_stamping(), session.hearing(), signs_of_life(outbox.put):
        problems = [await flow.lanes.connect() for flow in flows]
        problem = next(filter(None, problems), None)
        outbox.put(Connected(sum(flow.lanes.connected for flow in flows), problem))
        await session.warm_up()
        outbox.put(Ready())
        await session.send(outbox)
    for flow in flows:
        flow.lanes.close()
    streams.close()
    outbox.put(
        Finished(
            end_ns=time.perf_counter_ns(),
            wall_s=time.time(),
            connections_opened=sum(flow.lanes.connections_opened for flow in flows),
            peak_memory_bytes=peak_memory_bytes(),
            cpu_s=time.process_time(),
            clock=streams.clock.end(),
            trip_ms=streams.trip_ms,
        )
    )


def _lanes_of(share: Share, outbox: Outbox, streams: Streams) -> Lanes:
    lanes = Lanes(share.target, outbox.put, share.lane_numbers, streams)
    for _ in range(share.lanes):
        lanes.add()
    return lanes


@dataclass(frozen=True, slots=True)
class _Flow:
    """A share, and the lanes over which it goes."""

    share: Share
    tickets: Tickets
    lanes: Lanes

    def warm_up(self) -> ClosedLoop:
        rest = iter(self.share.warmup)  # one per lane at a time
        return ClosedLoop(self.lanes, lambda: next(rest, None))

    def sender(self, go: Go) -> Sender:
        share, take = self.share, self.tickets.take
        if share.due_ns is not None and share.plays is None:
            return OpenLoop(self.lanes, share.requests, share.due_ns, share.most_in_flight)
        if share.duration_ns is not None:
            take = self.tickets.until(go.start_ns + share.duration_ns, share.fewest)
        begins_ns = [int(begin * go.spread_ns) for begin in share.begins]
        if share.plays is not None:
            end_ns = None if share.plays_last_ns is None else go.start_ns + share.plays_last_ns
            return SessionLoop(self.lanes, share, take, begins_ns, end_ns)

        def take_request() -> PlannedRequest | None:
            index = take()
            return None if index is None else share.requests[index]

        return ClosedLoop(self.lanes, take_request, begins_ns)


class _Session:
    """The work between the parent's orders."""

    def __init__(self, flows: Sequence[_Flow], orders: Pipe, streams: Streams) -> None:
        self._flows = flows
        self._orders = orders
        self._streams = streams
        self._go: asyncio.Future[Go | None] = asyncio.get_running_loop().create_future()
        self._senders: list[Sender] = []
        self._ending: Command | None = None
        self._parent = Listening(lambda: self._end("cancel"))

    @contextmanager
    def hearing(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._orders.fileno(), self._obey)
        yield
        loop.remove_reader(self._orders.fileno())

    async def warm_up(self) -> None:
        warmed = [flow.warm_up() for flow in self._flows if flow.share.warmup]
        if warmed:
            await self._drive(warmed, time.perf_counter_ns())
        for flow in self._flows:
            flow.lanes.connections_opened = 0  # forget those before the start
        # Objects made before the start are never checked again, and there is no collection during
        # it: what a request leaves has no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()

    async def send(self, outbox: Outbox) -> None:
        go = await self._go
        if go is None:
            return  # stopped before the start
        self._streams.clock.begin()
        health = LoopHealth(outbox.put, lambda: any(f.lanes.replying for f in self._flows))
        health.start()
        await self._drive([flow.sender(go) for flow in self._flows], go.start_ns)
        health.stop()

    async def _drive(self, senders: Sequence[Sender], start_ns: int) -> None:
        self._senders = [*senders]
        if self._ending is not None:
            self._stop(self._ending)
        await asyncio.gather(*(sender.run(start_ns) for sender in senders))

    def _stop(self, how: Command) -> None:
        for sender in self._senders:
            sender.stop(cut_off=how == "cancel")

    def _obey(self) -> None:
        order = _receive(self._orders)
        if isinstance(order, Go):
            self._go.set_result(order)
            return
        if isinstance(order, Drop):
            for flow in self._flows:
                flow.lanes.drop(order)
            return
        if isinstance(order, Alive):
            self._parent.heard()
            return
        self._end(order)

    def _end(self, order: Command) -> None:
        self._ending = order
        if order == "cancel":  # the last order; a pipe without its other end stays readable
            asyncio.get_running_loop().remove_reader(self._orders.fileno())
        if not self._go.done():
            self._go.set_result(None)
        self._stop(order)


def _receive(orders: Pipe) -> Go | Drop | Alive | Command:
    try:
        order: Go | Drop | Alive | Command = orders.recv()
    except EOFError:
        return "cancel"  # the parent is gone: stop loading the server
    return order
