"""Distributions and intervals against numpy and brute force; percentiles only where n allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from vllm_bench.figures.statistics import (
    PERCENTILES,
    Interval,
    describe,
    highest_allowed,
    min_samples,
    order_ranks,
    quantile,
    repeated,
    wilson,
)

# docs/METHOD.md prints these.
MINIMUMS = [(50, 6), (90, 36), (95, 72), (99, 368), (99.9, 3688)]

times_ms = st.floats(min_value=0.001, max_value=1e7)


def values(min_size: int = 1, max_size: int = 500):
    return st.integers(min_size, max_size).flatmap(lambda n: arrays(float, n, elements=times_ms))


@pytest.mark.parametrize(("percentile", "needed"), MINIMUMS)
def test_each_percentile_needs_the_samples_that_the_method_prints(percentile, needed):
    assert min_samples(percentile) == needed


@given(st.floats(min_value=0.5, max_value=99.9))
def test_the_minimum_is_the_first_n_whose_widest_interval_covers_95_percent(percentile):
    p, n = percentile / 100, min_samples(percentile)

    def tail(size):
        return max(p, 1 - p) ** size

    assert tail(n) <= 0.025 < tail(n - 1)
    assert 1 - p**n - (1 - p) ** n >= 0.95


@pytest.mark.parametrize("percentile", [0, 100, -1, 101])
def test_a_percentile_outside_0_to_100_is_refused(percentile):
    with pytest.raises(ValueError, match="between 0 and 100"):
        min_samples(percentile)


def test_a_percentile_appears_with_its_last_missing_sample():
    for percentile, needed in MINIMUMS:
        without, with_it = describe(np.arange(needed - 1.0)), describe(np.arange(float(needed)))
        assert without is not None
        assert without.percentile(percentile) is None
        assert with_it is not None
        assert with_it.percentile(percentile) is not None


def test_nothing_has_no_distribution():
    assert describe(np.array([])) is None
    assert quantile(np.array([]), 50) is None


def test_percentiles_interpolate_linearly_as_a_person_would_by_hand():
    found = describe(np.arange(1.0, 101.0))
    assert found is not None
    # Place (n - 1) p = 99 * 0.95 = 94.05 from 0, so 95 + 0.05 of the way to 96.
    assert found.percentile(95) == pytest.approx(95.05)
    assert found.percentile(50) == 50.5
    assert (found.n, found.mean, found.min, found.max) == (100, 50.5, 1, 100)


@given(values())
def test_percentiles_and_mean_lie_between_the_extremes_and_rise(sample):
    found = describe(sample)
    assert found is not None
    shown = [found.percentiles[q] for q in PERCENTILES if q in found.percentiles]
    assert shown == sorted(shown)
    assert all(found.min <= v <= found.max for v in [*shown, found.mean])


@given(values(min_size=6), st.randoms())
def test_the_order_of_the_samples_changes_nothing(sample, rng):
    shuffled = sample.copy()
    rng.shuffle(shuffled)
    one, other = describe(sample), describe(shuffled)
    assert one is not None
    assert other is not None
    assert one.percentiles == other.percentiles
    assert one.mean == pytest.approx(other.mean)


@given(st.lists(st.tuples(times_ms, st.integers(1, 9)), min_size=1, max_size=80))
def test_a_weight_is_so_many_equal_samples(pairs):
    sample, weights = (np.array(part, dtype=float) for part in zip(*pairs, strict=True))
    found = describe(sample, weights)
    plain = describe(np.repeat(sample, weights.astype(int)))
    assert found is not None
    assert plain is not None
    assert found.n == plain.n
    assert found.percentiles == pytest.approx(plain.percentiles)
    assert found.intervals == plain.intervals
    assert (found.mean, found.std) == pytest.approx((plain.mean, plain.std), rel=1e-6, abs=1e-3)


@given(values(min_size=6))
def test_every_figure_is_numpys(sample):
    found = describe(sample)
    assert found is not None
    by_hand = {q: float(np.percentile(sample, q)) for q in found.percentiles}
    assert found.percentiles == pytest.approx(by_hand)
    assert found.std == pytest.approx(float(sample.std()), rel=1e-6, abs=1e-6)


@given(values(min_size=72))
def test_a_percentile_lies_in_its_interval_and_every_end_is_a_sample(sample):
    found = describe(sample)
    assert found is not None
    assert set(found.intervals) == set(found.percentiles)
    for q, value in found.percentiles.items():
        interval = found.interval(q)
        assert interval is not None
        assert interval.low <= value <= interval.high
        assert {interval.low, interval.high} <= set(sample.tolist())


@pytest.mark.parametrize(
    ("n", "expected"), [(5, None), (6, 50), (36, 90), (72, 95), (200, 95), (367, 95), (368, 99)]
)
def test_the_highest_percentile_is_the_one_that_the_samples_allow(n, expected):
    assert highest_allowed(n) == expected


def below(k: int, n: int, p: float) -> float:
    """P(B <= k) for B of n trials, term by term."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("percentile", "needed"), MINIMUMS)
