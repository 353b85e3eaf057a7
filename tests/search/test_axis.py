"""What a search varies, between which loads, and what is refused in a line."""

from __future__ import annotations

from typing import Any

import pytest
from vllm_bench.errors import UsageError
from vllm_bench.scenario.scenario import Scenario
from vllm_bench.search.axis import Of, axis_of, objectives, scenario_at, space_of
from vllm_bench.search.sizes import Size

SLO = {"ttft_ms": {"p99": 500}}
OPEN = {"request_rates": [4], "num_requests": 100}
CLOSED = {"concurrencies": [2, 8, 64], "num_requests": 100}
TALK = {**CLOSED, "conversations": {"turns": 3}}


def scenario(**settings: Any) -> Scenario:
    usual = {"name": "one", "model": "m", "max_new_tokens": 8, "slo": SLO}
    return Scenario.model_validate({**usual, **settings})


def test_the_range_is_what_the_scenarios_levels_span() -> None:
    def span(of: Of, **settings: Any) -> tuple[float, float]:
        found = space_of(scenario(**settings), of, None, None)
        return found.low, found.high

    assert span("concurrency", **CLOSED) == (2, 64)
    assert span("rate", **OPEN) == (0.5, 32)
    assert span("rate", **CLOSED) == (1, 1024)
    assert span("concurrency", concurrencies=[4], num_requests=9) == (1, 32)


def test_what_is_given_wins() -> None:
    found = space_of(scenario(**OPEN), "rate", 2.5, 10.0)
    assert (found.low, found.high, found.whole) == (2.5, 10.0, False)
    assert space_of(scenario(**OPEN), "rate", 100.0, None).high == 200
    assert space_of(scenario(**CLOSED), "concurrency", 2.6, 9.4).low == 3


@pytest.mark.parametrize(("low", "high"), [(9.0, 3.0), (4.0, 4.0), (64.0, None)])
def test_a_range_that_is_none_is_refused(low: float, high: float | None) -> None:
    if high is None:
        assert space_of(scenario(**CLOSED), "concurrency", low, high).high == 128
        return
    with pytest.raises(UsageError):
        space_of(scenario(**OPEN), "rate", low, high)


def test_without_objectives_there_is_nothing_to_search() -> None:
    with pytest.raises(UsageError, match="--slo"):
        space_of(scenario(**OPEN, slo=None), "rate", None, None)


def test_each_tier_is_searched_and_the_slo_beside_them() -> None:
    tiers = {"fast": {"ttft_ms": {"p95": 100}}, "batch": {"success_rate": 0.99}}
    assert list(objectives(scenario(**OPEN, slo_tiers=tiers))) == ["", "fast", "batch"]
    alone = scenario(**OPEN, slo=None, slo_tiers=tiers)
    assert space_of(alone, "rate", None, None).tiers == ("fast", "batch")


def test_what_is_varied_follows_from_the_scenario() -> None:
    assert axis_of(scenario(**OPEN), None) == "rate"
    assert axis_of(scenario(**CLOSED), None) == "rate"
    assert axis_of(scenario(**TALK), None) == "sessions"


@pytest.mark.parametrize(
    ("settings", "of"),
    [(TALK, "rate"), (TALK, "concurrency"), (OPEN, "sessions"), ({"trace": "t.csv"}, None)],
)
def test_what_a_scenario_has_not_cant_be_varied(settings: dict[str, Any], of: Of | None) -> None:
    with pytest.raises(UsageError):
        axis_of(scenario(**settings), of)


@pytest.mark.parametrize("given", [OPEN, CLOSED, {**OPEN, "arrival": "gamma", "cv": 2.0}])
def test_a_run_has_one_level_and_its_own_seed(given: dict[str, Any]) -> None:
    one = scenario_at(scenario(**given, repeats=5), "rate", 7.5, Size(1000, 300), 11)
    assert (one.request_rates, one.concurrencies) == ([7.5], [])
    assert (one.num_requests, one.duration_s, one.repeats, one.seed) == (1000, None, 1, 11)
    assert one.arrival == given.get("arrival", "poisson")
    assert one.slo == scenario(**given).slo


@pytest.mark.parametrize("given", [OPEN, CLOSED, {**OPEN, "ramp_s": 3.0, "max_in_flight": 9}])
def test_a_run_of_streams_is_a_closed_loop(given: dict[str, Any]) -> None:
    one = scenario_at(scenario(**given), "concurrency", 12.0, Size(400, 120), 1)
    assert (one.request_rates, one.concurrencies, one.start) == ([], [12], "staggered")


def test_sessions_are_streams_of_conversations() -> None:
    one = scenario_at(scenario(**TALK), "sessions", 5.0, Size(400, 120), 1)
    assert one.concurrencies == [5]
    assert one.conversations is not None
