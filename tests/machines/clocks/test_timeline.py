"""What a machine says of a run is told on the head's clock; durations stay its own."""

from __future__ import annotations

import dataclasses
import itertools
import time
from array import array
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew.judged import Judged
from vllm_bench.machines.clocks.line import Ping
from vllm_bench.machines.clocks.pings import MachineClock
from vllm_bench.machines.clocks.timeline import Timeline
from vllm_bench.send.outbox import Connected, Finished, Go, Pulse
from vllm_bench.wire.clock import ClockFacts

from tests.machines.clocks.virtual import S, Way, crystal, pings
from tests.support.made_runs import made_record

MS = 1_000_000
BEGIN_NS = 5_000 * S
START_NS = BEGIN_NS + 60 * S
AHEAD_NS = 1_000 * S
TIMES = ("t_scheduled_s", "t_sent_s", "t_end_s")


@pytest.fixture
def clock() -> Iterator[MachineClock]:
    """A machine's clock, of which nothing is known yet."""
    ours, theirs = Pipe()
    made = MachineClock(ours)
    yield made
    made.close()
    theirs.close()


def followed(clock: MachineClock, ppm: float) -> Timeline:
    """Return the times of a run that began a minute after the pings, on a clock ahead."""
    for answer in pings(crystal(AHEAD_NS, ppm), Way(), 1, seconds=60):
        clock.track.add(answer)
    return Timeline(clock)