def test_an_interval_exists_from_the_minimum_on_and_is_then_the_whole_sample(percentile, needed):
    assert order_ranks(needed - 1, percentile) is None
    ranks = order_ranks(needed, percentile)
    assert ranks is not None
    assert ranks[1] == needed - 1
    if percentile == 50:
        assert ranks == (0, 5)


@given(st.integers(6, 300), st.sampled_from([25.0, 50.0, 75.0, 90.0, 95.0]))
def test_ranks_are_the_tightest_whose_tails_hold_a_fortieth_each(n, percentile):
    p, ranks = percentile / 100, order_ranks(n, percentile)
    if n < min_samples(percentile):
        assert ranks is None
        return
    assert ranks is not None
    low, high = ranks
    # X[low], from 0, lies above the quantile where at most `low` samples lie below it.
    assert below(low, n, p) < 0.025 + 1e-12
    assert low + 1 == n or below(low + 1, n, p) >= 0.025 - 1e-12
    # X[high] lies below it where more than `high` samples do.
    assert 1 - below(high, n, p) <= 0.025 + 1e-12
    assert 1 - below(high - 1, n, p) > 0.025 - 1e-12


def test_intervals_of_independent_samples_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(7)
    ranks = order_ranks(400, 95)
    assert ranks is not None
    runs = np.sort(rng.exponential(1.0, (4000, 400)), axis=1)
    truth = -math.log(0.05)
    held = (runs[:, ranks[0]] <= truth) & (truth <= runs[:, ranks[1]])
    assert 0.945 < held.mean() < 0.985  # at least 95 %; ranks are whole numbers, so a bit more


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_ends_are_the_shares_that_the_count_is_just_compatible_with(counted):
    met, n = counted
    found = wilson(met, n)
    assert found is not None
    for end in (found.low, found.high):
        # |share - end| = z * standard error at the end: its definition
        if 0 < end < 1:
            error = 1.959964 * math.sqrt(end * (1 - end) / n)
            assert abs(met / n - end) == pytest.approx(error, rel=1e-5, abs=1e-12)
    assert 0 <= found.low <= met / n + 1e-12
    assert met / n - 1e-12 <= found.high <= 1


def test_a_share_of_nothing_has_no_interval_and_all_of_ten_is_not_certain():
    assert wilson(0, 0) is None
    found = wilson(10, 10)
    assert found is not None
    assert (round(found.low, 4), found.high) == (0.7225, 1.0)  # 10 / (10 + 1.96^2)


def test_three_repeats_have_a_t_interval_on_their_logarithms():
    found = repeated([90.0, 100.0, 111.11111])
    assert found is not None
    assert found.interval is not None
    # logs 4.49981, 4.60517, 4.71053: s = 0.10536; t(2) = 4.302653 (any t table); / sqrt 3
    half = 4.302653 * 0.1053605 / math.sqrt(3)
    assert found.centre == pytest.approx(100.0, rel=1e-5)
    assert found.interval.low == pytest.approx(100 * math.exp(-half), rel=1e-4)
    assert found.interval.high == pytest.approx(100 * math.exp(half), rel=1e-4)
    assert found.values == (90.0, 100.0, 111.11111)


def test_two_repeats_have_a_centre_and_no_interval():
    found = repeated([100.0, 400.0])
    assert found is not None
    assert found.centre == pytest.approx(200)
    assert found.interval is None


@pytest.mark.parametrize("values", [[], [0.0, 1.0, 2.0], [-1.0]])
def test_what_has_no_logarithm_is_not_repeated(values):
    assert repeated(values) is None


@given(st.lists(st.floats(0.1, 1e4), min_size=3, max_size=8), st.floats(0.01, 100))
def test_an_interval_scales_with_its_unit(values, factor):
    one, other = repeated(values), repeated([factor * v for v in values])
    assert one is not None and one.interval is not None  # noqa: PT018
    assert other is not None and other.interval is not None  # noqa: PT018
    assert isinstance(one.interval, Interval)
    assert other.interval.low == pytest.approx(factor * one.interval.low, rel=1e-6)
    assert other.interval.high == pytest.approx(factor * one.interval.high, rel=1e-6)
