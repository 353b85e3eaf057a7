"""Pairs, Holm, and a prediction: against values worked out by hand, and against scipy."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.stats.paired import (
    Bar,
    holm,
    paired,
    pairs_needed,
    pairs_within,
    smallest_step,
    spread_at_most,
)
from vllm_bench.stats.prediction import prediction

FIGURE = st.floats(1e-6, 1e9)
PAIRS = st.lists(st.tuples(FIGURE, FIGURE), min_size=2, max_size=12)
PS = st.lists(st.floats(0, 1), max_size=12)


def test_four_pairs_by_hand() -> None:
    # d = ln 1.1, ln 1.2, ln 1.1, ln 1.2: mean 0.1388162, sd 0.0502355; t(3; 0.975) = 3.182446
    found = paired([100, 200, 300, 400], [110, 240, 330, 480])
    assert found.ratio == pytest.approx(math.sqrt(1.1 * 1.2))
    assert found.spread == pytest.approx(0.0502357, abs=1e-6)
    interval = found.interval()
    assert interval is not None
    half = 3.182446 * 0.0502357 / 2
    assert interval.low == pytest.approx(math.exp(0.1388159 - half), abs=1e-5)
    assert interval.high == pytest.approx(math.exp(0.1388159 + half), abs=1e-5)


def test_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(3)
    for n in (2, 3, 4, 8, 40):
        a = [rng.lognormvariate(0, 0.1) for _ in range(n)]
        b = [rng.lognormvariate(0.03, 0.1) for _ in range(n)]
        found, theirs = paired(a, b), stats.ttest_rel(*([math.log(x) for x in v] for v in (b, a)))
        assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
        low, high = theirs.confidence_interval(0.9)
        assert found.logs(0.9) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


def test_a_chi_squared_bound_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (2, 3, 7, 30):
        exact = math.sqrt(freedom / stats.chi2.ppf(0.2, freedom))
        assert spread_at_most(1.0, freedom, 0.8) == pytest.approx(exact, rel=0.02)


def test_one_pair_has_a_ratio_alone() -> None:
    found = paired([10], [11])
    assert found.ratio == pytest.approx(1.1)
    assert (found.interval(), found.p, found.spread) == (None, None, None)


def test_equal_pairs_are_no_difference_and_pairs_that_differ_alike_are_sure() -> None:
    equal, alike = paired([0.3, 0.7, 1.1], [0.3, 0.7, 1.1]), paired([1, 2, 4], [1.1, 2.2, 4.4])
    assert (equal.ratio, equal.spread, equal.p) == (1.0, 0.0, 1.0)
    assert (alike.spread, alike.p) == (0.0, 0.0)
    assert alike.interval() == paired([1, 2, 4], [1.1, 2.2, 4.4]).interval()


@pytest.mark.parametrize("a", [[], [0.0, 1.0], [-1.0, 1.0], [math.nan, 1.0], [math.inf, 1.0], [1]])
def test_figures_without_a_logarithm_are_refused(a: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        paired(a, [1.0, 1.0])


@given(PAIRS)
def test_everything_is_finite_and_sides_can_be_swapped(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one, other = paired(a, b), paired(b, a)
    interval = one.interval()
    assert interval is not None
    assert interval.low <= one.ratio <= interval.high
    assert all(map(math.isfinite, (one.ratio, interval.low, interval.high, one.p or 0.0)))
    assert one.mean == pytest.approx(-other.mean)
    assert one.p == pytest.approx(other.p)


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([], []),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm's own steps: 4, 3, 2, 1
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm(ps: list[float], adjusted: list[float]) -> None:
    assert holm(ps) == pytest.approx(adjusted)


@given(PS)
def test_holm_lies_between_p_and_bonferroni(ps: list[float]) -> None:
    for p, adjusted in zip(ps, holm(ps), strict=True):
        assert p <= adjusted <= min(1.0, len(ps) * p)
    by_p = [adjusted for _, adjusted in sorted(zip(ps, holm(ps), strict=True))]
    assert by_p == sorted(by_p)


@given(st.floats(0.001, 0.3), st.floats(0.02, 0.5), st.floats(0.0, 0.01))
def test_the_pairs_needed_show_the_step_and_fewer_do_not(
    spread: float, step: float, beyond: float
) -> None:
    bar = Bar(0.05 / 9, beyond)
    needed = pairs_needed(spread, step, bar)
    assert needed is not None
    assert smallest_step(spread, needed, bar) <= step + 1e-9
    assert needed == 2 or smallest_step(spread, needed - 1, bar) > step


def test_pairs_are_needed_without_end_where_the_step_is_no_larger_than_the_limit() -> None:
    assert pairs_needed(0.01, 0.05, Bar(0.05, math.log(1.06))) is None


def test_an_interval_of_so_much_takes_so_many_pairs() -> None:
    # t(7; 0.975) = 2.364624: eight pairs are within 2.364624 * 0.02 / sqrt(8) = 0.01672
    assert pairs_within(0.02, 0.0168, 0.95) == 8
    assert pairs_within(0.02, 0.0167, 0.95) == 9
    assert pairs_within(0.0, 0.01, 0.95) == 2
    assert pairs_within(1.0, 1e-6, 0.95) is None


def test_the_power_is_as_told() -> None:
    """Of 400 experiments with the smallest step, about nine of ten pass."""
    rng, bar = random.Random(5), Bar(0.05 / 9, math.log1p(0.01))
    step, passed = math.log1p(smallest_step(0.02, 12, bar)), 0
    for _ in range(400):
        found = paired([1.0] * 12, [math.exp(rng.gauss(step, 0.02)) for _ in range(12)])
        low, _ = found.logs(0.95) or (0.0, 0.0)
        passed += (found.p or 0.0) < bar.level and low > bar.beyond
    assert 0.87 <= passed / 400 <= 0.97


# ---- one more figure ----


def test_a_prediction_by_hand() -> None:
    # ln: 0, 0.1, 0.2: mean 0.1, sd 0.1; error 0.1 * sqrt(4 / 3); t(2; 0.95) = 2.919986
    found = prediction([math.exp(x) for x in (0, 0.1, 0.2)], math.exp(0.5))
    assert found.above == pytest.approx(0.4)
    assert found.error == pytest.approx(0.1154700)
    assert found.limit(0.05) == pytest.approx(2.919986 * 0.1154700, abs=1e-6)


def test_its_p_says_the_same_as_its_limit() -> None:
    for above in (-0.3, 0.0, 0.2, 0.5):
        found = prediction([1.0, 1.1, 1.3, 0.9], math.exp(above))
        for level in (0.01, 0.05, 0.3):
            assert (found.p < level) == (found.above > found.limit(level))


def test_nights_without_spread() -> None:
    assert prediction([2.0, 2.0, 2.0], 2.0).p == 1.0
    assert prediction([2.0, 2.0, 2.0], 2.1).p == 0.0
    assert prediction([2.0, 2.0, 2.0], 1.9).p == 1.0


@pytest.mark.parametrize(("older", "new"), [([1.0], 1.0), ([1.0, 0.0], 1.0), ([1.0, 2.0], 0.0)])
def test_a_prediction_that_cannot_be(older: list[float], new: float) -> None:
    with pytest.raises(ValueError, match="older"):
        prediction(older, new)
