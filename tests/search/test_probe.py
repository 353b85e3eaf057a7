"""What a run shows, and whether runs confirm a load."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.figures.objectives import Objective, Outcome
from vllm_bench.search.probe import confirmation, pooled
from vllm_bench.stats.share import Share

from tests.search.made import made_late, made_probe


@given(of=st.integers(0, 3000), late=st.integers(0, 3000), p=st.sampled_from([0.5, 0.95, 0.99, 1]))
def test_its_word_is_that_of_the_objective(of: int, late: int, p: float) -> None:
    late = min(of, late)
    share = Share((of,), (of - late,))
    low, high = share.late_bounds(0.95) if of else (0.0, 1.0)
    found = replace(made_late(0, 1), allowed=1 - p, late=late, of=of, low=low, high=high)
    assert found.word == Outcome(Objective("ttft_ms", p, 500.0), share).word


def test_the_search_goes_by_what_there_was_and_the_word_by_what_that_shows() -> None:
    assert made_probe(so_late=7).holds()
    assert made_probe(so_late=7).word() == "not shown"
    assert made_probe(so_late=0, of=300).holds()
    assert not made_probe(so_late=8).holds()
    assert made_probe(so_late=8).word() == "not shown"
    assert made_probe(so_late=60).word() == "missed"
    assert made_probe(so_late=0).word() == "met"


def test_a_queue_that_grew_is_missed_whatever_was_late() -> None:
    grown = made_probe(so_late=0, over="the queue grew")
    assert (grown.holds(), grown.word()) == (False, "missed")
    assert "the queue grew" in grown.why()


def test_a_run_that_was_ended_early_never_meets_whatever_its_part_looks_like() -> None:
    ended = "ended after 998 of 1000 requests: 8 late, and 7 may be"
    found = made_probe(so_late=0, of=600, stopped=ended)  # the late ones lie outside the window
    assert (found.holds(), found.word()) == (False, "not shown")
    assert ended in found.why()
    whole = [made_probe(so_late=0, of=1500, purpose="confirm") for _ in range(3)]
    assert confirmation([*whole, replace(whole[0], stopped=ended)], "", 3, 6) is False


def test_the_worst_objective_is_the_one_furthest_over_what_is_allowed() -> None:
    first, second = made_late(10, 700), made_late(40, 700, allowed=0.1, figure="TPOT p90")
    assert made_probe(late={"": (first, second)}).worst() is first


def test_words_name_the_figure_only_where_it_says_the_same() -> None:
    assert made_late(9, 700).words == "TTFT p99 600 ms of 500"
    hidden = made_late(9, 700, value_ms=450.0)  # the late ones failed, and have no time
    assert "1.29 %" in hidden.words
    assert "450" not in hidden.words


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(100, 2000)), min_size=1, max_size=6))
def test_pooled_is_the_sum(parts: list[tuple[int, int]]) -> None:
    (found,) = pooled([(made_late(late, of),) for late, of in parts])
    assert found.late == sum(late for late, _ in parts)
    assert found.of == sum(of for _, of in parts)
    assert found.low <= found.share <= found.high


def confirmed(*late: int, of: int = 1500, over: str | None = None) -> bool | None:
    return confirmation([made_probe(so_late=n, of=of, over=over) for n in late], "", 3, 6)


def test_three_clean_runs_confirm_and_two_dont() -> None:
    assert confirmed(3, 4, 2) is True
    assert confirmed(3, 4) is None


def test_a_run_that_clearly_misses_refutes_at_once() -> None:
    assert confirmed(60) is False
    assert confirmed(0, over="the queue grew") is False


def test_the_upper_bound_decides_and_not_the_share() -> None:
    assert confirmed(14, 15, 14) is None  # within, but not surely
    assert confirmed(14, 15, 14, 15, 14, 14) is False  # undecided after six
    assert confirmed(22, 23, 24) is False  # surely over


def test_where_none_may_be_late_one_refutes() -> None:
    def runs(*late: int) -> bool | None:
        made = [made_probe(late={"": (made_late(n, 500, allowed=0.0),)}) for n in late]
        return confirmation(made, "", 3, 6)

    assert runs(0, 0, 0) is True
    assert runs(0, 1) is False


@pytest.mark.parametrize("of", [100, 30])
def test_short_runs_confirm_what_they_can(of: int) -> None:
    assert confirmed(0, 0, 0, of=of) is (True if of == 100 else None)
