"""Fewer points, the extremes kept: of tracks over time, and of distributions."""

from __future__ import annotations

import numpy as np
from analysis.report_thinning import distribution, extremes
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-1e6, 1e6)
MANY = st.lists(st.one_of(NUMBERS, st.just(float("nan"))), min_size=1, max_size=400)
MOST = st.integers(4, 100)


@given(values=MANY, most=MOST, seed=st.integers(0, 99))
def test_lowest_highest_first_and_last_are_kept_and_no_more_than_asked_for(values, most, seed):
    v = np.array(values)
    t = np.sort(np.random.default_rng(seed).exponential(size=v.size))
    kept = extremes(t, v, most)
    known = v[~np.isnan(v)]
    assert kept.size <= max(most, 0)
    assert (np.diff(kept) > 0).all()
    if known.size:
        places = np.flatnonzero(~np.isnan(v))
        assert (v[kept].min(), v[kept].max()) == (known.min(), known.max())
        assert (kept[0], kept[-1]) == (places[0], places[-1])


def test_few_points_are_all_kept():
    values = np.arange(10.0)
    assert extremes(values, values, 10).tolist() == list(range(10))


def test_a_single_spike_among_a_million_is_kept():
    values = np.zeros(1_000_000)
    values[654_321] = 1
    kept = extremes(np.arange(values.size, dtype=float), values, 300)
    assert kept.size <= 300
    assert 654_321 in kept


@given(n=st.integers(1, 5000), most=st.integers(8, 300))
def test_of_a_distribution_both_ends_are_kept_and_no_more_than_asked_for(n, most):
    kept = distribution(np.arange(1, n + 1) / n, most)
    assert kept.size <= most
    assert (kept[0], kept[-1]) == (0, n - 1)
    assert (np.diff(kept) > 0).all()


def test_the_tail_of_a_distribution_is_drawn_finer_than_its_middle():
    shares = np.arange(1, 100_001) / 100_000
    kept = shares[distribution(shares, 400)]
    assert (kept > 0.999).sum() >= 20
    assert (kept < 0.001).sum() >= 20
