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
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from ..interrupts import Interrupts, unheard_by_children
from ..plan.part import Part
from ..plan.plan import Plan
from ..plan.share import Share
from ..send.entry import send_shares
from ..send.outbox import Connected
from ..send.tickets import Tickets
from .health import WorkerHealth
from .inbox import Inbox
from .judged import Judged
from .worker import START_LIMIT_S, CrewMaker, Worker

END_LIMIT_S = 2.0  # for processes to end, together
HEAD_START_S = 0.05  # from the order to start to the start
# A server answers all its streams in one step, so their chunks arrive together. A loop needs
# about 5 us for each, so the last of 128 is read 0.6 ms after the first.
STREAMS_A_WORKER = 128
RATE_A_WORKER = 500.0  # requests/s; with 100 chunks each, half of what a process can receive
ROOM = 1 << 20  # bytes of results on their way, forty replies: Linux allows no more by default


def choose_workers(streams: int, cores: int) -> int:
    """Return how many processes to send with: by the streams, at most half of the cores.

    The other half is for the parent, which reads their results, and for a server on this machine.
    """
    return max(1, min(math.ceil(streams / STREAMS_A_WORKER), cores // 2))


def workers_for(plan: Plan, asked: int | None) -> int:
    """Return how many processes send a plan: the number asked for, or one that suits its load.

    Each has something to send: processes are dealt each part by itself, from the first one on.
    """
    streams = plan.streams
    if streams is None:
        rate = (plan.request_rate or 0) * plan.own_rate_share
        streams = math.ceil(rate / RATE_A_WORKER * STREAMS_A_WORKER)
    cores = len(allowed_cores()) or os.cpu_count() or 1
    most = max(part.most_senders for part in plan.drawn)
    return max(1, min(asked or choose_workers(streams, cores), most))


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


class Processes:
    """The sending processes of one machine: a crew."""

    what = "sending processes"
    head_start_s = HEAD_START_S

    def __init__(self, plan: Plan, tickets: Sequence[Tickets]) -> None:
        self.workers: list[Worker] = []
        self._plan, self._tickets = plan, tickets  # of each part; shared by all processes

    def begun(self) -> int:
        return sum(tickets.taken() for tickets in self._tickets)

    def due(self, part: Part) -> int:
        taken = (t.taken() for p, t in self._parts if p.place == part.place)
        return part.due(next(taken))

    @property
    def _parts(self) -> Iterator[tuple[Part, Tickets]]:
        return zip(self._plan.drawn, self._tickets, strict=True)

    def to_measure(self) -> list[int]:
        tailed, count = [part for part in self._plan.drawn if part.has_tail], len(self.workers)
        return [
            sum(part.own_of(number, count).below(part.measured) for part in tailed)
            for number in range(count)
        ]

    def alone(self, worker: Worker) -> int:
        """Return none: the others take what is left of a closed loop, and an open one has times."""
        return 0

    def reached(self, told: Sequence[tuple[Worker, Connected]]) -> str | None:
        return next((c.problem for _, c in told if c.problem), None)

    def lose(self, worker: Worker, how: str) -> str:
        """Return how a process was lost: nobody knows better."""
        return how

    def take(self, worker: Worker, message: object) -> None:
        """Nothing: `Alive` asks for nothing, it was heard."""

    def rest(self, _is_broken_off: object) -> Iterator[tuple[Worker, Sequence[Judged]]]:
        """Return nothing: it was all told as it ended."""
        return iter(())

    def notes(self) -> Sequence[str]:
        """Return nothing: it is all known."""
        return ()

    def facts(self) -> dict[str, Any]:
        """Return nothing: processes are told one by one."""
        return {}


def started_by(workers: int | None) -> CrewMaker:
    """Return how to start a plan's crew: so many processes; None: as many as suit it."""
    return lambda plan, interrupts: started_crew(plan, workers_for(plan, workers), interrupts)


@contextmanager
def started_crew(plan: Plan, workers: int, interrupts: Interrupts) -> Iterator[Processes]:
    """Start the processes, each with its share; end them on exit.

    Raises OSError where no tickets can be made, KeyboardInterrupt where a signal comes meanwhile.
    """
    cores = cores_for(workers, allowed_cores())
    tickets = [Tickets(part.most_tickets) for part in plan.drawn]
    crew = Processes(plan, tickets)
    processes: list[BaseProcess] = []
    limit_s = 0.0  # what breaks off has nothing to wait for
    try:
        resource_tracker.ensure_running()  # starting it would let signals through
        for number, core in enumerate(cores):
            with interrupts.counted(), unheard_by_children():
                process, worker = _start(number, core, tickets)
                processes.append(process)
                crew.workers.append(worker)
            interrupts.check()
        for number, worker in enumerate(crew.workers):  # they load their modules side by side
            _hand_over(worker, plan.shares(number, workers))
        with keeping_off(cores):
            yield crew
        limit_s = END_LIMIT_S
    finally:
        for each in tickets:
            each.close()
        _end(crew.workers, processes, limit_s)


def _hand_over(worker: Worker, shares: tuple[Share, ...]) -> None:
    """Send a process its shares; one that doesn't take them is killed, which shows as its end."""
    worker.senders[0].streams = sum(share.lanes for share in shares)
    late = threading.Timer(START_LIMIT_S, worker.kill)
    late.daemon = True
    late.start()
    try:
        worker.tell(shares)
    finally:
        late.cancel()


def _start(number: int, core: int | None, tickets: Sequence[Tickets]) -> tuple[BaseProcess, Worker]:
    context = multiprocessing.get_context("spawn")
    their_orders, orders = context.Pipe(duplex=False)
    results, their_results = context.Pipe(duplex=False)
    process = context.Process(
        target=send_shares, args=(tickets, core, their_orders, their_results), daemon=True
    )
    process.start()
    their_orders.close()  # so that the pipes end with the child
    their_results.close()
    name, health = f"sending process {number}", WorkerHealth(number, core, streams=0)
    inbox, kill, roomy = Inbox(results), process.kill, _widened(results)
    return process, Worker(name, orders, results, inbox, [health], kill, roomy=roomy)


def _widened(pipe: Pipe) -> bool:
    """Give a pipe room for many messages; False: the system doesn't allow it."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):  # not Linux
        return False
    try:
        return fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, ROOM) >= ROOM
    except OSError:  # this user's pipes have all the room that they may have
        return False


def _end(crew: Sequence[Worker], processes: Sequence[BaseProcess], limit_s: float) -> None:
    """Let the processes end, and kill those that haven't within this time, all together."""
    for worker in crew:
        worker.orders.close()  # cuts off requests in flight
        worker.results.close()
    give_up_s = time.monotonic() + limit_s
    for process in processes:
        process.join(max(0.0, give_up_s - time.monotonic()))
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
