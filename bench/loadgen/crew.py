"""The sending processes of a run: how many, started together, told together, watched."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

from .closed_loop import Share
from .cores import allowed_cores, cores_for, keeping_off
from .plan import Plan
from .records import ClockPair
from .tickets import Tickets
from .worker import Command, Go, Place, Ready, run_worker

START_LIMIT_S = 60.0
HEAD_START_S = 0.05  # between telling the workers to start and the start
# A server answers all its streams in one step, so their chunks arrive together; a loop takes
# about 5 us for each, and the last of 128 is stamped 0.6 ms after the first.
STREAMS_A_WORKER = 128


class RunError(Exception):
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


@contextmanager
def started_crew(plan: Plan, workers: int) -> Iterator[list[Worker]]:
    """Start the processes, end them on leaving. Raises OSError where tickets can't be written."""
    workers = min(workers, plan.streams)
    cores = cores_for(workers, allowed_cores())
    tickets = Tickets(len(plan.requests))
    crew: list[Worker] = []
    # The children inherit this: Ctrl-C is the parent's to answer, from the first instant.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        try:
            for number, core in enumerate(cores):
                streams = tuple(range(number, plan.streams, workers))
                crew.append(_start(number, core, _share(plan, streams), tickets))
        finally:
            signal.signal(signal.SIGINT, before)
        with keeping_off(cores):
            yield crew
    finally:
        tickets.close()
        _end(crew)


def _share(plan: Plan, streams: tuple[int, ...]) -> Share:
    return Share(plan.target, streams, plan.requests, plan.timeouts, plan.scenario.stream)


def _start(number: int, core: int | None, share: Share, tickets: Tickets) -> Worker:
    context = multiprocessing.get_context("spawn")
    their_orders, orders = context.Pipe(duplex=False)
    results, their_results = context.Pipe(duplex=False)
    place = Place(core, their_orders, their_results)
    process = context.Process(target=run_worker, args=(share, tickets, place), daemon=True)
    process.start()
    their_orders.close()  # so that the end of the child is the end of the pipes
    their_results.close()
    return Worker(number, process, core, orders, results, len(share.streams), tickets)


def _end(crew: list[Worker]) -> None:
    for worker in crew:
        worker.orders.close()  # cuts off what is under way
        worker.results.close()
    for worker in crew:
        worker.process.join(timeout=2)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def all_ready(crew: list[Worker]) -> list[Ready]:
    """Wait until every worker has connected its streams. Raises RunError."""
    give_up_s = time.monotonic() + START_LIMIT_S
    found = []
    for worker in crew:
        try:
            if not worker.results.poll(max(0.0, give_up_s - time.monotonic())):
                raise RunError(f"a sending process was not ready after {START_LIMIT_S:g} s")
            found.append(worker.results.recv())
        except EOFError as e:
            raise RunError("a sending process died before the start") from e
    return found


def start_all(crew: list[Worker]) -> ClockPair:
    """Name an instant that is near enough to wait for, and far enough to be told of in time."""
    wall_s, now_ns = time.time(), time.perf_counter_ns()
    start = ClockPair(
        wall_s=wall_s + HEAD_START_S, monotonic_ns=now_ns + int(HEAD_START_S * 1_000_000_000)
    )
    for worker in crew:
        worker.tell(Go(start.monotonic_ns))
    return start
