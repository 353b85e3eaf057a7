"""A machine's clock is followed through drift, queues, losses and steps, and the ± holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.machines.clocks.line import Ping, ping, through, weighted_median
from vllm_bench.machines.clocks.track import Track

from tests.machines.clocks.virtual import US, S, Way, crystal, pings

MS = 1_000_000
offsets = st.integers(-(10**17), 10**17)  # three years of uptime
drifts = st.floats(-90, 90)
seeds = st.integers(0, 2**32)
ways = st.builds(
    Way,
    out_ns=st.integers(5 * US, 20 * MS),
    back_ns=st.integers(5 * US, 20 * MS),
    queue_ns=st.integers(0, 30 * MS),
    queued=st.floats(0, 1),
    one_sided=st.booleans(),
    lost=st.floats(0, 0.7),
)


def test_a_ping_tells_the_offset_to_half_its_round_trip() -> None:
    told = ping(1_000, 51_300, 1_600)
    assert (told.at_ns, told.offset_ns, told.half_ns) == (1_300, 50_000, 300)
    assert told.theirs_ns == 51_300


@given(offsets, drifts, ways, seeds)
def test_no_instant_is_further_off_than_is_told(
    offset_ns: int, ppm: float, way: Way, seed: int
) -> None:
    theirs, track = crystal(offset_ns, ppm), Track()
    worst_ns, last_ns = 0, 0
    for now in pings(theirs, way, seed, seconds=60):
        if track.known:
            worst_ns = max(worst_ns, abs(track.ours(theirs(now.at_ns)) - now.at_ns))
            worst_ns = max(worst_ns, abs(track.theirs(now.at_ns) - theirs(now.at_ns)))
        track.add(now)
        last_ns = now.at_ns
    if track.known:
        assert worst_ns <= track.error_ns(last_ns) + 10


@given(offsets, drifts, seeds, st.floats(0, 0.9), st.booleans())
def test_queues_do_not_bend_the_line(
    offset_ns: int, ppm: float, seed: int, queued: float, one_sided: bool
) -> None:
    theirs, track = crystal(offset_ns, ppm), Track()
    way = Way(queue_ns=3 * MS, queued=queued, one_sided=one_sided, lost=0.1)
    for now in pings(theirs, way, seed, seconds=90):
        track.add(now)
    assert track.line.drift is not None
    assert track.line.drift * 1e6 == pytest.approx(ppm, abs=3)
    for second in range(90):
        at_ns = (5_000 + second) * S
        assert abs(track.ours(theirs(at_ns)) - at_ns) < 200 * US


@given(offsets, st.integers(5 * MS, 3_600 * S), st.sampled_from([-1, 1]), seeds)
def test_a_clock_that_is_set_is_believed_before_and_after(
    offset_ns: int, size_ns: int, sign: int, seed: int
) -> None:
    step_ns = 5_040 * S + seed % S  # between two pings
    before, after = crystal(offset_ns, 30), crystal(offset_ns + sign * size_ns, 30)
    track = Track()
    for now in pings(before, Way(), seed, seconds=step_ns / S - 5_000):
        track.add(now)
    for now in pings(after, Way(), seed, seconds=40, begin_ns=step_ns):
        track.add(now)
    if sign > 0 or size_ns < 20 * MS:  # else instants of its clock come twice
        early_ns = 5_030 * S
        assert abs(track.ours(before(early_ns)) - early_ns) < 100 * US
    late_ns = step_ns + 35 * S
    assert abs(track.ours(after(late_ns)) - late_ns) < 100 * US
    assert track.error_ns(step_ns + 40 * S) >= size_ns - 500 * US


def test_a_slow_ping_is_no_step() -> None:
    theirs, track = crystal(7, 0), Track()
    for now in pings(theirs, Way(), 1, seconds=30):
        track.add(now)
    late_ns = 5_031 * S
    track.add(ping(late_ns, theirs(late_ns), late_ns + 8 * S))  # its machine was frozen
    assert abs(track.ours(theirs(late_ns)) - late_ns) < 50 * US
    assert track.error_ns(late_ns + 8 * S) < 2 * MS


def test_silence_makes_it_uncertain() -> None:
    track = Track()
    for now in pings(crystal(7, 0), Way(), 1, seconds=30):
        track.add(now)
    assert track.error_ns(5_090 * S) > 20 * track.error_ns(5_030 * S)


def test_a_run_answers_for_its_own_time_alone() -> None:
    theirs, track = crystal(0, 0), Track()
    for now in pings(theirs, Way(out_ns=40 * MS, back_ns=MS), 1, seconds=3):
        track.add(now)
    for now in pings(theirs, Way(), 1, seconds=30, begin_ns=5_004 * S):
        track.add(now)
    assert track.error_ns(5_034 * S) > 10 * MS
    track.begin(5_034 * S)
    assert track.error_ns(5_034 * S) < MS


def test_hours_ago_the_pace_was_another() -> None:
    def theirs(ours_ns: int) -> int:  # warms up and cools down: ±20 ppm within an hour
        return ours_ns + round(20e-6 * 570 * S * math.sin((ours_ns - 5_000 * S) / (570 * S)))

    track = Track()
    for now in pings(theirs, Way(queue_ns=MS, queued=0.5), 3, seconds=5_400, every_ns=2 * S):
        track.add(now)
    for at_ns in range(5_000 * S, 10_400 * S, 90 * S):
        assert abs(track.ours(theirs(at_ns)) - at_ns) < MS


def test_a_line_has_a_slope_where_its_points_tell_one() -> None:
    exact = [Ping(at * 10 * S, 1_000 + at * 100 * US, 20 * US) for at in range(4)]  # 10 ppm
    assert through(exact, 0).drift == pytest.approx(1e-5)
    assert through(exact[:2], 0).drift is None
    vague = [exact[0], *(Ping(p.at_ns, p.offset_ns, 5 * MS) for p in exact[1:])]
    assert through(vague, 0).drift is None


def test_what_all_trips_have_in_common_hides_no_drift() -> None:
    theirs, track = crystal(0, 40), Track()
    far = Way(out_ns=12 * MS, back_ns=8 * MS, queue_ns=50 * US, queued=0.8)
    for now in pings(theirs, far, 2, seconds=290):
        track.add(now)
    assert track.line.drift is not None
    assert track.line.drift * 1e6 == pytest.approx(40, abs=3)
    at_ns = 5_200 * S
    assert 1.9 * MS < abs(track.ours(theirs(at_ns)) - at_ns) < 2.1 * MS  # can't be seen
    assert track.error_ns(5_290 * S) > 9 * MS  # but is allowed for


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 1e3)), min_size=1, max_size=40))
def test_half_of_the_weight_is_on_each_side(values: list[tuple[float, float]]) -> None:
    median = weighted_median(values)
    below = sum(weight for value, weight in values if value < median)
    above = sum(weight for value, weight in values if value > median)
    half = sum(weight for _, weight in values) / 2
    assert max(below, above) <= half * (1 + 1e-9)
