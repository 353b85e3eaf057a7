"""The course of a search: which load comes next, and when it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.search.found import answer, answers
from vllm_bench.search.probe import Probe
from vllm_bench.search.steps import Space, Step, next_step, stuck

from tests.search.made import knee, made_probe, searched

WIDE = Space(low=1, high=1000)


def test_doubling_then_closing_in_then_confirming() -> None:
    made = [(p.purpose, p.load) for p in searched(WIDE, knee(5.0))]
    assert made[:4] == [("find", 1), ("find", 2), ("find", 4), ("find", 8)]
    assert {purpose for purpose, _ in made[4:-3]} == {"close"}
    assert made[-3:] == [("confirm", made[-1][1])] * 3


@given(st.floats(1.0, 999.0))
def test_the_answer_is_the_last_load_that_met_within_three_percent(capacity: float) -> None:
    found = answer(WIDE, "", searched(WIDE, knee(capacity)))
    assert found.load is not None
    assert capacity / 1.0301 <= found.load <= capacity
    assert found.confirmed == 3
    assert found.beyond is not None
    assert capacity < found.beyond.load <= found.load * 1.0301


@given(st.integers(1, 29), st.integers(1, 29))
def test_whole_numbers_are_closed_to_neighbours(capacity: int, low: int) -> None:
    space = Space(low=low, high=30, whole=True)
    found = answer(space, "", searched(space, knee(capacity)))
    assert found.load == (capacity if capacity >= low else None)
    assert found.beyond is not None
    assert found.beyond.load == max(capacity + 1, low)


@given(st.integers(30, 4000))
def test_of_many_streams_three_percent_are_enough(capacity: int) -> None:
    space = Space(low=1, high=4096, whole=True)
    probes = searched(space, knee(capacity))
    load = answer(space, "", probes).load
    assert load is not None
    assert load == round(load)
    assert capacity / 1.0301 - 1 <= load <= capacity
    assert len({p.load for p in probes}) < 25


def test_where_even_the_lowest_load_misses_there_is_no_more_to_try() -> None:
    probes = searched(WIDE, knee(0.5))
    assert [p.load for p in probes] == [1]
    assert (answer(WIDE, "", probes).load, answer(WIDE, "", probes).end) == (None, "below low")


def test_it_never_passes_the_highest_load() -> None:
    space = Space(low=3, high=40)
    probes = searched(space, knee(1e6))
    assert [p.load for p in probes] == [3, 6, 12, 24, 40, 40, 40, 40]
    assert answer(space, "", probes).end == "up to high"


def test_an_answer_that_isnt_confirmed_is_tried_three_percent_lower() -> None:
    # Single runs are clean up to 8, those that confirm only up to 7.5: the queue takes its time.
    probes: list[Probe] = []
    while (step := next_step(WIDE, probes)) is not None:
        clean = step.load <= (7.5 if step.purpose == "confirm" else 8)
        probes.append(replace(made_probe(step.load, 0 if clean else 40), purpose=step.purpose))
    confirmed = list(dict.fromkeys(p.load for p in probes if p.purpose == "confirm"))
    assert confirmed[:3] == [8, 7.76, 7.527]
    assert [answer(WIDE, "", probes).load] == confirmed[3:]
    assert 7.3 <= confirmed[3] <= 7.5


def test_a_refuted_answer_far_above_the_next_is_closed_in_on_first() -> None:
    space = Space(low=10, high=40)
    probes: list[Probe] = []
    while (step := next_step(space, probes)) is not None:
        clean = step.load <= (14 if step.purpose == "confirm" else 1e9)
        probes.append(replace(made_probe(step.load, 0 if clean else 40), purpose=step.purpose))
    assert answer(space, "", probes).load == pytest.approx(14, rel=0.04)
    assert len(probes) < 60


def test_a_short_run_that_fails_unclearly_is_made_again_in_full() -> None:
    short = replace(made_probe(4, 4, 280), purpose="find")
    assert next_step(WIDE, [made_probe(2), short]) == Step("close", 4)
    again = made_probe(4, 2, 700)
    assert next_step(WIDE, [made_probe(2), short, again]) == Step("find", 8)


def test_a_run_that_cant_be_believed_answers_nothing_and_two_end_the_search() -> None:
    spoilt = made_probe(2, spoilt="INVALID (send_lag)")
    assert next_step(WIDE, [made_probe(1), spoilt]) == Step("find", 2)
    assert next_step(WIDE, [made_probe(1), spoilt, spoilt]) is None
    assert stuck([spoilt, spoilt]) is not None
    assert stuck([spoilt, made_probe(2), spoilt]) is None
    assert answer(WIDE, "", [made_probe(1), spoilt, spoilt]).load == 1


@given(st.floats(1.0, 999.0), st.integers(0, 40))
def test_a_search_that_is_gone_on_with_is_the_same_search(capacity: float, made: int) -> None:
    whole = searched(WIDE, knee(capacity))
    assert searched(WIDE, knee(capacity), after=whole[:made]) == whole


@given(st.floats(1.0, 900.0), st.floats(1.0, 900.0), st.floats(0.1, 2000.0))
def test_tiers_have_an_answer_each_and_share_their_runs(
    strict: float, middle: float, loose: float
) -> None:
    space = Space(low=1, high=1000, tiers=("strict", "middle", "loose"))
    at = {"strict": strict, "middle": middle, "loose": loose}
    probes = searched(
        space, lambda load: {tier: 0.05 if load > most else 0.0 for tier, most in at.items()}
    )
    for found in answers(space, probes):
        true = min(at[found.tier], 1000)
        if true < 1:
            assert found.end == "below low"
        else:
            assert found.load is not None
            assert true / 1.0301 <= found.load <= true
    alone = sum(len(searched(WIDE, knee(most))) for most in at.values())
    assert len(probes) <= alone


def test_only_its_own_runs_confirm_a_tiers_answer() -> None:
    space = Space(low=1, high=1000, tiers=("a", "b"))
    probes = searched(space, lambda load: dict.fromkeys(space.tiers, 0.0 if load <= 5 else 0.05))
    own = [p.tier for p in probes if p.purpose == "confirm"]
    assert own == ["a"] * 3 + ["b"] * 3


def test_in_a_hurry_the_lower_end_is_confirmed_and_the_bracket_is_told() -> None:
    probes = searched(WIDE, knee(11.0), hurry=lambda number: number >= 5)
    found = answer(WIDE, "", probes)
    assert (found.load, found.confirmed, found.end) == (8, 3, "unfinished")
    assert found.beyond is not None
    assert found.beyond.load == 16


def test_the_answer_is_surer_the_more_requests_confirmed_it() -> None:
    whole = searched(WIDE, knee(5.0))
    full = answer(WIDE, "", whole)
    few = answer(WIDE, "", [replace(p, counted=100) for p in whole])
    assert full.sure is not None
    assert few.sure is not None
    assert full.load is not None
    assert few.sure < full.sure < full.load
