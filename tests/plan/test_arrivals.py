"""Schedules: by tables that show their arithmetic, by their statistics, and the same everywhere."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from vllm_bench.plan.arrivals import arrival_times, realised, schedule_sha256
from vllm_bench.scenario.load_keys import LARGEST_CV, SMALLEST_CV, Arrivals

BENCH = Path(__file__).resolve().parents[2] / "bench"
SEED = 20240607


def first_draws(seed: int, number: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.random() for _ in range(number)]


# The arithmetic, by hand

BY_HAND: list[tuple[Arrivals, list[float]]] = [
    # one each 1/rate, the first at once
    (Arrivals("constant", 4), [0, 1 / 4, 2 / 4, 3 / 4, 4 / 4]),
    (Arrivals("constant", 0.5), [0 / 0.5, 1 / 0.5, 2 / 0.5]),
    # 3 at once each 3/6 s
    (Arrivals("bursts", 6, burst_size=3), [0, 0, 0, 0.5, 0.5, 0.5, 1.0]),
    (Arrivals("bursts", 2, burst_size=1), [0, 0.5, 1.0]),
    # 10/s reached after 4 s: until then 10 t²/8 requests are due, so request n at √(8n/10),
    # request 20 at the ramp's end, and from there one each 1/10 s
    (
        Arrivals("constant", 10, ramp_s=4),
        [math.sqrt(8 * n / 10) for n in range(20)] + [4.0, 4.1, 4.2],
    ),
    # a ramp that ends at request 1: 2 t²/2 = 1 at 1 s, then one each 1/2 s
    (Arrivals("constant", 2, ramp_s=1), [0.0, 1.0, 1.5, 2.0]),
    # bursts of 5 on the same ramp: requests 0, 5, 10 … call the whole burst
    (Arrivals("bursts", 10, burst_size=5, ramp_s=4), [0.0] * 5 + [2.0] * 5 + [math.sqrt(8)] * 5),
    # a gap is -ln(1 - random()) / rate
    (
        Arrivals("poisson", 5),
        [-sum(math.log(1 - x) for x in first_draws(SEED, n)) / 5 for n in (1, 2, 3)],
    ),
    # the same gaps on a ramp to 5/s over 100 s, all of them within it: √(2 · 100 · gaps / 5)
    (
        Arrivals("poisson", 5, ramp_s=100),
        [
            math.sqrt(2 * 100 * -sum(math.log(1 - x) for x in first_draws(SEED, n)) / 5)
            for n in (1, 2, 3)
        ],
    ),
    # a gamma of CV 2: shape 1/2² = 0.25, scale 2²/rate = 0.8
    (
        Arrivals("gamma", 5, cv=2),
        [np.sum(stats.gamma.ppf(first_draws(SEED, n), 0.25, scale=0.8)) for n in (1, 2, 3)],
    ),
]


@pytest.mark.parametrize(("arrivals", "expected"), BY_HAND, ids=[str(row[0]) for row in BY_HAND])
def test_times_are_those_of_the_table(arrivals: Arrivals, expected: list[float]) -> None:
    times = arrival_times(arrivals, seed=SEED, count=len(expected))
    assert times.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arrivals", "duration_s", "expected"),
    [
        (Arrivals("constant", 4), 1.0, 4),  # 0, 0.25, 0.5, 0.75; the one at 1.0 is outside
        (Arrivals("constant", 4), 1.01, 5),
        (Arrivals("constant", 0.1), 1.0, 1),
        (Arrivals("bursts", 6, burst_size=3), 0.5, 3),
        (Arrivals("bursts", 6, burst_size=3), 0.51, 6),
        (Arrivals("constant", 10, ramp_s=4), 4.0, 20),  # half of 10 a second for 4 s
        (Arrivals("constant", 10, ramp_s=4), 10.0, 80),  # and all of it for 6 s more
    ],
)
def test_a_duration_excludes_its_end(arrivals: Arrivals, duration_s: float, expected: int) -> None:
    assert len(arrival_times(arrivals, seed=1, duration_s=duration_s)) == expected


def test_a_constant_rate_gathers_no_rounding() -> None:
    times = arrival_times(Arrivals("constant", 10), seed=1, count=1_000_000)
    assert times[999_999] == 99_999.9


# Statistics, at a fixed seed

RANDOM_SHAPES = [
    (Arrivals("poisson", 20), stats.expon(scale=1 / 20)),
    *(
        (Arrivals("gamma", 20, cv=cv), stats.gamma(1 / cv**2, scale=cv**2 / 20))
        for cv in (0.2, 0.5, 1.0, 1.5, 3.0)
    ),
]


@pytest.mark.parametrize(
    ("arrivals", "distribution"), RANDOM_SHAPES, ids=[str(row[0]) for row in RANDOM_SHAPES]
)
def test_gaps_are_of_their_distribution(arrivals: Arrivals, distribution: Any) -> None:
    number = 20_000
    times = arrival_times(arrivals, seed=SEED, count=number)
    gaps = np.diff(times, prepend=0.0)
    wanted_cv = arrivals.cv or 1.0
    # A sum of seconds keeps no gap of picoseconds, of which a CV of 3 makes one in twenty.
    kept, hidden = gaps[gaps > 1e-9], distribution.cdf(1e-9)
    assert len(kept) / number == pytest.approx(1 - hidden, abs=4 * math.sqrt(hidden / number))
    fit = stats.kstest(kept, lambda gap: (distribution.cdf(gap) - hidden) / (1 - hidden))
    assert fit.pvalue > 0.01
    # Four standard errors of a mean.
    assert gaps.mean() * arrivals.rate == pytest.approx(1, abs=4 * wanted_cv / math.sqrt(number))
    rate, cv = realised(times)
    assert rate == pytest.approx(20, rel=4 * wanted_cv / math.sqrt(number))
    assert cv == pytest.approx(wanted_cv, rel=0.05)
    # No gap tells of the next one.
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / math.sqrt(number)


def test_the_goodness_of_fit_can_fail() -> None:
    gaps = np.diff(arrival_times(Arrivals("gamma", 20, cv=1.1), seed=SEED, count=20_000))
    assert stats.kstest(gaps, stats.expon(scale=1 / 20).cdf).pvalue < 0.01


def test_counts_a_second_of_a_poisson_vary_as_much_as_their_mean() -> None:
    times = arrival_times(Arrivals("poisson", 50), seed=SEED, duration_s=2000)
    counts = np.histogram(times, bins=2000, range=(0, 2000))[0]
    assert counts.mean() == pytest.approx(50, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / 2000))


@pytest.mark.parametrize("shape", ["poisson", "gamma"])
def test_a_ramp_grows_evenly(shape: Any) -> None:
    arrivals = Arrivals(shape, 100, cv=0.5 if shape == "gamma" else None, ramp_s=100)
    times = arrival_times(arrivals, seed=SEED, duration_s=200)
    by_quarter = np.histogram(times, bins=[0, 25, 50, 75, 100, 200])[0]
    # 100/s · t²/200 s: 312.5 in the first quarter, then three, five and seven times that.
    expected = [312.5, 937.5, 1562.5, 2187.5, 10_000]
    for found, due in zip(by_quarter, expected, strict=True):
        assert found == pytest.approx(due, abs=4 * math.sqrt(due))


def test_a_schedule_is_not_rescaled_to_its_rate() -> None:
    rates = {realised(arrival_times(Arrivals("poisson", 10), seed=s, count=100))[0] for s in (1, 2)}
    assert len(rates | {10.0}) == 3


# Properties


@st.composite
def all_arrivals(draw: Callable[..., Any]) -> Arrivals:
    shape = draw(st.sampled_from(["constant", "poisson", "gamma", "bursts"]))
    return Arrivals(
        shape,
        draw(st.floats(1e-3, 1e4)),
        cv=draw(st.floats(SMALLEST_CV, LARGEST_CV)) if shape == "gamma" else None,
        burst_size=draw(st.integers(1, 50)) if shape == "bursts" else None,
        ramp_s=draw(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 30.0]) | st.floats(0, 1e4)),
    )


seeds = st.integers(0, 2**63 - 1)


@settings(max_examples=100, deadline=None)
@given(all_arrivals(), seeds, st.integers(0, 300))
def test_times_ascend_from_the_start(arrivals: Arrivals, seed: int, count: int) -> None:
    times = arrival_times(arrivals, seed=seed, count=count)
    assert len(times) == count
    assert all(a <= b for a, b in itertools.pairwise([0.0, *times]))
    assert all(map(math.isfinite, times))


@settings(max_examples=100, deadline=None)
@given(all_arrivals(), seeds, st.integers(0, 300), st.integers(0, 300))
def test_a_longer_draw_begins_with_the_shorter(
    arrivals: Arrivals, seed: int, count: int, more: int
) -> None:
    longer = arrival_times(arrivals, seed=seed, count=count + more)
    assert longer[:count] == arrival_times(arrivals, seed=seed, count=count)


@settings(max_examples=100, deadline=None)
@given(all_arrivals(), seeds, st.floats(0.1, 300))
def test_a_duration_cuts_the_endless_schedule(
    arrivals: Arrivals, seed: int, requests_due: float
) -> None:
    duration_s = arrivals.seconds(requests_due)
    assume(duration_s > 0)
    within = arrival_times(arrivals, seed=seed, duration_s=duration_s)
    assert all(time < duration_s for time in within)
    beyond = arrival_times(arrivals, seed=seed, count=len(within) + 1)
    assert beyond[:-1] == within
    assert beyond[-1] >= duration_s


@pytest.mark.parametrize("arrivals", [row[0] for row in RANDOM_SHAPES[:2]], ids=str)
def test_draws_longer_than_a_chunk_agree_too(arrivals: Arrivals) -> None:
    shorter = arrival_times(arrivals, seed=3, count=4097)
    assert arrival_times(arrivals, seed=3, count=9000)[:4097] == shorter


@pytest.mark.process
def test_another_process_draws_the_same() -> None:
    code = (
        "from vllm_bench.plan.arrivals import Arrivals, arrival_times, schedule_sha256 as sha\n"
        "for a in (Arrivals('poisson', 7, ramp_s=3), Arrivals('gamma', 7, cv=2.5)):\n"
        "    print(sha(arrival_times(a, seed=11, count=5000)))\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=BENCH, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(BENCH), "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    here = "".join(
        schedule_sha256(arrival_times(a, seed=11, count=5000)) + "\n"
        for a in (Arrivals("poisson", 7, ramp_s=3), Arrivals("gamma", 7, cv=2.5))
    )
    assert hashes == {here}


def test_seeds_differ() -> None:
    drawn = {
        schedule_sha256(arrival_times(Arrivals("poisson", 1), seed=s, count=5)) for s in (1, 2, 3)
    }
    assert len(drawn) == 3


# What a schedule was


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], (None, None)),
        ([3.0], (None, None)),
        ([3.0, 3.0], (None, None)),  # all at once
        ([1.0, 1.5], (2.0, 0.0)),
        ([0.0, 1.0, 4.0], (0.5, 0.5)),  # gaps 1 and 3: mean 2, deviation 1
        ([0.0, 0.0, 2.0, 2.0, 4.0], (1.0, 1.0)),  # gaps 0, 2, 0, 2: mean 1, deviation 1
    ],
)
def test_realised_rate_and_variation(
    times: list[float], expected: tuple[float | None, float | None]
) -> None:
    assert realised(times) == expected


def test_the_hash_is_over_the_doubles_and_leaves_them_alone() -> None:
    times = arrival_times(Arrivals("poisson", 3), seed=1, count=3)
    before = times.tolist()
    by_hand = hashlib.sha256(struct.pack(">3d", *before)).hexdigest()
    assert schedule_sha256(times) == by_hand
    assert times.tolist() == before
    assert schedule_sha256([*before[:2], math.nextafter(before[2], 0)]) != by_hand


# What has no schedule


@pytest.mark.parametrize(
    "limits",
    [{}, {"count": 1, "duration_s": 1.0}, {"count": -1}, {"duration_s": 0.0},
     {"duration_s": math.inf}],
)  # fmt: skip
def test_exactly_one_limit_must_be_given(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of count"):
        arrival_times(Arrivals("constant", 1), seed=1, **limits)


@given(st.integers(2, 30), st.integers(1, 20), st.floats(0.1, 100))
def test_bursts_come_at_the_rate_that_was_asked_for(bursts: int, size: int, rate: float) -> None:
    arrivals = Arrivals("bursts", rate, burst_size=size)
    found, _ = realised(arrival_times(arrivals, seed=0, count=bursts * size))
    assert found == pytest.approx(rate)
