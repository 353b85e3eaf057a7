"""One thread asks machines for their clocks, and none that is frozen or gone holds it up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from vllm_bench.crew.worker import FROZEN_S
from vllm_bench.machines.clocks.pings import BURST, EVERY_S, MOST_OPEN, MachineClock, Pings

S = 1_000_000_000
LONG_S = 30.0  # that a machine under load may need for fifty answers


def answer(pipe: Connection, ahead_ns: int, times: int) -> None:
    with pipe, contextlib.suppress(EOFError, OSError):
        for _ in range(times):
            number = pipe.recv()
            pipe.send((number, time.perf_counter_ns() + ahead_ns))


@contextlib.contextmanager
def machine(ahead_ns: int, times: int = 10**9) -> Iterator[MachineClock]:
    """A machine whose clock is ahead, and that answers so many pings, then hangs up."""
    ours, theirs = Pipe()
    clock = MachineClock(ours)
    answering = threading.Thread(target=answer, args=(theirs, ahead_ns, times), daemon=True)
    answering.start()
    yield clock
    clock.close()
    answering.join()


def until(true: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + LONG_S
    while not true() and time.monotonic() < give_up_s:
        time.sleep(0.01)
    return true()


def test_clocks_are_told_to_their_own_bound() -> None:
    ahead_ns = (1_000 * S, -30 * S)
    with machine(ahead_ns[0]) as first, machine(ahead_ns[1]) as second:
        Pings([first, second]).burst(LONG_S)
        for clock, ahead in zip((first, second), ahead_ns, strict=True):
            facts = clock.facts()
            assert abs(facts["offset_ms"] - ahead / 1e6) <= facts["offset_error_ms"] + 0.001
            assert 0 < facts["ping_ms"]["fastest"] <= facts["ping_ms"]["p99"]
            now_ns = time.perf_counter_ns()
            assert abs(clock.to_ours(clock.to_theirs(now_ns)) - now_ns) < 1000


def test_pings_go_on_between_bursts() -> None:
    with machine(0) as clock:
        pings = Pings([clock])
        assert until(lambda: clock.track.known)
        before = clock.answered
        assert until(lambda: clock.answered >= before + 2)
        pings.burst(LONG_S)
        assert clock.answered >= before + BURST


def test_a_frozen_machine_holds_up_no_other() -> None:
    ours, frozen = Pipe()
    silent = MachineClock(ours)
    with machine(5 * S) as clock:
        pings = Pings([silent, clock])
        begin_s = time.monotonic()
        pings.burst(1.0)
        assert time.monotonic() - begin_s < LONG_S
        assert clock.answered >= BURST
        assert not silent.track.known
        for _ in range(2 * MOST_OPEN):
            silent.ask(0.0)
        asked = 0
        while frozen.poll(0):
            frozen.recv()
            asked += 1
        assert asked == MOST_OPEN  # more would only pile up
        assert clock.answers
        assert not silent.answers
        silent.close()
        frozen.close()


def test_it_is_frozen_as_soon_as_it_was_silent_for_as_long_as_nobody_may_be() -> None:
    ours, theirs = Pipe()
    clock, now_s = MachineClock(ours), 0.0
    clock.ask(now_s)
    while not clock.frozen():
        now_s = clock.due_s
        clock.ask(now_s)
    assert FROZEN_S <= now_s <= FROZEN_S + 2 * EVERY_S
    clock.close()
    theirs.close()


def test_one_that_hangs_up_is_asked_no_more() -> None:
    with machine(0, times=3) as clock, machine(0) as other:
        pings = Pings([clock, other])
        assert until(lambda: clock.closed)
        before = other.answered
        pings.burst(LONG_S)  # doesn't wait for it
        assert other.answered >= before + BURST


def test_a_run_counts_its_own_pings() -> None:
    with machine(0) as clock:
        Pings([clock]).burst(LONG_S)
        clock.begin()
        assert clock.answered >= BURST
        facts = clock.facts()
        assert facts["ping_ms"] is None or facts["ping_ms"]["p99"] > 0
