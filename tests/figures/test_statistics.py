"""Distributions: figures that anybody gets again, and percentiles only where n allows them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from vllm_bench.figures.statistics import (
    PERCENTILES,
    describe,
    highest_allowed,
    min_samples,
    quantile,
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
    repeated = np.repeat(sample, weights.astype(int))
    plain = describe(repeated)
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
