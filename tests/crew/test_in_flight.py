"""How many requests of several machines are under way, as the head shows it."""

from __future__ import annotations

import multiprocessing
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew.judged import Elsewhere
from vllm_bench.crew.runner import _Run
from vllm_bench.live.counts import Counts
from vllm_bench.live.progress import Progress, progress_of
from vllm_bench.machines.deal import dealt
from vllm_bench.machines.fleet.crew import MachineCrew
from vllm_bench.machines.fleet.machine import Machine
from vllm_bench.machines.messages import Standing
from vllm_bench.plan.plan import Plan

from tests.machines.kept.made import made_judged
from tests.support.made_plans import made_plan

STREAMS = 6
CLOSED = made_plan(400, concurrencies=[STREAMS])
OPEN = made_plan(9, times_s=array("d", range(9)), request_rates=[1.0], concurrencies=[])
WATCH: Any = SimpleNamespace(above=None)


@contextmanager
def run_of(plan: Plan, *, rows_stay: bool = False) -> Iterator[tuple[_Run, MachineCrew, Progress]]:
    """A run of two machines that say what a test has them say: half of the streams are each's."""
    pipes = [
        {kind: multiprocessing.Pipe() for kind in ("orders", "results", "clock")} for _ in range(2)
    ]
    facts: Any = SimpleNamespace(cores=2)
    machines = [
        Machine(f"m{n}", facts, {k: ours for k, (ours, _) in of.items()})
        for n, of in enumerate(pipes)
    ]
    pings: Any = None
    plans = dealt(plan, [one.name for one in machines], [2, 2])
    crew = MachineCrew(plan.run_id, machines, plans, pings, rows_stay=rows_stay)
    progress = progress_of(plan, crew.begun, 0.0)
    tally: Any = SimpleNamespace(add=lambda one, stamps: progress.count(one.record))
    run = _Run(plan, crew, progress, tally, WATCH)
    for worker in crew.workers:
        run._take(worker, Standing(STREAMS // 2, {0: 0}))
    try:
        yield run, crew, progress
    finally:
        for end in (end for of in pipes for pair in of.values() for end in pair):
            end.close()


@given(st.lists(st.integers(0, 1), max_size=30))
def test_while_rows_come_as_many_are_under_way_as_there_are_streams(rows: list[int]) -> None:
    """A machine says once a second how far it is, and rows come many times a second."""
    with run_of(CLOSED) as (run, crew, progress):
        for index, of in enumerate(rows):
            run._take(crew.workers[of], made_judged(index * 2 + of))
            assert progress.in_flight == STREAMS


def test_who_was_lost_has_nothing_under_way() -> None:
    with run_of(CLOSED) as (run, crew, progress):
        run._take(crew.workers[0], made_judged(0))
        run._lose(crew.workers[0], "died")
        assert progress.in_flight == STREAMS // 2
        run._take(crew.workers[1], Standing(STREAMS // 2 + 2, {0: 0}))  # two ended, not yet told
        assert progress.in_flight == STREAMS // 2


@pytest.mark.parametrize("rows_stay", [False, True])
def test_once_a_machine_was_lost_the_time_left_is_that_of_the_others(rows_stay: bool) -> None:
    """Each has had 30 of its 200 when one is lost; when the other has had 120, 80 are to come."""
    with run_of(CLOSED, rows_stay=rows_stay) as (run, crew, progress):
        progress.started_s = time.perf_counter() - 60
        for index in range(60):
            tell(run, crew, index, 1 + index // 2, rows_stay=rows_stay)
        run._lose(crew.workers[0], "died")
        assert progress.in_flight == STREAMS // 2
        for index in range(61, 240, 2):
            tell(run, crew, index, 1 + index // 2, rows_stay=rows_stay)
        assert progress.ended == 30 + 120
        assert progress.in_flight == STREAMS // 2
        assert progress.left_s == pytest.approx(80 * 60 / 120, rel=0.01)


def tell(run: _Run, crew: MachineCrew, index: int, ended: int, *, rows_stay: bool) -> None:
    """Have a request's machine tell its end, by its row or by how many have ended there."""
    worker = crew.workers[index % 2]
    if not rows_stay:
        run._take(worker, made_judged(index))
        return
    run._take(worker, Elsewhere(Counts(ended=ended), away=False))
    run._take(worker, Standing(ended + STREAMS // 2, {0: 200}))


def test_while_rows_are_fetched_nothing_is_under_way() -> None:
    with run_of(CLOSED, rows_stay=True) as (run, crew, progress):
        for index in range(2):
            tell(run, crew, index, 200, rows_stay=True)
        watch: Any = SimpleNamespace(interrupts=lambda: 0, above=None)
        run._watch = watch
        crew.rest = lambda broken: iter(())  # type: ignore[method-assign, assignment]
        run._collect()
        assert progress.phase
        run._take(crew.workers[0], made_judged(0))  # the first that is fetched
        assert progress.ended == 1
        assert progress.in_flight == 0
        assert progress.left_s is None


def test_of_a_schedule_nobody_knows_what_is_under_way_once_a_machine_was_lost() -> None:
    with run_of(OPEN) as (run, crew, progress):
        assert progress.in_flight is not None
        run._lose(crew.workers[0], "died")
        assert progress.in_flight is None
