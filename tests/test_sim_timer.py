from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from sim.engine import timer
from sim.engine.timer import Timer, precise_timer

MS = 1_000_000


@pytest.fixture(params=["linux", "darwin"], ids=["timerfd", "loop"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer.sys, "platform", request.param)


def fired(deadlines_ms: list[int], again: Callable[[Timer, int], None] | None = None) -> list[int]:
    """When the timer fired, in ns from the start; the deadlines are set one after the other."""
    fires: list[int] = []
    start_ns = time.perf_counter_ns()

    async def run() -> None:
        def fire() -> None:
            fires.append(time.perf_counter_ns() - start_ns)
            if again is not None:
                again(clock, len(fires))

        clock = precise_timer(asyncio.get_running_loop(), fire)
        for deadline_ms in deadlines_ms:
            clock.arm(start_ns + deadline_ms * MS)
        await asyncio.sleep(0.05)
        clock.close()
        await asyncio.sleep(0.01)

    asyncio.run(run())
    return fires


@pytest.mark.usefixtures("system")
class TestTimer:
    def test_it_fires_once_after_its_deadline(self) -> None:
        (at_ns,) = fired([3])
        assert at_ns >= 3 * MS - MS  # the loop's own timer may be early by its resolution

    def test_only_the_last_deadline_counts(self) -> None:
        (at_ns,) = fired([1, 20])
        assert at_ns >= 19 * MS
        assert len(fired([20, 1])) == 1

    def test_a_deadline_in_the_past_fires_at_once(self) -> None:
        assert len(fired([-1000])) == 1

    def test_it_can_be_set_again_while_it_fires(self) -> None:
        def again(clock: Timer, fires: int) -> None:
            if fires < 3:
                clock.arm(time.perf_counter_ns() + MS)

        assert len(fired([1], again)) == 3

    def test_it_never_fires_once_closed(self) -> None:
        assert fired([55]) == []
