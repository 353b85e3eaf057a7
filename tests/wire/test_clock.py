"""Which clock stamps: planted offsets and steps, and what comes beside the bytes of a read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from vllm_bench.wire import clock as clock_module
from vllm_bench.wire.clock import STEP_NS, Clock, Control, Pair, pair_clocks

S = 1_000_000_000
WALL_NS = 1_700_000_000 * S  # the wall clock, less the monotonic one


def kernel_stamp(ns: int) -> Control:
    """What comes beside the bytes of a packet that arrived at a time of the wall clock."""
    return [(1, 35, struct.pack("@qq", *divmod(ns, S)))]


def paired(*offsets_ns: int, width_ns: int = 100) -> Callable[[], Pair]:
    """Clocks that are so far apart each time that they are paired."""
    pairs = iter([Pair(offset_ns, width_ns) for offset_ns in offsets_ns])
    return lambda: next(pairs)


def test_a_stamp_of_the_wall_clock_is_told_in_the_monotonic_one() -> None:
    clock = Clock(paired(WALL_NS))
    assert clock.arrived_ns(kernel_stamp(WALL_NS + 5 * S + 7), 6 * S) == 5 * S + 7


def test_pairs_of_real_clocks_hardly_differ() -> None:
    one, other = pair_clocks(), pair_clocks()
    assert one.width_ns >= 0
    assert abs(one.offset_ns - other.offset_ns) <= STEP_NS + one.width_ns + other.width_ns


@pytest.mark.parametrize(
    ("jump_ns", "width_ns", "why"),
    [
        (0, 100, ""),
        (50_000, 100, ""),
        (-50_000, 100, ""),
        (50_200, 100, "step"),
        (-50_200, 100, "step"),
        (50_200, 1_000, ""),  # both clocks couldn't be read at one moment: it proves nothing
        (3600 * S, 100, "step"),
    ],
)
def test_a_jump_of_more_than_50_us_is_a_step(jump_ns: int, width_ns: int, why: str) -> None:
    clock = Clock(paired(WALL_NS, WALL_NS + jump_ns, width_ns=width_ns))
    facts = clock.end()
    assert facts.why == why
    assert (facts.own_since_ns is None) == clock.kernel == (why == "")
    if clock.kernel:
        assert facts.apart_ns == abs(jump_ns) + width_ns
        # The newest pair tells.
        assert clock.arrived_ns(kernel_stamp(WALL_NS + jump_ns + S), 9 * S) == S


def test_after_a_step_stamps_are_the_process_own_until_another_run_begins() -> None:
    clock = Clock(paired(WALL_NS, WALL_NS + S, WALL_NS + S, WALL_NS + S))
    clock.end()
    assert clock.arrived_ns(kernel_stamp(WALL_NS + 3 * S), 3 * S + 5) == 3 * S + 5
    clock.end()
    assert not clock.kernel  # although the clocks keep together again
    clock.begin()
    assert clock.arrived_ns(kernel_stamp(WALL_NS + 4 * S), 9 * S) == 3 * S


@pytest.mark.parametrize(
    "control",
    [
        [],
        [(1, 35, b"")],  # too little space was asked for
        [(1, 35, bytes(8))],  # a system of 32 bits
        [(1, 37, bytes(48)), *kernel_stamp(WALL_NS + 2 * S)],  # SO_TIMESTAMPING beside it
    ],
)
def test_a_read_without_a_stamp_ends_those_of_the_kernel(control: Control) -> None:
    clock = Clock(paired(WALL_NS, WALL_NS))
    assert clock.arrived_ns(control, 7) == 7
    # Own stamps are late, and one of the kernel's after them could be out of order.
    assert clock.arrived_ns(kernel_stamp(WALL_NS + 3), 9) == 9
    facts = clock.end()
    assert (facts.own_since_ns, facts.why) == (7, "no stamp")


@pytest.mark.parametrize(("after_s", "apart_ns", "pairs"), [(0, 0, 1), (1, 0, 2), (0, 60_000, 2)])
def test_before_each_batch_a_step_is_looked_for_and_each_second_the_clocks_are_paired(
    monkeypatch: pytest.MonkeyPatch, after_s: int, apart_ns: int, pairs: int
) -> None:
    now = {"monotonic": 0, "apart": WALL_NS}
    times = SimpleNamespace(
        perf_counter_ns=lambda: now["monotonic"], time_ns=lambda: now["monotonic"] + now["apart"]
    )
    monkeypatch.setattr(clock_module, "time", times)
    taken: list[Pair] = []

    def pair() -> Pair:
        taken.append(Pair(now["apart"], 0))
        return taken[-1]

    clock = Clock(pair)
    now["monotonic"] += after_s * S
    now["apart"] += apart_ns
    clock.look()
    assert len(taken) == pairs
    assert clock.kernel == (apart_ns == 0)
    assert clock.end().own_since_ns == (None if apart_ns == 0 else after_s * S)
