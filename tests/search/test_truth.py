"""Searches held to the truth, in virtual time; `python -m tools.capacity_truth` makes the table."""

from __future__ import annotations

import statistics

import pytest

from tools.capacity_truth import Searched, search
from tools.truth.virtual import QUEUE, SERVERS


@pytest.fixture(scope="module")
def done() -> list[Searched]:
    return [search(QUEUE, seed) for seed in range(8)]


def test_the_truth_of_the_queue_is_its_formula() -> None:
    assert 100 * QUEUE.capacity / QUEUE.places == pytest.approx(73.9, abs=0.1)


def test_answers_lie_around_the_truth_and_rarely_above_it(done: list[Searched]) -> None:
    ratios = [one.ratio for one in done]
    assert statistics.median(ratios) == pytest.approx(1, abs=0.05)
    assert sum(ratio > 1.05 for ratio in ratios) <= 1
    assert min(ratios) > 0.85


def test_each_is_confirmed_and_says_from_where_it_is_sure(done: list[Searched]) -> None:
    assert {one.found.end for one in done} == {"confirmed"}
    assert sum((one.found.sure or 0) > one.true for one in done) <= 1


def test_short_runs_are_less_sure() -> None:
    short = search(QUEUE, 3, budget_s=120.0)
    assert short.found.load is None or (short.found.sure or 0) < 0.9 * short.found.load


def test_the_engine_in_virtual_time_is_judged_as_a_run_is() -> None:
    server = SERVERS[1]
    assert server.late(20.0, 1000, seed=1) == 0
    assert server.late(60.0, 1000, seed=1) > 10
