"""What is known of a machine that was lost, as the head has it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.machines.messages import Standing

from tests.crew.test_in_flight import STREAMS, run_of
from tests.machines.kept.made import made_judged
from tests.support.made_plans import made_plan

BY_TIME = made_plan(3, concurrencies=[STREAMS], num_requests=None, duration_s=60.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=8))
def test_as_many_requests_are_due_of_each_machine_as_it_has_told_rows_at_least(
    said: list[tuple[bool, int]],
) -> None:
    """A machine stands up each second, and may be lost before the next time."""
    with run_of(BY_TIME) as (run, crew, _):
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
        (part,) = BY_TIME.drawn
        assert crew.due(part) == 50 + max(stood, told)
