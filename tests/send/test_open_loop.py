"""The open loop: requests go at their times, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from vllm_bench.plan.dealt.own import Own
from vllm_bench.plan.share import PlannedRequest, Target, Timeouts
from vllm_bench.reply.exchange import Exchange
from vllm_bench.send import lanes as lanes_module
from vllm_bench.send.closed_loop import ClosedLoop
from vllm_bench.send.lanes import Lanes
from vllm_bench.send.open_loop import OpenLoop
from vllm_bench.send.timer import PreciseTimer
from vllm_bench.wire.opening import open_connection

from tests.support.far_end import HANG, FarEnd, Step, good_stream, sse_script

MS = 1_000_000
PATIENT = Timeouts(5, 5, 5)
QUICK: list[Step] = sse_script(good_stream())
SLOW: list[Step] = [*QUICK[:2], 0.3, *QUICK[2:]]


def planned(count: int) -> list[PlannedRequest]:
    return [PlannedRequest(n, f"r-{n}", "p", b"{}", 3) for n in range(count)]


class Sent:
    """Sends requests to a far end, and keeps what ended."""

    def __init__(
        self,
        far_end: FarEnd,
        ready: int = 2,
        cap: int | None = None,
        timeouts: Timeouts = PATIENT,
    ) -> None:
        path = "/v1/chat/completions"
        target = Target(far_end.host, far_end.port, None, path, (), timeouts, stream=True)
        self.far_end = far_end
        self.ended: list[Exchange] = []
        self.most_in_flight = 0
        self.lanes = Lanes(target, self._report)
        for _ in range(ready):
            self.lanes.add()
        self.cap = cap
        self.start_ns = 0
        self._look: Callable[[], None] = lambda: None

    def _report(self, message: object) -> None:
        self.most_in_flight = max(self.most_in_flight, self.lanes.in_flight)
        if isinstance(message, tuple):
            self.ended.append(message[1])
            self._look()

    def run(
        self,
        after_ms: Sequence[float],
        stop_when_ended: int | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> list[Exchange]:
        self._look = look
        asyncio.run(asyncio.wait_for(self._run(after_ms, stop_when_ended), 20))
        return sorted(self.ended, key=lambda e: e.request_index)

    async def _run(self, after_ms: Sequence[float], stop_when_ended: int | None) -> None:
        await self.lanes.connect()
        loop = OpenLoop(
            self.lanes, planned(len(after_ms)), [int(ms * MS) for ms in after_ms], self.cap
        )
        self.start_ns = time.perf_counter_ns() + 20 * MS
        sending = asyncio.ensure_future(loop.run(self.start_ns))
        if stop_when_ended is not None:
            while len(self.ended) < stop_when_ended:
                await asyncio.sleep(0.001)
            loop.stop(cut_off=False)
        await sending
        self.lanes.close()


def test_each_request_is_meant_for_its_time_and_never_sent_before_it(far_end: FarEnd) -> None:
    far_end.scripts = [QUICK]
    times = [0, 0, 5, 12.5, 13, 40]
    sent = Sent(far_end)
    ended = sent.run(times)
    assert [e.t_scheduled_ns - sent.start_ns for e in ended] == [int(t * MS) for t in times]
    assert all(e.t_sent_ns >= e.t_scheduled_ns for e in ended)
    assert all(e.failure is None for e in ended)


def test_a_slow_reply_holds_up_nobody_behind_it(far_end: FarEnd) -> None:
    far_end.scripts = [SLOW, QUICK]
    ended = Sent(far_end).run([0, 1, 2, 3])
    assert all(e.t_end_ns < ended[0].t_end_ns for e in ended[1:])


def test_a_request_that_never_ends_holds_up_nobody_either(far_end: FarEnd) -> None:
    far_end.scripts = [[*QUICK[:2], HANG], QUICK]
    ended = Sent(far_end, timeouts=Timeouts(0.5, 0.5, 0.5)).run([0, 1, 2])
    assert [e.failure.kind if e.failure else None for e in ended] == ["timeout_total", None, None]


def test_what_waits_for_the_cap_keeps_the_time_that_it_was_meant_for(far_end: FarEnd) -> None:
    far_end.scripts = [SLOW]
    sent = Sent(far_end, cap=2)
    ended = sent.run([0, 0, 1, 2])
    assert sent.most_in_flight == 2
    assert [e.t_scheduled_ns - sent.start_ns for e in ended] == [0, 0, MS, 2 * MS]
    first_end = min(e.t_end_ns for e in ended[:2])
    assert all(e.t_sent_ns >= first_end for e in ended[2:])


def test_connections_that_are_ready_are_used_and_others_opened_when_needed(
    far_end: FarEnd,
) -> None:
    far_end.scripts = [SLOW]
    ended = Sent(far_end, ready=2).run([0, 0, 0, 0])
    assert sorted(e.connect_ns is None for e in ended) == [False, False, True, True]


def test_a_connection_that_was_idle_for_long_is_not_trusted(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_end.scripts = [QUICK]
    monkeypatch.setattr(lanes_module, "FRESH_NS", 0)
    ended = Sent(far_end, ready=1).run([0, 30, 60])
    assert all(e.failure is None for e in ended)
    assert len({r.connection for r in far_end.requests}) == 3


def test_after_a_rush_the_connections_that_are_too_many_are_closed(far_end: FarEnd) -> None:
    far_end.scripts = [SLOW] * 20 + [QUICK]
    sent = Sent(far_end, ready=3)
    open_at: list[int] = []
    sent.run([*[0] * 20, *range(400, 1200, 50)], look=lambda: open_at.append(sent.lanes.connected))
    assert max(open_at) > 10
    assert open_at[-1] <= 2 * 3 + 1  # what is ready, twice, and the one that carries a request


def test_stopping_sends_nothing_more_and_waits_for_what_is_under_way(far_end: FarEnd) -> None:
    far_end.scripts = [QUICK, SLOW]
    ended = Sent(far_end).run([0, 0, 60_000], stop_when_ended=1)
    assert [e.request_index for e in ended] == [0, 1]
    assert all(e.failure is None for e in ended)


def test_lanes_of_several_processes_share_no_number() -> None:
    target = Target("h", 1, None, "/", (), Timeouts(1, 1, 1), stream=True)
    several = [Lanes(target, print, Own(3, (first,))) for first in range(3)]
    numbers = [lanes.add().index for lanes in several for _ in range(4)]
    assert sorted(numbers) == list(range(12))


def test_the_timer_fires_once_for_each_instant_and_never_before_it() -> None:
    async def main() -> list[tuple[int, int]]:
        fired: asyncio.Queue[int] = asyncio.Queue()
        timer = PreciseTimer(
            asyncio.get_running_loop(), lambda: fired.put_nowait(time.perf_counter_ns())
        )
        found = []
        for wait_ms in (0.1, 3.7, 1.3):
            due = time.perf_counter_ns() + int(wait_ms * MS)
            timer.arm(due + 3_600_000 * MS)
            timer.arm(due)  # takes the other's place
            found.append((due, await fired.get()))
        timer.close()
        assert fired.empty()
        return found

    for due, fired_ns in asyncio.run(main()):
        assert fired_ns >= due


def test_a_rate_that_is_too_high_leaves_the_loop_time_for_orders(far_end: FarEnd) -> None:
    far_end.scripts = [QUICK]
    ended = Sent(far_end).run([0.0] * 3_000, stop_when_ended=1)  # all due at once
    assert len(ended) < 3_000


def test_a_connection_that_comes_after_its_request_was_given_up_is_not_kept(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_end.scripts = [[*QUICK[:3], HANG]]

    async def main() -> list[str | None]:
        waits_s = [0.6, 0.0]

        async def slowly(*how: Any) -> Any:
            await asyncio.sleep(waits_s.pop(0))
            return await open_connection(*how)

        monkeypatch.setattr(lanes_module, "open_connection", slowly)
        sent = Sent(far_end, ready=1, timeouts=Timeouts(0.2, 5, 5))
        requests = iter(planned(2))
        closed = ClosedLoop(sent.lanes, lambda: next(requests, None))
        sending = asyncio.ensure_future(closed.run(time.perf_counter_ns()))
        await asyncio.sleep(1)  # the first connection comes while the second carries a reply
        closed.stop(cut_off=True)
        await sending
        while far_end.hung_up == 0:  # the server sees the client hang up
            await asyncio.sleep(0.01)
        return [e.failure.kind if e.failure else None for e in sent.ended]

    kinds = asyncio.run(asyncio.wait_for(main(), 10))
    assert kinds == ["timeout_first_token", "cancelled"]
