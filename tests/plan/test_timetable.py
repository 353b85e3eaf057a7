"""Levels and timetables: which runs a scenario has, and when their requests go."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.timetable import (
    FEWEST_SPARES,
    MOST_SPARES,
    MOST_TAIL,
    SPARE_S,
    TAIL_S,
    Timetable,
    spare_connections,
    timetable_of,
)
from vllm_bench.plan.trace import Trace, TraceRequest
from vllm_bench.scenario.load import LoadLevel, levels_of, rows_expected

from tests.plan.test_request import scenario


def open_scenario(**changes: Any):
    return scenario(**{"concurrencies": [], "request_rates": [5.0], "num_requests": 40, **changes})


def table(repeat: int = 1, **changes: Any) -> Timetable:
    made = open_scenario(**changes)
    return timetable_of(made, levels_of(made)[0], repeat)


def trace(*at_s: float) -> Trace:
    return Trace("azure", tuple(TraceRequest(at, 10, 5) for at in at_s))


@pytest.mark.parametrize(
    ("settings", "labels", "words"),
    [
        ({"concurrencies": [1, 8]}, ["cc1", "cc8"], ["1 stream", "8 streams"]),
        (
            {"concurrencies": [], "request_rates": [0.5, 20]},
            ["rate0.5", "rate20"],
            ["0.5 requests/s", "20 requests/s"],
        ),
        (
            {"concurrencies": [], "trace": "a.csv", "speed": [1, 2.5]},
            ["trace-x1", "trace-x2.5"],
            ["the trace at 1 times its speed", "the trace at 2.5 times its speed"],
        ),
    ],
)
def test_a_scenario_has_the_levels_of_its_file(
    settings: dict[str, Any], labels: list[str], words: list[str]
) -> None:
    found = levels_of(scenario(**settings))
    assert [level.label for level in found] == labels
    assert [level.words for level in found] == words


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"concurrencies": [1, 2], "num_requests": 5, "repeats": 3}, 30),
        ({"concurrencies": [], "request_rates": [2, 4], "num_requests": 7}, 14),
        (
            {
                "concurrencies": [],
                "request_rates": [2, 4],
                "num_requests": None,
                "duration_s": 10,
            },
            60,
        ),
    ],
)
def test_rows_are_foreseen(settings: dict[str, Any], rows: int) -> None:
    assert rows_expected(scenario(**settings)) == rows


def test_a_closed_loop_has_no_times() -> None:
    made = scenario(num_requests=9)
    found = timetable_of(made, LoadLevel(1), 1)
    assert (found.measured, list(found.times_s), found.open_loop) == (9, [], False)
    assert found.facts == {"shape": "closed"}


@pytest.mark.parametrize(
    "shape",
    [
        {"arrival": "constant"},
        {"arrival": "poisson"},
        {"arrival": "gamma", "cv": 2.0},
        {"arrival": "bursts", "burst_size": 4},
        {"arrival": "poisson", "ramp_s": 3.0},
    ],
    ids=str,
)
def test_the_tail_goes_on_where_the_measured_end_and_changes_none_of_them(
    shape: dict[str, Any],
) -> None:
    short, long = table(num_requests=40, **shape), table(num_requests=80, **shape)
    assert list(short.times_s) == sorted(short.times_s)
    assert list(short.measured_s) == list(long.measured_s[:40])
    assert len(short.times_s) == 40 + 5 * TAIL_S + 1
    assert list(short.times_s[40:80]) == list(long.measured_s[40:])


def test_a_duration_measures_what_falls_into_it() -> None:
    found = table(num_requests=None, duration_s=8.0, arrival="constant")
    assert found.measured == 40
    assert found.measured_s[-1] < 8.0 <= found.times_s[found.measured]


def test_each_repeat_has_a_schedule_of_its_own() -> None:
    first, again, second = table(), table(), table(repeat=2)
    assert first == again
    assert list(first.times_s) != list(second.times_s)


def test_the_facts_say_what_was_drawn_and_how_it_came_out() -> None:
    found = table(arrival="gamma", cv=2.0, max_in_flight=7, num_requests=500)
    assert found.facts["shape"] == "gamma"
    assert (found.facts["cv"], found.facts["max_in_flight"]) == (2.0, 7)
    assert found.facts["span_s"] == found.measured_s[-1]
    assert found.facts["realised_rate"] == pytest.approx(found.rate)
    assert found.facts["realised_cv"] == pytest.approx(2.0, rel=0.3)
    assert "burst_size" not in found.facts


def test_a_trace_is_replayed_and_its_tail_is_the_trace_again() -> None:
    made = scenario(concurrencies=[], trace="a.csv", num_requests=None)
    found = timetable_of(made, LoadLevel(speed=1.0), 1, trace(0.0, 1.0, 4.0))
    assert list(found.measured_s) == [0.0, 1.0, 4.0]
    assert list(found.times_s[3:]) == [6.0, 7.0, 10.0]  # a mean gap of 2 s between them
    assert found.rate == pytest.approx(0.5)


def test_a_long_traces_tail_ends() -> None:
    made = scenario(concurrencies=[], trace="a.csv", num_requests=None)
    found = timetable_of(made, LoadLevel(speed=1.0), 1, trace(*range(1000)))
    assert len(found.times_s) == 1000 + TAIL_S + 1


def test_a_trace_of_one_instant_has_a_rate_too() -> None:
    made = scenario(concurrencies=[], trace="a.csv", num_requests=None)
    found = timetable_of(made, LoadLevel(speed=1.0), 1, trace(0.0, 0.0, 0.0))
    assert found.rate == 3.0
    assert list(found.times_s) == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


@given(st.lists(st.floats(0, 100), max_size=200).map(sorted))
def test_connections_are_ready_for_the_fullest_half_second(times_s: list[float]) -> None:
    naive = max((sum(t - SPARE_S <= u <= t for u in times_s) for t in times_s), default=0)
    found = spare_connections(array("d", times_s))
    assert FEWEST_SPARES <= found <= MOST_SPARES
    # Of arrivals at one instant the last one sees them all.
    assert found >= min(naive, MOST_SPARES)
    assert found == max(FEWEST_SPARES, min(naive, MOST_SPARES))


def test_the_tail_of_a_very_high_rate_is_bounded_by_its_number() -> None:
    found = table(request_rates=[1e6], num_requests=10, arrival="constant")
    assert len(found.times_s) == 10 + MOST_TAIL
