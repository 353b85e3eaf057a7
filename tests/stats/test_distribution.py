"""Distributions and intervals against numpy and brute force; percentiles only where n allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from vllm_bench.stats.batches import BATCHES, Interval, batches_of, binomial_bound, by_batch
from vllm_bench.stats.distribution import (
    PERCENTILES,
    Sample,
    describe,
    min_samples,
    pooled_sample,
    quantile,
)
from vllm_bench.stats.repeated import repeated

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


@given(values(min_size=72), st.integers(0, 1000))
def test_a_percentile_lies_in_its_interval(sample, shift):
    found = describe(sample, batches=batches_of(np.roll(np.arange(sample.size), shift)))
    assert found is not None
    assert set(found.intervals) == set(found.percentiles)
    for q, value in found.percentiles.items():
        interval = found.interval(q)
        assert interval is not None
        assert 0 <= interval.low <= value <= interval.high
        assert interval.bounded == (q not in found.needed)
        assert found.needed.get(q, math.inf) >= found.n


def test_without_batches_there_is_no_interval():
    found = describe(np.arange(500.0))
    assert found is not None
    assert not found.intervals


@given(st.integers(0, 400))
def test_batches_are_equal_parts_of_the_time(n):
    at = np.random.default_rng(n).permutation(n)
    found = batches_of(at)
    assert (np.diff(found[np.argsort(at)]) >= 0).all()
    counts = np.bincount(found, minlength=BATCHES)
    assert counts.max() - counts.min() <= 1


def test_the_error_of_a_share_is_that_of_the_batches_shares():
    # Batches of equal size: the standard deviation of their shares / the root of their number.
    part, whole = np.array([1.0, 3, 2, 2]), np.full(4, 10.0)
    found = by_batch(part, whole, np.arange(4))
    assert found is not None
    assert found.error == pytest.approx(np.std(part / 10, ddof=1) / 2)
    assert found.times(0.975) == pytest.approx(3.182446 * found.error)  # t(3), any table
    assert by_batch(part[:2], whole[:2], np.arange(2)) is None


def held(sample_of, truth, runs=400):
    """Return how often an interval holds the truth, in percent, for each percentile."""
    rng, percentiles = np.random.default_rng(7), tuple(truth)
    found = dict.fromkeys(percentiles, 0)
    for _ in range(runs):
        sample = sample_of(rng)
        distribution = describe(sample, batches=batches_of(np.arange(sample.size)))
        assert distribution is not None
        for q in percentiles:
            interval = distribution.interval(q)
            assert interval is not None
            found[q] += interval.low <= truth[q] <= interval.high
    return [100 * found[q] / runs for q in percentiles]


def test_intervals_of_independent_samples_hold_the_truth_as_often_as_they_say():
    truth = {50.0: math.log(2), 95.0: math.log(20)}
    shares = held(lambda rng: rng.exponential(1.0, 400), truth)
    assert all(93 <= share <= 99.9 for share in shares)


def sojourns(rng, load=0.8, n=1000, before=300):
    """Return the times of requests in a queue with one server (Lindley's equation), mean service 1.

    The sojourn of M/M/1 is exponential with the rate 1 - load.
    """
    gaps, service = rng.exponential(1 / load, n + before), rng.exponential(1.0, n + before)
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
    waits = walk - np.minimum.accumulate(walk)
    return (waits + service)[before:]


def test_intervals_in_a_queue_hold_the_truth_far_more_often_than_for_independent_requests():
    truth = {50.0: math.log(2) / 0.2, 95.0: math.log(20) / 0.2}
    assert min(held(sojourns, truth)) >= 80


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_binomial_bound_is_the_share_that_the_count_is_just_compatible_with(counted):
    from scipy.stats import binom

    late, n = counted
    low = binomial_bound(late, n, upper=False)
    high = binomial_bound(late, n, upper=True)
    assert low <= late / n <= high
    assert late == 0 or binom.sf(late - 1, n, low) == pytest.approx(0.05, abs=1e-6)
    assert late == n or binom.cdf(late, n, high) == pytest.approx(0.05, abs=1e-6)


def test_none_late_of_299_is_just_enough_for_one_in_a_hundred():
    assert binomial_bound(0, 299, upper=True) < 0.01 < binomial_bound(0, 298, upper=True)


def sample_of(values, weights=None):
    batches = batches_of(np.arange(len(values)))
    return Sample(np.array(values, dtype=float), weights, batches)


def test_pooled_runs_have_the_percentiles_of_all_their_rows():
    runs = [sample_of(range(k, k + 100)) for k in (0, 50, 400)]
    found = pooled_sample(runs).described()
    assert found is not None
    rows = np.concatenate([run.values for run in runs])
    assert found.percentile(95) == pytest.approx(np.percentile(rows, 95))
    mean_of_p95s = np.mean([np.percentile(run.values, 95) for run in runs])
    assert found.percentile(95) > mean_of_p95s + 100


def test_from_three_runs_on_a_run_is_a_batch():
    def batches(runs):
        found = pooled_sample([sample_of(range(100))] * runs).batches
        assert found is not None
        return np.unique(found).size

    assert (batches(1), batches(2), batches(3), batches(5)) == (10, 20, 3, 5)


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