def judged(**changes: object) -> Judged:
    """Return a request of 100 tokens."""
    stamps, ones = array("q", range(S, 2 * S, S // 100)), array("H", [1] * 100)
    return Judged("measured", made_record(3, **changes), (stamps, ones, ones))


def test_the_start_is_told_by_the_machines_clock(clock: MachineClock) -> None:
    go = followed(clock, 0).theirs(Go(START_NS, 7))
    assert isinstance(go, Go)
    assert go.start_ns - START_NS == pytest.approx(AHEAD_NS, abs=100_000)
    assert go.spread_ns == 7


def test_other_orders_pass_as_they_are(clock: MachineClock) -> None:
    assert followed(clock, 0).theirs("drain") == "drain"


def test_a_clock_that_gains_is_taken_back(clock: MachineClock) -> None:
    line = followed(clock, 50)
    line.theirs(Go(START_NS))
    for answer in pings(crystal(AHEAD_NS, 50), Way(), 2, seconds=600, begin_ns=START_NS):
        clock.track.add(answer)
    late = judged(t_sent_s=590.0, latency_ms=1000.0)
    moved = cast(Judged, line.ours(late))
    # By its own clock 590.5 s after the start, which it reached 50 ppm too soon.
    assert moved.record.t_sent_s == pytest.approx(590.0 - 590.5 * 50e-6, abs=0.5e-3)
    shift_ns = moved.reads[0][0] - late.reads[0][0]
    assert shift_ns == pytest.approx(-590.5e9 * 50e-6, abs=0.5 * MS)


@given(
    st.floats(0, 5000),
    st.floats(0, 50),
    st.floats(0, 600_000),
    st.floats(-90, 90),
    st.booleans(),
)
def test_a_request_is_moved_as_a_whole(
    due_s: float, late_s: float, took_ms: float, ppm: float, sent: bool
) -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        line = followed(MachineClock(ours), ppm)
        line.theirs(Go(START_NS))
        sent_s = due_s + late_s if sent else None
        times = {"t_scheduled_s": due_s, "t_sent_s": sent_s}
        was = judged(**times, t_end_s=due_s + late_s + took_ms / 1000)
        now = cast(Judged, line.ours(was))
    row = now.record
    assert row.t_scheduled_s <= (row.t_sent_s if row.t_sent_s is not None else row.t_end_s)
    assert row.t_sent_s is None or row.t_sent_s <= row.t_end_s
    assert row.t_end_s - row.t_scheduled_s == pytest.approx(
        was.record.t_end_s - was.record.t_scheduled_s, abs=1e-9
    )
    gaps = [b - a for a, b in zip(now.reads[0], now.reads[0][1:], strict=False)]
    assert set(gaps) == {S // 100}
    unmoved = {name: getattr(was.record, name) for name in TIMES}
    assert dataclasses.replace(row, **unmoved) == was.record  # nothing else is touched


def in_turn(line: Timeline, first: int, count: int) -> list[tuple[float, float]]:
    """Return when the requests of a stream were sent and ended: each 50 us after the last."""
    found = []
    for sent_s in (number / 10 for number in range(first, first + count)):
        times = {"t_scheduled_s": sent_s, "t_sent_s": sent_s, "t_end_s": sent_s + 0.09995}
        row = cast(Judged, line.ours(judged(**times))).record
        found.append((row.t_sent_s or 0.0, row.t_end_s))
    return found


@pytest.mark.parametrize("off_ns", [300_000, -300_000])
def test_a_better_ping_moves_no_request_before_the_one_that_it_followed(
    clock: MachineClock, off_ns: int
) -> None:
    """A closed loop of C streams would have C + 1 requests in flight."""
    clock.track.add(Ping(BEGIN_NS, AHEAD_NS + off_ns, 400_000))
    line = Timeline(clock)
    line.theirs(Go(BEGIN_NS + S))
    found = in_turn(line, 0, 20)
    clock.track.add(Ping(BEGIN_NS + 3 * S, AHEAD_NS, 50_000))
    found += in_turn(line, 20, 80)
    for (_, ended_s), (sent_s, _) in itertools.pairwise(found):
        assert sent_s > ended_s
    assert found[-1][0] - found[0][0] == pytest.approx(9.9 + off_ns / S, abs=1e-6)  # it is believed


def test_a_clock_that_stood_still_is_followed_at_once(clock: MachineClock) -> None:
    clock.track.add(Ping(BEGIN_NS, AHEAD_NS, 50_000))
    line = Timeline(clock)
    line.theirs(Go(BEGIN_NS + S))
    (before,) = in_turn(line, 10, 1)
    clock.track.add(Ping(BEGIN_NS + 4 * S, AHEAD_NS - S, 50_000))
    (after,) = in_turn(line, 25, 1)
    assert after[0] - before[0] == pytest.approx(2.5, abs=1e-3)


def test_what_comes_before_the_start_and_beside_rows_stays(clock: MachineClock) -> None:
    line = followed(clock, 0)
    one = judged()
    assert line.ours(one) is one
    line.theirs(Go(START_NS))
    warm = dataclasses.replace(one, role="warm-up")
    connected = Connected(3, None)
    assert line.ours((warm, connected)) == (warm, connected)


def test_pulses_and_ends_are_told_by_the_heads_clock(clock: MachineClock) -> None:
    line = followed(clock, 0)
    line.theirs(Go(START_NS))
    at_ns = START_NS + AHEAD_NS
    pulse = line.ours(Pulse(at_ns, 0.5, b""))
    assert isinstance(pulse, Pulse)
    assert pulse.at_ns == pytest.approx(START_NS, abs=100_000)
    last = line.ours(Finished(at_ns + S, 1.0, 2, 3, 4.0, ClockFacts(at_ns, "step", 5)))
    assert isinstance(last, Finished)
    assert last.end_ns == pytest.approx(START_NS + S, abs=100_000)
    assert last.clock.own_since_ns == pytest.approx(START_NS, abs=100_000)
    whole = line.ours(Finished(at_ns, 1.0, 2, 3, 4.0, ClockFacts(None, "", 5)))
    assert isinstance(whole, Finished)
    assert whole.clock.own_since_ns is None
    # One second apart by the monotonic clock is one by the wall clock: it is the head's.
    assert last.wall_s - whole.wall_s == pytest.approx(1.0, abs=0.01)


def test_how_far_apart_it_started_is_told_by_the_final_line(clock: MachineClock) -> None:
    start_ns = BEGIN_NS + S
    clock.track.add(Ping(BEGIN_NS, AHEAD_NS, 40 * MS))  # one slow ping, which told it wrong
    line = Timeline(clock)
    line.theirs(Go(start_ns))
    for answer in pings(crystal(AHEAD_NS - 9 * MS, 0), Way(), 1, seconds=60, begin_ns=start_ns):
        clock.track.add(answer)
    apart_ms = line.facts()["start_apart_ms"]
    assert apart_ms == pytest.approx(9, abs=0.1)
    for due_s, lag_ms in ((0.5, 30.0), (0.1, 2.0), (0.3, 40.0)):
        line.ours(judged(t_sent_s=due_s + lag_ms / 1000, t_scheduled_s=due_s, send_lag_ms=lag_ms))
    assert line.facts()["start_apart_ms"] == pytest.approx(apart_ms + 2, abs=0.01)


def test_a_machine_is_told_how_its_rows_become_the_heads(clock: MachineClock) -> None:
    start_ns = time.perf_counter_ns() - 50 * S
    clock.track.add(Ping(start_ns - S, AHEAD_NS, 30 * MS))
    line = Timeline(clock)
    assert line.correction() is None  # before the start
    line.theirs(Go(start_ns))
    theirs = crystal(AHEAD_NS - 9 * MS, 80, start_ns)
    for answer in pings(theirs, Way(), 1, seconds=50, begin_ns=start_ns):
        clock.track.add(answer)
    told = line.correction()
    assert told is not None
    assert line.correction() is None  # not so soon again
    for since_ns in (0, 20 * S, 50 * S):
        one = judged(t_sent_s=since_ns / S, t_scheduled_s=since_ns / S, t_end_s=since_ns / S)
        moved = cast(Judged, line.ours(one)).record.t_end_s
        assert told.ours(since_ns) / S == pytest.approx(moved, abs=1e-4)


def test_facts_of_a_clock_that_nobody_told_are_none(clock: MachineClock) -> None:
    facts = Timeline(clock).facts()
    assert set(facts) == {
        *("offset_ms", "offset_error_ms", "drift_ppm", "ping_ms", "start_apart_ms")
    }
    assert set(facts.values()) == {None}
