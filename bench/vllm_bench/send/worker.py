"""A sending process: connects its streams, waits for the start, sends its share, reports.

A separate thread writes finished exchanges to the pipe to the parent, so that a slow reader never
blocks the sending loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

from ..plan.share import PlannedRequest, Share
from ..wire.clock import kept_stamping
from .closed_loop import ClosedLoop
from .conversation_loop import ConversationLoop
from .lanes import Lanes
from .loop_health import LoopHealth, peak_memory_bytes, signs_of_life
from .open_loop import OpenLoop
from .outbox import Broke, Command, Connected, Drop, Finished, Go, Outbox, Ready, in_words
from .tickets import Tickets

Sender = OpenLoop | ClosedLoop | ConversationLoop


def run_worker(
    share: Share, tickets: Tickets, core: int | None, orders: Pipe, results: Pipe
) -> None:
    """Run a share of a plan.

    There are two one-way pipes: the loop reads `orders` without blocking, and with a two-way pipe
    the sending thread couldn't block either.
    """
    import uvloop

    if core is not None:  # its own core
        os.sched_setaffinity(0, {core})
    _allow_sockets(share.most_sockets)
    # A waiting thread gets the interpreter after this time, instead of Python's usual 5 ms.
    sys.setswitchinterval(0.0002)
    # As uvloop.run does, which doesn't exist in all supported versions of Python.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_run(share, tickets, orders, results))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone: nobody reads the messages
    finally:
        loop.close()


async def _run(share: Share, tickets: Tickets, orders: Pipe, results: Pipe) -> None:
    """Do the work, or tell the parent what broke it: wherever in this process that was."""
    outbox, loop = Outbox(results), asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def break_off(_: object, context: dict[str, Any]) -> None:
        if not broken.done():
            broken.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(break_off)
    work = asyncio.ensure_future(_work(share, tickets, orders, outbox))
    ends = (work, broken, asyncio.wrap_future(outbox.sending))
    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in done:
        problem = end.exception()
        if problem is not None:
            outbox.put(Broke(in_words(problem)))
    outbox.close()


async def _work(share: Share, tickets: Tickets, orders: Pipe, outbox: Outbox) -> None:
    lanes = Lanes(share.target, outbox.put, share.number, share.workers)
    for _ in range(share.lanes):
        lanes.add()
    session = _Session(share, tickets, lanes, orders)
    with kept_stamping(), session.hearing(), signs_of_life(outbox.put):
        problem = await lanes.connect()
        outbox.put(Connected(lanes.connected, problem))
        await session.warm_up()
        outbox.put(Ready())
        await session.send(outbox)
    lanes.close()
    outbox.put(
        Finished(
            end_ns=time.perf_counter_ns(),
            wall_s=time.time(),
            connections_opened=lanes.connections_opened,
            peak_memory_bytes=peak_memory_bytes(),
            cpu_s=time.process_time(),
            clock=lanes.streams.clock.end(),
        )
    )


class _Session:
    """The work between the parent's orders."""

    def __init__(self, share: Share, tickets: Tickets, lanes: Lanes, orders: Pipe) -> None:
        self._share = share
        self._tickets = tickets
        self._lanes = lanes
        self._orders = orders
        self._go: asyncio.Future[Go | None] = asyncio.get_running_loop().create_future()
        self._sender: Sender | None = None
        self._ending: Command | None = None

    @contextmanager
    def hearing(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._orders.fileno(), self._obey)
        yield
        loop.remove_reader(self._orders.fileno())

    async def warm_up(self) -> None:
        if self._share.warmup:
            rest = iter(self._share.warmup)  # one per lane at a time
            warm_up = ClosedLoop(self._lanes, lambda: next(rest, None))
            await self._drive(warm_up, time.perf_counter_ns())
        self._lanes.connections_opened = 0  # forget those before the start
        # Objects made before the start are never checked again, and there is no collection during
        # it: what a request leaves has no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()

    async def send(self, outbox: Outbox) -> None:
        go = await self._go
        if go is None:
            return  # stopped before the start
        self._lanes.streams.clock.begin()
        health = LoopHealth(outbox.put, lambda: self._lanes.replying)
        health.start()
        await self._drive(self._sender_of_the_share(go), go.start_ns)
        health.stop()

    def _sender_of_the_share(self, go: Go) -> Sender:
        share, take = self._share, self._tickets.take
        if share.due_ns is not None:
            return OpenLoop(self._lanes, share.requests, share.due_ns, share.most_in_flight)
        if share.duration_ns is not None:
            take = self._tickets.until(go.start_ns + share.duration_ns, share.fewest)
        begins_ns = [int(begin * go.spread_ns) for begin in share.begins]
        if share.talk is not None:
            return ConversationLoop(self._lanes, share.talk, share.requests, take, begins_ns)

        def take_request() -> PlannedRequest | None:
            index = take()
            return None if index is None else share.requests[index]

        return ClosedLoop(self._lanes, take_request, begins_ns)

    async def _drive(self, sender: Sender, start_ns: int) -> None:
        self._sender = sender
        if self._ending is not None:
            sender.stop(cut_off=self._ending == "cancel")
        await sender.run(start_ns)

    def _obey(self) -> None:
        order = _receive(self._orders)
        if isinstance(order, Go):
            self._go.set_result(order)
            return
        if isinstance(order, Drop):
            self._lanes.drop(order)
            return
        self._ending = order
        if order == "cancel":  # the last order; a pipe without its other end stays readable
            asyncio.get_running_loop().remove_reader(self._orders.fileno())
        if not self._go.done():
            self._go.set_result(None)
        if self._sender is not None:
            self._sender.stop(cut_off=order == "cancel")


def _receive(orders: Pipe) -> Go | Drop | Command:
    try:
        order: Go | Drop | Command = orders.recv()
    except EOFError:
        return "cancel"  # the parent is gone: stop loading the server
    return order


def _allow_sockets(streams: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = streams + 64
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
