"""When a verdict is right: the rule, and the error that it is about."""

from __future__ import annotations

import math

import pytest
from vllm_bench.planted.rule import Off, furthest_off, is_right


@pytest.mark.parametrize(
    ("share", "valid", "suspect", "invalid"),
    [
        (0.0, True, True, False),
        (0.019, True, True, False),
        (-0.019, True, True, False),
        (0.02, True, True, True),
        (0.05, True, True, True),
        (-0.10, True, True, True),
        (0.101, False, True, True),
        (-0.5, False, True, True),
        (math.inf, False, True, True),
        (-math.inf, False, True, True),
    ],
)
def test_far_off_is_not_valid_and_exact_is_not_invalid(
    share: float, valid: bool, suspect: bool, invalid: bool
) -> None:
    off = Off("TTFT p50", share)
    words = {"VALID": valid, "SUSPECT": suspect, "INVALID": invalid}
    assert {word: is_right(off, word) for word in words} == words


def test_without_any_figure_nothing_was_off() -> None:
    assert is_right(None, "VALID")
    assert not is_right(None, "INVALID")


@pytest.mark.parametrize(
    ("shown", "true", "off"),
    [
        ({"TTFT p50": 110.0, "TPOT p50": 9.0}, {"TTFT p50": 100.0, "TPOT p50": 10.0}, 0.1),
        ({"TTFT p50": 100.0, "TPOT p50": 8.0}, {"TTFT p50": 100.0, "TPOT p50": 10.0}, -0.2),
        ({"TTFT p50": None}, {"TTFT p50": 100.0}, math.inf),  # a median has to be shown
        ({"TTFT p50": 50.0}, {"TTFT p50": math.inf}, -math.inf),  # half of the users wait for ever
        ({"TPOT p50": 1.0}, {"TPOT p50": 0.0}, math.inf),
        ({"TPOT p50": 0.0}, {"TPOT p50": 0.0}, 0.0),
    ],
)
def test_the_error_is_that_of_the_figure_that_is_off_by_most(
    shown: dict[str, float | None], true: dict[str, float | None], off: float
) -> None:
    found = furthest_off(shown, true)
    assert found is not None
    assert found.share == pytest.approx(off)


def test_a_p95_of_too_few_and_a_figure_without_truth_are_left_out() -> None:
    assert furthest_off({"TTFT p95": None}, {"TTFT p95": 100.0}) is None
    assert furthest_off({"TTFT p50": 1.0}, {"TTFT p50": None}) is None
    assert furthest_off({"TTFT p50": 1.0}, {}) is None
