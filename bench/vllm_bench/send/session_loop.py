"""Sessions: each turn goes when those that it waits for have ended and its wait is over.

Never by absolute time within a session: on a slower server its turns would overlap, as an agent's
never do. Sub-agents may be under way together, so a play takes lanes as it needs them; a stream is
busy until all of its play has ended, and then begins the next. In an open loop plays begin by the
clock. A turn that failed ends its session: what is under way of it goes on, and nothing more is
sent.

Whether a turn failed is read on the sending loop, after its last stamp and before the next turn is
sent: where prompts are known before, off the answer's end alone; where they have the answer in
them, off all of it. That time (some microseconds, or some per token) shows as the next turn's lag.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ..plan.share import Share
from ..reply.exchange import Exchange
from .closed_loop import REOPEN_NS, connected_by
from .lanes import Lane, Lanes
from .timer import in_background, sleep_until
from .turns.answer import answer_text, ended_well
from .turns.play import Play, Stream


class SessionLoop:
    """The sessions of a share, by streams or by the clock."""

    def __init__(
        self,
        lanes: Lanes,
        share: Share,
        take: Callable[[], int | None],
        begins_ns: Sequence[int] = (),
        end_ns: int | None = None,
    ) -> None:
        """`take` gives a ticket for a stream's next play; None: no more.

        `end_ns`: when no turn goes any more; None: each play goes on to its end.
        """
        assert share.plays is not None
        self._lanes, self._share, self._plays = lanes, share, share.plays
        self._take = take
        self._begins_ns = begins_ns
        self._end_ns = end_ns
        self._idle = list(lanes)
        self._carried: dict[Lane, tuple[Play, int]] = {}
        self._open: dict[Play, set[asyncio.Task[None]]] = {}  # with their turns that wait
        self._starting: set[asyncio.Task[None]] = set()  # plays and streams that will begin
        self._stopping = False
        self._over = asyncio.Event()
        lanes.on_free = self._freed

    async def run(self, start_ns: int) -> None:
        """Play from `start_ns` on; return when all has ended."""
        watching: set[asyncio.Task[None]] = set()
        in_background(self._lanes.watch_deadlines(), watching)
        if self._end_ns is not None:
            in_background(self._stop_at(self._end_ns), watching)
        if self._share.due_ns is None:
            await self._begin_streams(start_ns)
        elif not self._stopping:
            in_background(self._by_the_clock(start_ns, self._share.due_ns), self._starting)
        self._end_if_idle()
        await self._over.wait()
        for task in watching:
            task.cancel()

    async def _stop_at(self, end_ns: int) -> None:
        await sleep_until(end_ns)
        self.stop(cut_off=False)

    async def _begin_streams(self, start_ns: int) -> None:
        streams = [Stream(lane.index) for lane in self._lanes]
        if not self._begins_ns:
            await sleep_until(start_ns)
            for stream in streams:
                self._begin(stream, start_ns)
        elif not self._stopping:
            for stream, begin_ns in zip(streams, self._begins_ns, strict=True):
                self._begin_later(stream, start_ns + begin_ns)

    async def _by_the_clock(self, start_ns: int, due_ns: Sequence[int]) -> None:
        for place, due in enumerate(due_ns):
            await sleep_until(start_ns + due - 2 * REOPEN_NS)
            number = self._share.play_numbers.number(place)
            self._start(Play(self._plays, number, Stream(None), start_ns + due), None)
        self._begun()

    def stop(self, *, cut_off: bool) -> None:
        """Stop sending new requests and, if asked, cut off those in flight."""
        self._stopping = True
        for task in self._starting:
            task.cancel()
        self._starting.clear()
        for play in list(self._open):
            self._send_no_more(play)
        if cut_off:
            self._lanes.cut_off()
        self._end_if_idle()

    def _begin(self, stream: Stream, due_ns: int, lane: Lane | None = None) -> None:
        """Begin a stream's next play, if there is one and sending wasn't stopped."""
        ticket = None if self._stopping else self._take()
        if ticket is not None:
            number = self._share.play_numbers.number(ticket)
            self._start(Play(self._plays, number, stream, due_ns), lane)
        else:
            self._put_back(lane)

    def _start(self, play: Play, lane: Lane | None) -> None:
        self._open[play] = set()
        play.open = 1  # until its first turns are on their way
        lane = self._schedule(play, play.first(), lane)
        self._turn_over(play, lane, play.start_ns, 0)

    def _schedule(
        self, play: Play, turns: Iterable[tuple[int, int]], lane: Lane | None
    ) -> Lane | None:
        """Send these turns when they are due; return the lane if none of them took it."""
        for place, due_ns in turns:
            if play.failed or self._stopping:
                break
            play.open += 1
            taken, lane = lane or self._free_lane(), None
            taken.turned_away = play.stream.turned_away
            if due_ns <= time.perf_counter_ns():
                self._send(play, place, due_ns, taken)
            else:
                waiting = self._send_later(play, place, due_ns, taken)
                task = in_background(waiting, self._open[play])
                task.add_done_callback(partial(self._put_back_unused, taken))
        return lane

    async def _send_later(self, play: Play, place: int, due_ns: int, lane: Lane) -> None:
        await connected_by(self._lanes, lane, due_ns)
        # Removed here and not at the task's end: a reply may come before that.
        self._open[play].discard(_this_task())
        self._send(play, place, due_ns, lane)

    def _send(self, play: Play, place: int, due_ns: int, lane: Lane) -> None:
        planned = self._share.requests[play.request(place)]
        if self._share.talk is not None:
            planned = self._share.talk.request(planned, play.messages(place, self._share.talk))
        if play.stream.index is not None:
            lane.index = play.stream.index
        lane.kept = bytearray()
        self._carried[lane] = play, place
        self._lanes.send(lane, planned, due_ns)

    def _freed(self, lane: Lane, exchange: Exchange, freed_ns: int) -> None:
        play, place = self._carried.pop(lane)
        wait_ns = lane.wait_ns(exchange)
        play.stream.turned_away = lane.turned_away
        free: Lane | None = lane
        if self._well(play, place, lane, exchange):
            free = self._schedule(play, play.after(place, freed_ns), lane)
        else:
            play.failed = True
            self._send_no_more(play)
        self._turn_over(play, free, freed_ns, wait_ns)
        self._end_if_idle()

    def _well(self, play: Play, place: int, lane: Lane, exchange: Exchange) -> bool:
        """Whether a turn succeeded; note its answer where a later one needs it."""
        body, lane.kept = bytes(lane.kept or b""), None
        stream, choices = self._lanes.target.stream, self._share.choices
        if self._share.talk is None:
            return ended_well(exchange, body, stream=stream, choices=choices)
        answer = answer_text(exchange, body, stream=stream, choices=choices)
        if answer is not None:
            play.answered(place, answer)
        return answer is not None

    def _turn_over(self, play: Play, lane: Lane | None, freed_ns: int, wait_ns: int) -> None:
        """Go on after a turn: where it was its play's last, the stream begins the next.

        If the server has asked for a wait, once that is over.
        """
        play.open -= 1
        over, stream = play.open == 0, play.stream
        if over:
            self._open.pop(play, None)
        if not over or stream.index is None or self._stopping:
            self._put_back(lane)
        elif wait_ns:
            self._put_back(lane)
            self._begin_later(stream, freed_ns + wait_ns, wait_ns)
        else:
            self._begin(stream, freed_ns, lane)

    def _begin_later(self, stream: Stream, due_ns: int, waited_ns: int = 0) -> None:
        lane = self._free_lane()
        lane.turned_away, lane.waited_ns = stream.turned_away, waited_ns
        in_background(self._wait_and_begin(stream, due_ns, lane), self._starting)

    async def _wait_and_begin(self, stream: Stream, due_ns: int, lane: Lane) -> None:
        await connected_by(self._lanes, lane, due_ns)
        self._begin(stream, due_ns, lane)
        self._begun()

    def _begun(self) -> None:
        self._starting.discard(_this_task())
        self._end_if_idle()

    def _send_no_more(self, play: Play) -> None:
        """Cancel what waits of a play."""
        waiting = self._open[play]
        play.open -= len(waiting)
        for task in waiting:
            task.cancel()
        waiting.clear()
        if play.open == 0:
            del self._open[play]

    def _put_back(self, lane: Lane | None) -> None:
        if lane is not None:
            self._idle.append(lane)

    def _put_back_unused(self, lane: Lane, waiting: asyncio.Task[None]) -> None:
        if waiting.cancelled():
            self._put_back(lane)

    def _free_lane(self) -> Lane:
        """Return a free lane, with a fresh connection if there is one."""
        now_ns = time.perf_counter_ns()
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place].fresh(now_ns):
                return self._idle.pop(place)
        return self._idle.pop() if self._idle else self._lanes.add()

    def _end_if_idle(self) -> None:
        if self._lanes.in_flight == 0 and not self._open and not self._starting:
            self._over.set()


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
