"""The sending processes of a run: how many, started together, told together, watched."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

from ..errors import BenchError
from ..plan.plan import Plan
from ..plan.timetable import spare_connections
from ..plan.work import NS_PER_S, Arrival
from ..records.run_info import ClockPair
from ..send.cores import allowed_cores, cores_for, keeping_off
from ..send.tickets import Tickets
from ..send.worker import Command, Go, Place, Share, run_worker

HEAD_START_S = 0.05  # between telling the workers to start and the start
# A server answers all its streams in one step, so their chunks arrive together; a loop takes
# about 5 us for each, and the last of 128 is stamped 0.6 ms after the first.
STREAMS_A_WORKER = 128
RATE_A_WORKER = 500.0  # requests/s; of 100 chunks each, half of what a process takes in


class RunError(BenchError):
    """A run that could not start or go on; the text is one line for people."""


@dataclass(slots=True)
class Worker:
    """One sending process, as the parent reaches it."""

    number: int
    process: BaseProcess
    core: int | None  # its own; None: it shares them all
    orders: Pipe
    results: Pipe
    streams: int
    tickets: Tickets  # the crew's
    lost: bool = False

    def tell(self, message: Go | Command) -> None:
        """Send it an order; one that has died is noticed by its results' end."""
        try:
            self.orders.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return


def choose_workers(streams: int, cores: int) -> int:
    """Return how many processes to send with: a share of the streams each, half of the cores.

    The other half is for whoever reads what they send, and for a server on this machine.
    """
    return max(1, min(math.ceil(streams / STREAMS_A_WORKER), cores // 2))


def workers_for(plan: Plan, asked: int | None) -> int:
    """Return how many processes send a plan: as many as were asked for, or as suit its load."""
    streams = plan.level.concurrency
    if streams is None:
        streams = math.ceil((plan.request_rate or 0) / RATE_A_WORKER * STREAMS_A_WORKER)
    cores = len(allowed_cores()) or os.cpu_count() or 1
    return min(asked or choose_workers(streams, cores), most_workers(plan))


def most_workers(plan: Plan) -> int:
    """Return how many processes have anything to send: none is without a stream of its own."""
    return plan.level.concurrency or plan.scenario.max_in_flight or plan.measured


@contextmanager
def started_crew(plan: Plan, workers: int) -> Iterator[list[Worker]]:
    """Start the processes, end them on leaving. Raises OSError where tickets can't be written."""
    cores = cores_for(workers, allowed_cores())
    turns = plan.talk.turns if plan.talk else 1
    tickets = Tickets(0 if plan.timetable.open_loop else math.ceil(plan.measured / turns))
    crew: list[Worker] = []
    try:
        with _signals_ignored():
            for number, core in enumerate(cores):
                crew.append(_start(number, core, share_of(plan, number, workers), tickets))
        with keeping_off(cores):
            yield crew
    finally:
        tickets.close()
        _end(crew)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore what asks for the end, as the children started meanwhile will for good.

    A terminal sends Ctrl-C, a batch system SIGTERM, to the whole process group: they are the
    parent's to answer, from the first instant.
    """
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share_of(plan: Plan, number: int, workers: int) -> Share:
    """Return what process `number` of `workers` has to do."""
    warmup = plan.warmup[number::workers]
    if plan.level.concurrency is not None:
        streams = len(range(number, plan.level.concurrency, workers))
        timed = plan.timed
        return Share(plan.manner, number, workers, streams, warmup, timed, plan.talk)
    times_s = plan.timetable.times_s[number::workers]
    most = plan.scenario.max_in_flight
    most = None if most is None else len(range(number, most, workers))
    spare = spare_connections(times_s)
    return Share(
        plan.manner,
        number,
        workers,
        lanes=spare if most is None else min(spare, most),
        warmup=warmup,
        arrivals=tuple(
            Arrival(round(time_s * NS_PER_S), request)
            for time_s, request in zip(times_s, plan.timed[number::workers], strict=True)
        ),
        most_in_flight=most,
    )


def _start(number: int, core: int | None, share: Share, tickets: Tickets) -> Worker:
    context = multiprocessing.get_context("spawn")
    their_orders, orders = context.Pipe(duplex=False)
    results, their_results = context.Pipe(duplex=False)
    place = Place(core, their_orders, their_results)
    process = context.Process(target=run_worker, args=(share, tickets, place), daemon=True)
    process.start()
    their_orders.close()  # so that the end of the child is the end of the pipes
    their_results.close()
    return Worker(number, process, core, orders, results, share.lanes, tickets)


def _end(crew: list[Worker]) -> None:
    for worker in crew:
        worker.orders.close()  # cuts off what is under way
        worker.results.close()
    for worker in crew:
        worker.process.join(timeout=2)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def start_all(crew: list[Worker]) -> ClockPair:
    """Name an instant that is near enough to wait for, and far enough to be told of in time."""
    wall_s, now_ns = time.time(), time.perf_counter_ns()
    start = ClockPair(
        wall_s=wall_s + HEAD_START_S, monotonic_ns=now_ns + int(HEAD_START_S * 1_000_000_000)
    )
    for worker in crew:
        worker.tell(Go(start.monotonic_ns))
    return start
