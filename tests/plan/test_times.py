"""Levels and times: which runs a scenario has, and when their requests go."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.plan.plan import Plan
from vllm_bench.plan.times import (
    FEWEST_SPARES,
    MOST_SPARES,
    MOST_TAIL,
    SPARE_S,
    TAIL_S,
    drawn_times,
    replay_notes,
    schedule_facts,
    spare_connections,
    trace_times,
)
from vllm_bench.scenario.load import levels_of, rows_expected
from vllm_bench.traces.rows import TraceKind
from vllm_bench.traces.trace import Trace, TraceRequest

from tests.plan.test_request import scenario
from tests.support.made_plans import made_part, plan_of


def open_scenario(**changes: Any):
    return scenario(**{"concurrencies": [], "request_rates": [5.0], "num_requests": 40, **changes})


def times(repeat: int = 1, **changes: Any) -> tuple[int, array[float]]:
    made = open_scenario(**changes)
    return drawn_times(made, made.request_rates[0], repeat)


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
        ({"concurrencies": [1, 30], "num_requests": 50, "duration_s": 10}, 350),
    ],
)
def test_rows_are_foreseen(settings: dict[str, Any], rows: int) -> None:
    assert rows_expected(scenario(**settings)) == rows


def test_a_closed_loop_has_no_times() -> None:
    found = made_part(9, num_requests=9)
    assert (found.measured, list(found.times_s), found.open_loop) == (9, [], False)
    assert plan_facts(plan_of(found)) == {
        "shape": "closed",
        "start": "staggered",
        "sha256": found.sha256,
    }
    assert found.request_rate is None


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
    (measured, short), (_, long) = times(num_requests=40, **shape), times(num_requests=80, **shape)
    assert list(short) == sorted(short)
    assert len(short) == 40 + 5 * TAIL_S + 1
    assert list(short[:80]) == list(long[:80])
    assert measured == 40


def test_a_duration_measures_what_falls_into_it() -> None:
    measured, times_s = times(num_requests=None, duration_s=8.0, arrival="constant")
    assert measured == 40
    assert times_s[measured - 1] < 8.0 <= times_s[measured]


def test_each_repeat_has_a_schedule_of_its_own() -> None:
    assert times() == times()
    assert times()[1] != times(repeat=2)[1]


def test_the_facts_say_what_was_drawn_and_how_it_came_out() -> None:
    settings = {"arrival": "gamma", "cv": 2.0, "max_in_flight": 7, "num_requests": 500}
    measured, times_s = times(**settings)
    made = open_scenario(**settings)
    facts = schedule_facts(made, levels_of(made)[0], times_s[:measured])
    assert (facts["shape"], facts["cv"], facts["max_in_flight"]) == ("gamma", 2.0, 7)
    assert facts["span_s"] == times_s[measured - 1]
    assert facts["realised_rate"] == pytest.approx(5.0, rel=0.3)
    assert facts["realised_cv"] == pytest.approx(2.0, rel=0.3)
    assert not {"burst_size", "trace", "speed", "duration_s"} & set(facts)


def replayed(*at_s: float) -> Plan:
    trace = Trace("azure", tuple(TraceRequest(at, 10, 5) for at in at_s))
    settings = {"concurrencies": [], "trace": "a.csv", "num_requests": None}
    return plan_of(made_part(len(at_s), times_s=trace_times(trace), **settings))


def test_a_trace_is_replayed_and_its_tail_is_the_trace_again() -> None:
    found = replayed(0.0, 1.0, 4.0)
    assert list(found.measured_s) == [0.0, 1.0, 4.0]
    assert list(found.drawn[0].times_s[3:]) == [6.0, 7.0, 10.0]  # a mean gap of 2 s between them
    assert found.request_rate == pytest.approx(0.5)
    facts = plan_facts(found)
    assert (facts["shape"], facts["trace"], facts["speed"]) == (
        "trace",
        "a.csv",
        1.0,
    )


def test_a_long_traces_tail_ends() -> None:
    assert len(replayed(*range(1000)).drawn[0].times_s) == 1000 + TAIL_S + 1


def test_a_trace_of_one_instant_has_a_rate_too() -> None:
    found = replayed(0.0, 0.0, 0.0)
    assert found.request_rate == 3.0
    assert list(found.drawn[0].times_s) == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def notes(kind: TraceKind, gap_s: float, count: int = 61, speed: float = 1.0) -> tuple[str, ...]:
    requests = tuple(TraceRequest(n * gap_s, 10, 5) for n in range(count))
    return replay_notes(Trace(kind, requests), speed)


@pytest.mark.parametrize(
    ("gap_s", "words"),
    [
        (0.5, {"30", "s:", "2", "requests/s", "busiest"}),
        (10, {"10", "min:", "0.1", "1"}),
        (200, {"3.33", "hours:", "0.005"}),
    ],
)
def test_a_replay_says_how_long_it_lasts_and_at_which_rates(gap_s: float, words: set[str]) -> None:
    assert words <= set(notes("azure", gap_s)[0].replace(",", " ").split())


@pytest.mark.parametrize(
    ("kind", "gap_s", "speed", "remedy"),
    [
        ("mooncake", 0.3, 1.0, None),
        ("mooncake", 0.3 / 1000, 1.0, "speed: 0.001 "),  # seconds, read as milliseconds
        ("mooncake", 0.3 / 1000, 4.0, "speed: 0.004 "),
        ("burstgpt", 0.3 * 1000, 1.0, "speed: 1000 "),  # milliseconds, read as seconds
        ("azure", 0.0, 1.0, "speed: 0.001 "),  # all at one instant
        ("run", 0.3 / 1000, 1.0, None),
        ("run", 0.3 * 1000, 1.0, None),
    ],
)
def test_an_absurd_rate_of_a_replay_is_doubted_with_what_to_do(
    kind: TraceKind, gap_s: float, speed: float, remedy: str | None
) -> None:
    doubts = notes(kind, gap_s, 400, speed)[1:]
    assert len(doubts) == (remedy is not None)
    assert all(doubt.startswith("trace_rate: ") and remedy in doubt for doubt in doubts if remedy)
    assert not notes(kind, gap_s, 3)[1:]  # a few may come at any rate


@given(st.lists(st.floats(0, 100), max_size=200).map(sorted))
def test_connections_are_ready_for_the_fullest_half_second(times_s: list[float]) -> None:
    naive = max((sum(t - SPARE_S <= u <= t for u in times_s) for t in times_s), default=0)
    found = spare_connections(array("d", times_s))
    assert FEWEST_SPARES <= found <= MOST_SPARES
    # Of arrivals at one instant the last one sees them all.
    assert found >= min(naive, MOST_SPARES)
    assert found == max(FEWEST_SPARES, min(naive, MOST_SPARES))


def test_the_tail_of_a_very_high_rate_is_bounded_by_its_number() -> None:
    _, times_s = times(request_rates=[1e6], num_requests=10, arrival="constant")
    assert len(times_s) == 10 + MOST_TAIL
