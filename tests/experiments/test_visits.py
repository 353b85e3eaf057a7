"""Turns of two servers: their order, their seeds, what is left, and how long that takes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.experiments.visits import (
    FEWEST_THROWN,
    Estimate,
    Side,
    duration,
    left,
    of_pair,
    pair_seed,
    sending,
    thrown_away,
    time_left,
    visits,
)
from vllm_bench.scenario.load import levels_of
from vllm_bench.scenario.scenario import Scenario

SETTINGS = {"name": "one", "model": "m", "max_new_tokens": 8, "concurrencies": [2], "seed": 7}
COUNTS = st.integers(1, 60).map(lambda pairs: 2 * pairs)


def scenario(**changes: object) -> Scenario:
    return Scenario.model_validate({**SETTINGS, "num_requests": 40, **changes})


def test_eight_visits_are_a_b_b_a_twice() -> None:
    assert [visit.side for visit in visits(8)] == list("abbaabba")
    assert [visit.pair for visit in visits(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [visit.number for visit in visits(8)] == list(range(1, 9))


@given(COUNTS)
def test_each_pair_has_one_visit_of_each_side_and_neither_is_always_first(count: int) -> None:
    made = visits(count)
    of_pairs = {pair: [v.side for v in made if v.pair == pair] for pair in range(1, count // 2 + 1)}
    assert all(sorted(both) == ["a", "b"] for both in of_pairs.values())
    first = Counter(both[0] for both in of_pairs.values())
    assert abs(first["a"] - first["b"]) <= 1


@given(COUNTS, COUNTS)
def test_more_visits_begin_with_those_of_fewer(fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    assert visits(more)[:fewer] == visits(fewer)


@given(COUNTS)
def test_a_trend_that_is_even_touches_both_sides_alike(count: int) -> None:
    count += count % 4  # whole turns A B B A
    places = {side: sum(v.number for v in visits(count) if v.side == side) for side in "ab"}
    assert places["a"] == places["b"]


@given(COUNTS, st.sets(st.integers(1, 130)))
def test_what_is_left_and_what_is_whole_are_all(count: int, whole: set[int]) -> None:
    to_come = left(count, whole)
    assert {v.number for v in to_come} == set(range(1, count + 1)) - whole
    assert [v.number for v in to_come] == sorted(v.number for v in to_come)


@given(
    st.integers(0, 2**63 - 1), st.lists(st.integers(1, 500), min_size=2, max_size=9, unique=True)
)
def test_pairs_and_looks_have_seeds_of_their_own(seed: int, pairs: list[int]) -> None:
    found = [pair_seed(seed, turn, pair) for turn in (1, 2) for pair in pairs]
    assert len(set(found)) == len(found)
    assert all(0 <= one < 2**63 for one in found)
    assert found == [pair_seed(seed, turn, pair) for turn in (1, 2) for pair in pairs]


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert pair_seed(0, 1, 1) == 6281567193744673057  # by SHA-256


def test_both_visits_of_a_pair_ask_the_same_but_for_their_label() -> None:
    ours, theirs = (of_pair(scenario(), label, pair_seed(7, 1, 1)) for label in ("one", "other"))
    assert ours.model_copy(update={"label": "other"}) == theirs
    assert ours.seed != scenario().seed


LOADS = [
    {"concurrencies": [1, 64, 8]},
    {"concurrencies": [3], "duration_s": 60, "num_requests": None},
    {"concurrencies": [4], "conversations": {"turns": 3}},
    {"concurrencies": [], "request_rates": [0.5, 20], "ramp_s": 30},
    {"concurrencies": [], "request_rates": [2], "num_requests": None, "duration_s": 600},
    {"concurrencies": [], "request_rates": [2], "arrival": "bursts", "burst_size": 4},
    {"concurrencies": [], "trace": "t.csv", "speed": [1, 2], "num_requests": None},
]


@pytest.mark.parametrize("load", LOADS)
def test_what_is_thrown_away_is_a_short_scenario_of_one_level(load: dict[str, object]) -> None:
    whole = scenario(**load)
    short = thrown_away(whole)
    (level,) = levels_of(short)
    assert level in levels_of(whole)
    # Copies aren't checked, so what the file's own checks say of it is asked here.
    assert Scenario.model_validate(short.model_dump()) == short
    assert short.seed != whole.seed
    assert (short.repeats, short.slo, short.telemetry) == (1, None, False)
    if level.concurrency is not None:
        assert short.num_requests is not None
        assert short.num_requests >= max(FEWEST_THROWN, 2 * level.concurrency)


def test_of_several_levels_the_highest_is_thrown_away() -> None:
    (level,) = levels_of(thrown_away(scenario(concurrencies=[1, 64, 8])))
    assert level.concurrency == 64


@pytest.mark.parametrize(
    ("load", "seconds", "at_least"),
    [
        ({"concurrencies": [1, 8], "duration_s": 60, "num_requests": None}, 120, False),
        ({"concurrencies": [1, 8], "duration_s": 60, "repeats": 3}, 360, True),
        ({"concurrencies": [1, 8]}, 0, True),
        ({"concurrencies": [], "request_rates": [2, 4]}, 30, False),
        (
            {"concurrencies": [], "request_rates": [2], "num_requests": None, "duration_s": 50},
            50,
            False,
        ),
        ({"concurrencies": [], "trace": "t.csv", "speed": [1], "num_requests": None}, 0, True),
    ],
)
def test_how_long_a_scenario_sends(load: dict[str, object], seconds: float, at_least: bool) -> None:
    assert sending(scenario(**load)) == Estimate(seconds, at_least)


def test_before_any_visit_settings_and_a_start_are_all_that_is_known() -> None:
    runs = Estimate(240.0, at_least=False)
    found = time_left(visits(8), {"a": [], "b": []}, runs, 60.0)
    assert found == Estimate(8 * 300.0, at_least=False)
    unknown = time_left(visits(8), {"a": [], "b": []}, runs, None)
    assert unknown == Estimate(8 * 240.0, at_least=True)


@given(
    COUNTS,
    st.lists(st.floats(1, 1e4), max_size=4),
    st.lists(st.floats(1, 1e4), min_size=1, max_size=4),
)
def test_the_time_left_is_what_visits_took(count: int, a: list[float], b: list[float]) -> None:
    seen: dict[Side, list[float]] = {"a": a, "b": b}
    found = time_left(visits(count), seen, Estimate(1.0, at_least=True), 1.0)
    assert not found.at_least
    low, high = min(*a, *b) if a else min(b), max([*a, *b])
    assert count * low * 0.999 <= found.seconds <= count * high * 1.001
    assert time_left((), seen, Estimate(1.0, at_least=True), 1.0).seconds == 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (7500, "2 h 5 min")]
)
def test_a_duration_is_told_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words
