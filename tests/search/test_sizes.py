"""How many requests a run has, and how long a search takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.search.probe import Purpose
from vllm_bench.search.sizes import FULL, Size, expected, size_of
from vllm_bench.search.steps import Space, Step

from tests.search.made import knee, searched

SPACE = Space(low=1, high=1000)
STREAMS = Space(low=1, high=1000, whole=True)


@pytest.mark.parametrize(
    ("purpose", "size"), [("find", (400, 120)), ("close", (1000, 300)), ("confirm", (2000, 500))]
)
def test_with_time_enough_it_is_what_the_method_asks(
    purpose: Purpose, size: tuple[int, int]
) -> None:
    assert size_of(Step(purpose, 20.0), SPACE, 1e6, 20.0) == Size(*size)


@given(st.sampled_from(sorted(FULL)), st.floats(0.05, 1000), st.floats(10, 1e5), st.booleans())
def test_it_is_never_less_than_a_hundred_nor_all_left_out(
    purpose: Purpose, load: float, budget_s: float, whole: bool
) -> None:
    space = STREAMS if whole else SPACE
    found = size_of(Step(purpose, round(load + 1) if whole else load), space, budget_s, load)
    assert 100 <= found.requests <= max(FULL[purpose][0], 10 * (load + 2))
    assert 0.2 <= found.dropped / found.requests <= 0.35


def test_with_little_time_runs_are_shorter() -> None:
    sizes = [size_of(Step("close", 20.0), SPACE, m * 60, 20.0).requests for m in (1, 3, 10, 30)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 1000


def test_many_streams_have_several_requests_each() -> None:
    assert size_of(Step("close", 300), STREAMS, 1e6, 50.0).requests == 3000
    assert size_of(Step("close", 300), STREAMS, 60.0, 1.0).requests == 1500


@given(st.floats(1.0, 999.0))
def test_the_runs_that_are_expected_are_those_that_come(capacity: float) -> None:
    made = [(p.purpose, p.load) for p in searched(SPACE, knee(capacity))]
    assert [(step.purpose, step.load) for step in expected(SPACE, capacity)] == made
