"""A sending process: connects its streams, waits for the start, sends its share, reports.

Finished exchanges leave through a thread that feeds the pipe to the parent, so that a slow
reader never blocks the sending loop.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Literal

from .closed_loop import ClosedLoop, Share
from .cores import stay_on
from .loop_health import LoopHealth
from .outbox import Outbox
from .tickets import Tickets

Command = Literal["stop", "cancel"]


@dataclass(frozen=True, slots=True)
class Go:
    """From the parent: start at this instant of the shared monotonic clock (ns)."""

    start_ns: int


@dataclass(frozen=True, slots=True)
class Ready:
    """To the parent: how many streams are connected, and the first failure to do so."""

    connected: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """To the parent: everything else has been sent before this."""

    end_ns: int
    wall_s: float
    connections_opened: int  # inside the window
    peak_memory_bytes: int
    cpu_s: float  # since the process began


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sending process runs, and how it talks to its parent."""

    core: int | None  # of its own; None: wherever the system puts it
    orders: Pipe
    results: Pipe


def run_worker(share: Share, tickets: Tickets, place: Place) -> None:
    """Run a share of a plan; the entry point of the child process.

    Two pipes of one direction each: the loop reads `orders` without blocking, and a pipe of
    both directions would then refuse to block for the thread that sends.
    """
    import uvloop

    stay_on(place.core)
    _allow_sockets(len(share.streams))
    # A thread that wants the interpreter gets it after this, not after Python's usual 5 ms.
    sys.setswitchinterval(0.0002)
    # What uvloop.run does; that function does not exist for all Pythons that we run on.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_run(share, tickets, place))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone, and with it anybody who could read on
    finally:
        loop.close()


async def _run(share: Share, tickets: Tickets, place: Place) -> None:
    loop = asyncio.get_running_loop()
    orders, outbox = place.orders, Outbox(place.results)
    closed_loop = ClosedLoop(share, tickets.take, outbox.put)
    health = LoopHealth(outbox.put)
    problem = await closed_loop.connect()
    outbox.put(Ready(closed_loop.connected, problem))
    go: Go = await loop.run_in_executor(None, orders.recv)
    # Garbage made before the window is not looked at again, and none is looked for inside it:
    # what a request leaves has no cycles.
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.add_reader(orders.fileno(), lambda: closed_loop.stop(cut_off=_receive(orders) == "cancel"))
    health.start()
    await closed_loop.run(go.start_ns)
    health.stop()
    loop.remove_reader(orders.fileno())
    outbox.put(
        Finished(
            end_ns=time.perf_counter_ns(),
            wall_s=time.time(),
            connections_opened=closed_loop.connections_opened,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            cpu_s=time.process_time(),
        )
    )
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
