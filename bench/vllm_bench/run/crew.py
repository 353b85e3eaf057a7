"""The sending processes of a run: how many, on which cores, and started together.

Each has its own core; the other cores are for the parent and the server. Linux often wakes a
process on the core of the process that sent it a packet, where it waits until that one pauses. On a
machine with both client and server this made reads 4 ms late at p99; with its own core for each
sending process it is 0.6 ms (1,000 streams, 25,000 chunks per second, 2 cores).
"""

from __future__ import annotations

import fcntl
import math
import multiprocessing
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

from ..errors import BenchError
from ..interrupts import Interrupts, unheard_by_children
from ..plan.plan import Plan
from ..plan.share import NS_PER_S, Share
from ..records.run_info import ClockPair
from ..send.entry import send_shares
from ..send.outbox import Command, Drop, Go
from ..send.tickets import Tickets
from .client_health import WorkerHealth
from .inbox import Inbox

START_LIMIT_S = 60.0  # for processes to start and connections to open
END_LIMIT_S = 2.0  # for processes to end, together
HEAD_START_S = 0.05  # from the order to start to the start
# A server answers all its streams in one step, so their chunks arrive together. A loop needs
# about 5 us for each, so the last of 128 is read 0.6 ms after the first.
STREAMS_A_WORKER = 128
RATE_A_WORKER = 500.0  # requests/s; with 100 chunks each, half of what a process can receive
ROOM = 1 << 20  # bytes of results on their way, forty replies: Linux allows no more by default


class RunError(BenchError):
    """A run that could not start or go on; the text is one line for people."""


Order = tuple[Share, ...] | Go | Drop | Command


@dataclass(slots=True)
class Worker:
    """One sending process, as the parent sees it."""

    process: BaseProcess
    orders: Pipe
    results: Pipe
    inbox: Inbox  # of `results`
    tickets: Sequence[Tickets]  # of each part of the plan; shared by all processes
    health: WorkerHealth
    roomy: bool = False  # whether its results' pipe holds many messages
    heard_s: float | None = None  # when it last said something; None: nothing yet
    untold: deque[Order] = field(default_factory=deque)

    def tell(self, message: Order) -> None:
        """Send it an order; if it has died, the end of its results shows that."""
        self.untold.append(message)
        self.tell_rest()

    def tell_rest(self) -> None:
        """Send it the orders that its pipe has room for: who waited here wouldn't read its results.

        It may itself be waiting until they are read.
        """
        room = select.poll()
        room.register(self.orders, select.POLLOUT)
        try:
            while self.untold and room.poll(0):
                self.orders.send(self.untold.popleft())
        except (BrokenPipeError, ConnectionResetError):
            self.untold.clear()


def choose_workers(streams: int, cores: int) -> int:
    """Return how many processes to send with: by the streams, at most half of the cores.

    The other half is for the parent, which reads their results, and for a server on this machine.
    """
    return max(1, min(math.ceil(streams / STREAMS_A_WORKER), cores // 2))


def workers_for(plan: Plan, asked: int | None) -> int:
    """Return how many processes send a plan: the number asked for, or one that suits its load.

    Each has at least one stream.
    """
    streams = plan.level.concurrency
    if streams is None:
        streams = math.ceil((plan.request_rate or 0) / RATE_A_WORKER * STREAMS_A_WORKER)
    cores = len(allowed_cores()) or os.cpu_count() or 1
    caps = [part.level.concurrency or part.scenario.max_in_flight for part in plan.drawn]
    most = sum(cap or part.measured for cap, part in zip(caps, plan.drawn, strict=True))
    return min(asked or choose_workers(streams, cores), most)


def cores_for(workers: int, allowed: Sequence[int]) -> list[int | None]:
    """Return a core for each worker, the last cores first; none if less than half would be left."""
    if workers > len(allowed) // 2:
        return [None] * workers
    return list(sorted(allowed, reverse=True)[:workers])


def allowed_cores() -> list[int]:
    """Return the cores that this process may run on; none where that is unknown."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def keeping_off(cores: Sequence[int | None]) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, off the cores of the workers."""
    taken = {core for core in cores if core is not None}
    before = set(allowed_cores())
    if not taken or not before - taken:
        yield
        return
    os.sched_setaffinity(0, before - taken)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started_crew(plan: Plan, workers: int, interrupts: Interrupts) -> Iterator[list[Worker]]:
    """Start the processes, each with its share; end them on exit.

    Raises OSError where no tickets can be made, KeyboardInterrupt where a signal comes meanwhile.
    """
    cores = cores_for(workers, allowed_cores())
    tickets = [Tickets(part.most_tickets) for part in plan.drawn]
    crew: list[Worker] = []
    limit_s = 0.0  # what breaks off has nothing to wait for
    try:
        resource_tracker.ensure_running()  # starting it would let signals through
        for number, core in enumerate(cores):
            with interrupts.counted(), unheard_by_children():
                crew.append(_start(number, core, tickets))
            interrupts.check()
        for worker in crew:  # they load their modules side by side
            _hand_over(worker, plan.shares(worker.health.number, workers))
        with keeping_off(cores):
            yield crew
        limit_s = END_LIMIT_S
    finally:
        for each in tickets:
            each.close()
        _end(crew, limit_s)


def _hand_over(worker: Worker, shares: tuple[Share, ...]) -> None:
    """Send a process its shares; one that doesn't take them is killed, which shows as its end."""
    worker.health.streams = sum(share.lanes for share in shares)
    late = threading.Timer(START_LIMIT_S, worker.process.kill)
    late.daemon = True
    late.start()
    try:
        worker.tell(shares)
    finally:
        late.cancel()


def start_all(crew: list[Worker], spread_s: float) -> ClockPair:
    """Choose the start: late enough for the order to reach all processes in time.

    The streams of a closed loop begin during `spread_s`.
    """
    wall_s, now_ns = time.time(), time.perf_counter_ns()
    start = ClockPair(
        wall_s=wall_s + HEAD_START_S, monotonic_ns=now_ns + int(HEAD_START_S * NS_PER_S)
    )
    for worker in crew:
        worker.tell(Go(start.monotonic_ns, int(spread_s * NS_PER_S)))
    return start


def _start(number: int, core: int | None, tickets: Sequence[Tickets]) -> Worker:
    context = multiprocessing.get_context("spawn")
    their_orders, orders = context.Pipe(duplex=False)
    results, their_results = context.Pipe(duplex=False)
    process = context.Process(
        target=send_shares, args=(tickets, core, their_orders, their_results), daemon=True
    )
    process.start()
    their_orders.close()  # so that the pipes end with the child
    their_results.close()
    health, inbox = WorkerHealth(number, core, streams=0), Inbox(results)
    return Worker(process, orders, results, inbox, tickets, health, _widened(results))


def _widened(pipe: Pipe) -> bool:
    """Give a pipe room for many messages; False: the system doesn't allow it."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):  # not Linux
        return False
    try:
        return fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, ROOM) >= ROOM
    except OSError:  # this user's pipes have all the room that they may have
        return False


def _end(crew: list[Worker], limit_s: float) -> None:
    """Let the processes end, and kill those that haven't within this time, all together."""
    for worker in crew:
        worker.orders.close()  # cuts off requests in flight
        worker.results.close()
    give_up_s = time.monotonic() + limit_s
    for worker in crew:
        worker.process.join(max(0.0, give_up_s - time.monotonic()))
    for worker in crew:
        worker.process.kill()
    for worker in crew:
        worker.process.join()
