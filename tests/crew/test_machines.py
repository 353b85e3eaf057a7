"""The machines of a run as the head has them: what is known of one that was lost."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew.runner import _Run
from vllm_bench.live.progress import Progress
from vllm_bench.machines.deal import dealt
from vllm_bench.machines.fleet.crew import MachineCrew
from vllm_bench.machines.fleet.machine import Machine
from vllm_bench.machines.messages import Standing
from vllm_bench.plan.plan import Plan

from tests.machines.kept.made import made_judged
from tests.support.made_plans import made_plan

STREAMS = 6
BY_TIME = made_plan(3, concurrencies=[STREAMS], num_requests=None, duration_s=60.0)
NOBODY: Any = SimpleNamespace(add=lambda one, stamps: None)
WATCH: Any = SimpleNamespace(above=None)


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Machine]]:
    """Two machines that say what a test has them say."""
    pipes = [
        {kind: multiprocessing.Pipe() for kind in ("orders", "results", "clock")} for _ in range(2)
    ]
    facts: Any = SimpleNamespace(cores=2)
    yield [
        Machine(f"m{n}", facts, {k: ours for k, (ours, _) in of.items()}, lambda: None)
        for n, of in enumerate(pipes)
    ]
    for of in pipes:
        for pair in of.values():
            for end in pair:
                end.close()


def run_over(machines: list[Machine], plan: Plan) -> tuple[_Run, MachineCrew]:
    plans = dealt(plan, [one.name for one in machines], [2, 2])
    pings: Any = None
    crew = MachineCrew(plan.run_id, machines, plans, pings, rows_stay=False)
    return _Run(plan, crew, Progress(planned=0, started_s=0.0), NOBODY, WATCH), crew


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=8))
def test_as_many_requests_are_due_of_each_machine_as_it_has_told_rows_at_least(
    machines: list[Machine], said: list[tuple[bool, int]]
) -> None:
    """A machine stands up each second, and may be lost before the next time."""
    run, crew = run_over(machines, BY_TIME)
    (part,) = BY_TIME.drawn
    lost, other = crew.workers
    run._take(other, Standing(50, {0: 50}))  # whose own are all still to come
    stood = told = 0
    for stands, rows in said:
        for _ in range(rows):
            run._take(lost, made_judged(told * 2))
            told += 1
        if stands:
            stood = told + STREAMS // 2
            run._take(lost, Standing(stood, {0: stood}))
    assert crew.due(part) - 50 == max(stood, told)
