"""Thinning keeps what stands out; rates and samples of a timeline say what they were made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.charts.over_time import (
    DOTS_A_COLUMN,
    MOST_BINS,
    POINTS_A_COLUMN,
    bin_width_s,
    dot_places,
    intervals,
    line_places,
    rate,
    sampled,
)
from vllm_bench.records.row import Rows


def made(seed, count):
    """Rising times and values, with ties among both."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 100, count).round(int(rng.integers(0, 4))))
    return times, rng.lognormal(0, 2, count).round(1)


def columns(times, count):
    width = (times[-1] - times[0]) / count or 1.0
    return np.minimum((times - times[0]) // width, count - 1)


@given(st.integers(0, 10_000), st.integers(1, 600), st.integers(1, 16_000))
def test_a_line_keeps_the_ends_and_the_extremes_of_every_column(seed, count, size):
    times, values = made(seed, size)
    most = POINTS_A_COLUMN * count
    kept = line_places(times, values, most)
    assert kept.size <= most
    assert (np.diff(kept) > 0).all()
    whole = pd.Series(values).groupby(columns(times, count))
    thin = pd.Series(values[kept]).groupby(columns(times, count)[kept])
    for part in ("min", "max", "first", "last"):
        assert whole.agg(part).equals(thin.agg(part))


@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 16_000))
def test_dots_keep_the_extremes_of_every_column_and_spread_as_all_do(seed, count, size):
    times, values = made(seed, size)
    most = DOTS_A_COLUMN * count
    kept = dot_places(times, values, most)
    assert kept.size <= most
    whole = pd.Series(values).groupby(columns(times, count))
    thin = pd.Series(values[kept]).groupby(columns(times, count)[kept])
    assert whole.min().equals(thin.min())
    assert whole.max().equals(thin.max())


def test_a_single_spike_among_a_million_is_kept():
    values = np.zeros(1_000_000)
    values[654_321] = 1
    times = np.arange(values.size, dtype=float)
    for places in (line_places, dot_places):
        kept = places(times, values, 300)
        assert kept.size <= 300
        assert 654_321 in kept


def test_the_dots_of_a_column_have_its_deciles():
    times, values = np.zeros(100_001), np.random.default_rng(0).permutation(100_001) * 1.0
    kept = np.sort(values[dot_places(times, values)])
    assert kept == pytest.approx(np.linspace(0, 100_000, 12), abs=1)


def test_few_points_are_all_kept():
    times, values = made(0, 500)
    assert line_places(times, values).size == dot_places(times, values).size == 500


@given(st.floats(0.001, 1e7))
def test_bins_are_round_and_not_too_many(span_s):
    assert span_s / bin_width_s(span_s) <= MOST_BINS * 1.001


def test_bins_of_runs_of_seconds_are_finer():
    widths = {span_s: bin_width_s(span_s) for span_s in (1.4, 5.0, 10.0, 48.0, 49.0)}
    assert widths == {1.4: 0.05, 5.0: 0.1, 10.0: 0.2, 48.0: 0.2, 49.0: 0.5}


@given(st.lists(st.floats(0, 30), max_size=50), st.floats(0.01, 30.5))
def test_the_area_under_a_rate_is_what_came(times, end_s):
    at = np.array(times)
    found = rate("arrivals", at, None, end_s)
    area = float((found.y[:-1] * np.diff(found.x)).sum())
    assert area == pytest.approx(((at >= 0) & (at <= end_s)).sum())
    assert (found.x[0], found.x[-1]) == (0, end_s)


def test_the_last_bin_is_never_a_sliver():
    found = rate("arrivals", np.array([1.0, 10.05]), None, 10.05)  # bins of 0.2 s
    assert np.diff(found.x).min() >= 0.1


def test_tokens_weigh_a_rate():
    found = rate("tokens", np.array([0.01, 0.01, 0.12]), np.array([1.0, 3.0, 5.0]), 0.15)
    assert list(found.y) == pytest.approx([80, 0, 100, 100])  # bins of 0.05 s


def samples(times, values):
    return Rows({"t_s": np.array(times, float), "power_w": np.array(values, float)})


def test_silence_breaks_a_line_and_so_does_a_stretch_of_empty_cells():
    times = [0, 0.1, 0.2, 5.0, 5.1, 5.2, 7.0]
    found = sampled("GPU 0", samples(times, [1, 2, 3, 4, 5, 6, 7.0]), "power_w", 2.0)
    assert found.y == pytest.approx([2, 4, 6, np.nan, 8, 10, 12, np.nan, 14], nan_ok=True)
    empty = samples(np.arange(0, 5, 0.1), [1.0] * 10 + [np.nan] * 30 + [1.0] * 10)
    assert np.isnan(sampled("GPU 0", empty, "power_w").y).sum() == 1


def test_samples_that_come_seldom_are_no_gap():
    found = sampled("server", samples([0, 5, 10, 15], [1.0, 2, 3, 4]), "power_w")
    assert list(found.y) == [1, 2, 3, 4]


def test_a_sensor_that_never_answered_has_no_line():
    assert sampled("GPU 0", samples([0, 1], [np.nan, np.nan]), "power_w") is None


def test_many_samples_are_thinned_within_their_stretches():
    times = np.r_[np.arange(0, 400, 0.1), np.arange(500, 900, 0.1)]
    values = np.ones(times.size)
    values[1234], values[5678] = 900, -3
    found = sampled("GPU 0", samples(times, values), "power_w")
    assert found.x.size < found.of / 2
    assert (np.nanmax(found.y), np.nanmin(found.y)) == (900, -3)
    assert np.isnan(found.y).sum() == 1


def test_stretches_begin_and_end_with_what_held():
    times = np.arange(0, 1, 0.1)
    held = np.array([0, 1, 1, 0, 0, 0, 1, 0, 0, 1], dtype=bool)
    expected = [(0.1, 0.3), (0.6, 0.7), (0.9, 1.0)]
    assert np.array(intervals(times, held)) == pytest.approx(np.array(expected))
    assert intervals(times, np.zeros(10, dtype=bool)) == []
