"""Means, areas and holes of samples over time, against what geometry says they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from vllm_bench.serverside.over_time import Hole, Samples

AT_TENTHS = np.arange(0, 601) / 10  # a minute at 10 Hz
values = st.floats(0, 1000, allow_subnormal=False)


@st.composite
def sampled(draw: st.DrawFn) -> Samples:
    """Samples from 0 s on, at most 3 s apart."""
    steps = draw(st.lists(st.floats(0.001, 3.0), min_size=2, max_size=40))
    t_s = np.concatenate([[0.0], np.cumsum(steps)])
    found = draw(st.lists(values, min_size=t_s.size, max_size=t_s.size))
    return Samples(t_s, np.array(found))


@st.composite
def interval(draw: st.DrawFn, samples: Samples) -> tuple[float, float]:
    """A start and a later end inside the samples' time."""
    shares = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    assume(shares[1] - shares[0] > 1e-6)
    length = float(samples.t_s[-1])
    return shares[0] * length, shares[1] * length


@given(power=st.integers(1, 1000), seconds=st.integers(1, 60), start=st.integers(0, 599))
def test_constant_power_over_a_time_is_their_product(power: int, seconds: int, start: int) -> None:
    start_s = min(start / 10, 60 - seconds)
    samples = Samples(AT_TENTHS, np.full(AT_TENTHS.size, float(power)))
    assert samples.area(start_s, start_s + seconds) == pytest.approx(power * seconds, rel=1e-12)
    assert samples.mean == pytest.approx(power, rel=1e-12)


@given(data=st.data(), samples=sampled())
def test_the_parts_of_a_time_add_up_to_the_whole(data: st.DataObject, samples: Samples) -> None:
    start, end = data.draw(interval(samples))
    cut = data.draw(st.floats(start, end))
    parts = samples.area(start, cut) + samples.area(cut, end)
    assert parts == pytest.approx(samples.area(start, end), rel=1e-9, abs=1e-6)


@given(data=st.data(), samples=sampled())
def test_an_area_lies_between_those_of_the_least_and_the_largest_value(
    data: st.DataObject, samples: Samples
) -> None:
    start, end = data.draw(interval(samples))
    area, length = samples.area(start, end), end - start
    low, high = samples.values.min() * length, samples.values.max() * length
    assert low - 1e-6 <= area <= high + 1e-6


@given(data=st.data(), samples=sampled())
def test_a_counter_of_what_the_samples_say_gives_the_same_as_they_do(
    data: st.DataObject, samples: Samples
) -> None:
    """At the samples' own times exactly; between them a counter that is read there is a chord."""
    first, last = sorted(
        data.draw(st.tuples(*[st.integers(0, samples.t_s.size - 1)] * 2), label="which samples")
    )
    assume(first < last)
    areas = [samples.area(0.0, t_s) for t_s in samples.t_s[1:]]
    counter = Samples(samples.t_s, np.array([0.0, *areas]))
    start, end = float(samples.t_s[first]), float(samples.t_s[last])
    assert counter.at(end) - counter.at(start) == pytest.approx(
        samples.area(start, end), rel=1e-9, abs=1e-6
    )
    # Off them by at most what the power changed in a step, times an eighth of it, at each edge.
    start, end = data.draw(interval(samples))
    steps = np.diff(samples.t_s)
    off = 2 * float((np.abs(np.diff(samples.values)) * steps).max()) / 8
    assert abs(counter.at(end) - counter.at(start) - samples.area(start, end)) <= off + 1e-6


def test_a_mean_is_one_over_time_not_over_samples() -> None:
    samples = Samples(np.array([0.0, 1.0, 2.0, 2.1, 2.2]), np.array([0.0, 0.0, 10.0, 10.0, 10.0]))
    # 0 for a second, rising to 10 in the next, 10 for 0.2 s
    assert samples.mean == pytest.approx((0 + 5 + 2) / 2.2)
    assert samples.peak == 10


def test_time_between_samples_too_far_apart_counts_for_nothing() -> None:
    samples = Samples(np.array([0.0, 1.0, 9.0, 10.0]), np.array([2.0, 2.0, 4.0, 4.0]))
    assert samples.mean == 3
    assert samples.covered_s == 2


def test_one_sample_has_a_peak_and_no_mean() -> None:
    samples = Samples.of(np.array([1.0, 2.0]), np.array([5.0, np.nan]))
    assert (samples.peak, samples.mean, samples.covered_s) == (5, None, 0)
    nothing = Samples.of(np.array([1.0]), np.array([np.nan]))
    assert (nothing.peak, nothing.mean) == (None, None)


@pytest.mark.parametrize(
    ("t_s", "hole", "words"),
    [
        ([9.0, 12.0, 15.0, 18.0, 21.0], None, None),  # 3 s apart, on both sides of 10 to 20
        ([10.0, 13.0, 16.0, 19.0, 20.0], None, None),  # at its very edges
        ([9.0, 12.0, 15.1, 18.0, 21.0], Hole(12.0, 15.1), "from 12.0 s to 15.1 s"),
        ([7.0, 10.5, 13.0, 16.0, 19.0, 20.0], Hole(7.0, 10.5), "from 7.0 s to 10.5 s"),
        ([1.0, 5.0, 10.0, 13.0, 16.0, 19.0, 20.0], None, None),  # a hole before is none of ours
        ([10.0, 13.0, 16.0, 19.0, 20.0, 29.0], None, None),  # nor is one after
        ([11.0, 13.0, 16.0, 19.0, 20.0], Hole(to_s=11.0), "before 11.0 s"),
        ([9.0, 12.0, 15.0, 18.0], Hole(18.0), "from 18.0 s on"),
        ([9.0], Hole(9.0), "from 9.0 s on"),
        ([21.0], Hole(), "at any time"),
        ([], Hole(), "at any time"),
    ],
)
def test_what_leaves_a_part_of_a_time_in_the_dark_is_a_hole(
    t_s: list[float], hole: Hole | None, words: str | None
) -> None:
    found = Samples(np.array(t_s), np.ones(len(t_s))).hole(10.0, 20.0)
    assert found == hole
    assert words == (found.words if found else None)
