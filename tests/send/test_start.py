"""How the streams of a closed loop begin, and when they find no more work."""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from vllm_bench.plan.dealt.own import ALL
from vllm_bench.plan.sessions.script import Course, Plays, Script, Step
from vllm_bench.plan.share import PlannedRequest, Share, Target, Timeouts
from vllm_bench.reply.exchange import Exchange
from vllm_bench.send import tickets as tickets_module
from vllm_bench.send.closed_loop import ClosedLoop
from vllm_bench.send.lanes import Lane, Lanes
from vllm_bench.send.session_loop import SessionLoop
from vllm_bench.send.tickets import Tickets

MS = 1_000_000
Loops = ClosedLoop | SessionLoop


class Answered(Lanes):
    """Lanes whose requests are answered after a time, without a server; notes what was sent."""

    def __init__(self, lanes: int, reply_s: float = 0.002) -> None:
        timeouts = Timeouts(5, 5, 5)
        super().__init__(Target("127.0.0.1", 1, None, "/", (), timeouts, stream=True), print)
        self.sent: list[tuple[int, int, int]] = []  # lane, slot, when it was really sent
        self._reply_s = reply_s
        for _ in range(lanes):
            self.add()

    async def open(self, lane: Lane) -> None:
        return None

    def send(self, lane: Lane, request: PlannedRequest, slot_ns: int) -> None:
        self.sent.append((lane.index, slot_ns, time.perf_counter_ns()))
        self.in_flight += 1
        exchange = Exchange(request.index, lane.index, t_scheduled_ns=slot_ns)
        asyncio.get_running_loop().call_later(self._reply_s, self._answer, lane, exchange)

    def _answer(self, lane: Lane, exchange: Exchange) -> None:
        self.in_flight -= 1
        self.on_free(lane, exchange, time.perf_counter_ns())


def request(index: int) -> PlannedRequest:
    return PlannedRequest(index, f"r-{index}", "p", b"{}", 1)


def closed(lanes: Lanes, numbers: Iterator[int | None], begins_ns: list[int]) -> Loops:
    def take() -> PlannedRequest | None:
        number = next(numbers, None)
        return None if number is None else request(number)

    return ClosedLoop(lanes, take, begins_ns)


def talking(lanes: Lanes, numbers: Iterator[int | None], begins_ns: list[int]) -> Loops:
    requests = [request(n) for n in range(8)]
    plays = Plays((Script("s", Course((Step(),))),), array("B", [0]), 8)
    share = Share(lanes.target, ALL, len(list(lanes)), (), requests, plays=plays)
    return SessionLoop(lanes, share, lambda: next(numbers, None), begins_ns)


Loop = Callable[[Lanes, Iterator[int | None], list[int]], Loops]
both = pytest.mark.parametrize("loop", [closed, talking])


def run(loop: Loops) -> int:
    """Run a loop made in this event loop's place; return when it was started."""
    start_ns = time.perf_counter_ns() + 5 * MS

    async def main() -> None:
        await asyncio.wait_for(loop.run(start_ns), 10)

    asyncio.run(main())
    return start_ns


@both
def test_each_stream_sends_first_in_its_own_slot_and_then_as_its_replies_end(loop: Loop) -> None:
    lanes, begins_ns = Answered(3, reply_s=0.1), [40 * MS, 0, 20 * MS]
    start_ns = run(loop(lanes, iter(range(8)), begins_ns))
    first: dict[int, tuple[int, int]] = {}
    for lane, slot_ns, sent_ns in lanes.sent:
        first.setdefault(lane, (slot_ns, sent_ns))
        assert sent_ns >= slot_ns
    assert {lane: slot - start_ns for lane, (slot, _) in first.items()} == dict(
        enumerate(begins_ns)
    )
    assert len(lanes.sent) == 8


@both
def test_a_stream_that_is_not_yet_due_keeps_a_loop_going_whose_others_rest(loop: Loop) -> None:
    lanes = Answered(2)
    run(loop(lanes, iter([0, None, 1]), [0, 60 * MS]))
    assert [lane for lane, *_ in lanes.sent] == [0, 1]


@both
def test_streams_without_a_request_left_end_when_they_are_due(loop: Loop) -> None:
    lanes = Answered(2)
    run(loop(lanes, iter([0]), [0, 30 * MS]))
    assert len(lanes.sent) == 1


@both
@pytest.mark.parametrize("cut_off", [False, True])
def test_sending_that_is_stopped_during_the_start_begins_no_further_stream(
    loop: Loop, cut_off: bool
) -> None:
    lanes = Answered(2)

    async def main() -> None:
        streams = loop(lanes, iter(range(8)), [0, 3600 * 1000 * MS])
        running = asyncio.ensure_future(streams.run(time.perf_counter_ns()))
        while not lanes.sent:
            await asyncio.sleep(0.001)
        streams.stop(cut_off=cut_off)
        await asyncio.wait_for(running, 10)

    asyncio.run(main())
    assert {lane for lane, *_ in lanes.sent} == {0}


@both
def test_sending_that_was_stopped_before_it_began_sends_nothing(loop: Loop) -> None:
    lanes = Answered(2)

    async def main() -> None:
        streams = loop(lanes, iter(range(8)), [0, 20 * MS])
        streams.stop(cut_off=False)
        await asyncio.wait_for(streams.run(time.perf_counter_ns()), 10)

    asyncio.run(main())
    assert lanes.sent == []


def test_by_time_no_ticket_is_taken_after_the_end_before_the_least_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = itertools.count(0, 10)
    clock = SimpleNamespace(perf_counter_ns=lambda: next(now_ns))
    monkeypatch.setattr(tickets_module, "time", clock)
    for fewest, given in ((0, 3), (2, 3), (5, 5)):
        now_ns = itertools.count(0, 10)
        tickets = Tickets(100)
        take = tickets.until(30, fewest)
        assert [take() for _ in range(8)] == [*range(given), *[None] * (8 - given)]
        assert tickets.taken() == given  # none was taken in vain
        tickets.close()
