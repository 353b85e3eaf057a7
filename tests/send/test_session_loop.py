"""Sessions on the sending loop: who goes when, what a failure ends, and how a history grows."""

from __future__ import annotations

import asyncio
import itertools
import json
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.dealt.own import ALL, Own
from vllm_bench.plan.sessions.script import Course, Plays, Script, Step
from vllm_bench.plan.share import PlannedRequest, Share, Talk, Target, Timeouts
from vllm_bench.reply.exchange import Exchange
from vllm_bench.send.lanes import Lane, Lanes
from vllm_bench.send.session_loop import SessionLoop
from vllm_bench.send.turns.play import NO_TEXT

from tests.send.virtual_time import run_in_no_time
from tests.support.far_end import delta, event, good_stream, usage

S = 1_000_000_000  # ns
GOOD = b"".join(good_stream())
BAD = b'data: {"error": {"message": "no", "code": 500}}\n\n'


@dataclass
class Sent:
    """A request that went: on which stream, when it was due and sent, and when it ended."""

    number: int
    stream: int
    due_s: float
    sent_s: float
    end_s: float
    body: bytes


class Answering(Lanes):
    """Lanes without a server: each request is answered after a time, with a body of its own."""

    def __init__(
        self,
        lanes: int,
        reply: Callable[[int], tuple[float, bytes]],
        *,
        stream: bool = True,
        away: Collection[int] = (),
    ) -> None:
        """`reply` by the request's number; those in `away` are refused with 503."""
        target = Target("127.0.0.1", 1, None, "/", (), Timeouts(1e6, 1e6, 1e6), stream=stream)
        super().__init__(target, lambda message: None)
        self.sent: list[Sent] = []
        self.waited_s: list[float] = []  # of each, because of what was refused before
        self._reply, self._away = reply, away
        for _ in range(lanes):
            self.add()

    async def open(self, lane: Lane) -> str | None:
        return None

    def send(self, lane: Lane, request: PlannedRequest, slot_ns: int) -> None:
        loop, (takes_s, body) = asyncio.get_running_loop(), self._reply(request.index)
        now_s = loop.time()
        self.in_flight += 1
        sent = Sent(request.index, lane.index, slot_ns / S, now_s, now_s + takes_s, request.body)
        self.sent.append(sent)
        self.waited_s.append(lane.waited_ns / S)
        lane.waited_ns = 0
        loop.call_later(takes_s, self._answer, lane, request.index, body)

    def _answer(self, lane: Lane, index: int, body: bytes) -> None:
        self.in_flight -= 1
        now_ns = round(asyncio.get_running_loop().time() * S)
        lane.kept = bytearray(body)
        status = 503 if index in self._away else 200
        done = Exchange(index, lane.index, now_ns, now_ns, t_end_ns=now_ns, http_status=status)
        done.content_type = "text/event-stream" if self.target.stream else "application/json"
        self.on_free(lane, done, now_ns)


def plays_of(*courses: Sequence[Step], wanted: int | None = None, **more: Any) -> Plays:
    scripts = tuple(Script(f"s{n}", Course(tuple(course))) for n, course in enumerate(courses))
    order = array("I", range(len(scripts)))
    return Plays(scripts, order, len(scripts) if wanted is None else wanted, **more)


def played(
    plays: Plays,
    *,
    streams: int = 1,
    takes_s: float | Callable[[int], float] = 1.0,
    failing: Sequence[int] = (),
    **share: Any,
) -> list[Sent]:
    """Play everything; return what was sent, in order. `takes_s` by the request's number."""

    def reply(number: int) -> tuple[float, bytes]:
        time_s = takes_s(number) if callable(takes_s) else takes_s
        return time_s, BAD if number in failing else GOOD

    lanes = Answering(streams, reply)
    numbers = iter(range(plays.wanted))
    made = share_of(lanes, plays, **share)

    async def main() -> None:
        await SessionLoop(lanes, made, lambda: next(numbers, None)).run(0)

    run_in_no_time(main())
    return lanes.sent


def share_of(lanes: Lanes, plays: Plays, **more: Any) -> Share:
    requests = tuple(
        PlannedRequest(n, f"r-{n}", "p", b"{}", 1) for n in range(plays.first(plays.wanted))
    )
    return Share(lanes.target, ALL, len(list(lanes)), (), requests, plays=plays, **more)


def chain(*waits_s: float) -> list[Step]:
    """Return turns that follow one another, the first without a wait."""
    first = Step()
    rest = [Step((n,), round(wait_s * S), "tool", history=n) for n, wait_s in enumerate(waits_s)]
    return [first, *rest]


def times(sent: Sequence[Sent]) -> list[tuple[int, float]]:
    return [(one.number, round(one.due_s, 6)) for one in sent]


@pytest.mark.parametrize("takes_s", [1.0, 2.0])
def test_a_turn_waits_for_the_answer_and_then_for_its_gap_on_a_slower_server_too(
    takes_s: float,
) -> None:
    sent = played(plays_of(chain(3, 0, 8)), takes_s=takes_s)
    gaps = [later.due_s - one.end_s for one, later in itertools.pairwise(sent)]
    assert gaps == pytest.approx([3, 0, 8])
    assert [one.sent_s for one in sent] == pytest.approx([one.due_s for one in sent])


FORK = [
    Step(),
    Step((0,), 1 * S, "tool", agent="a"),
    Step((0,), 2 * S, "tool", agent="b"),
    Step((1,), 1 * S, "tool", agent="a"),
    Step((0, 2, 3), 5 * S, "tool", history=0),
]


def test_sub_agents_are_under_way_together_and_their_parent_waits_for_the_last() -> None:
    sent = played(plays_of(FORK), takes_s=10)
    assert times(sent) == [(0, 0), (1, 11), (2, 12), (3, 22), (4, 37)]  # 3 ends at 32
    assert {one.stream for one in sent} == {0}


def test_a_stream_is_busy_until_the_whole_tree_has_ended() -> None:
    parallel = [Step(), Step((), 2 * S)]  # nothing waits for either
    sent = played(plays_of(parallel, chain()), takes_s=lambda n: 30 if n == 1 else 1)
    assert times(sent) == [(0, 0), (1, 2), (2, 32)]


def test_streams_play_beside_each_other_and_take_the_next_session_as_they_end() -> None:
    plays = plays_of(chain(5), chain(1), chain(), wanted=4)
    sent = played(plays, streams=2)
    assert times(sent) == [(0, 0), (2, 0), (3, 2), (4, 3), (5, 4), (1, 6), (6, 10)]
    assert [one.stream for one in sent] == [0, 1, 1, 1, 1, 0, 1]


def test_a_turn_that_fails_ends_its_session_and_the_stream_goes_on_with_the_next() -> None:
    sent = played(plays_of(chain(1, 1, 1, 1), chain(1)), failing=[1])
    assert [one.number for one in sent] == [0, 1, 5, 6]
    assert sent[2].due_s == sent[1].end_s


def test_what_is_under_way_of_a_session_that_failed_goes_on_and_nothing_follows_it() -> None:
    takes_s = {0: 1.0, 1: 1.0, 2: 20.0}
    sent = played(plays_of(FORK, chain()), failing=[1], takes_s=lambda n: takes_s.get(n, 1.0))
    # 1 is due at 2 s and fails at 3 s, just as 2 goes; 3 and 4 are never sent.
    assert [one.number for one in sent] in ([0, 1, 5], [0, 1, 2, 5])
    assert sent[-1].due_s == max(one.end_s for one in sent[:-1])


def test_a_stamp_is_kept_or_the_last_answer_held_it() -> None:
    steps = [Step(not_before_ns=0), *(Step((n,), not_before_ns=(n + 1) * 10 * S) for n in range(3))]
    quick = played(plays_of(steps), takes_s=1)
    assert [one.due_s for one in quick] == [0, 10, 20, 30]
    slow = played(plays_of(steps), takes_s=lambda n: 25 if n == 0 else 1)
    assert [one.due_s for one in slow] == [0, 25, 26, 30]


def test_the_first_plays_may_begin_deeper_and_requests_are_numbered_without_gaps() -> None:
    plays = plays_of(chain(5, 5, 5), wanted=3, begins=(2, 1))
    sent = played(plays, streams=2)
    assert [plays.at(one.number) for one in sent if one.due_s == 0] == [(0, 2), (1, 1)]
    assert sorted(one.number for one in sent) == list(range(2 + 3 + 4))
    deep = replace(plays_of(FORK, wanted=1), begins=(2,))
    # 1 lies behind it, so that what waited for it has its wait from the start.
    assert [(deep.at(n)[1], due) for n, due in times(played(deep))] == [(2, 0), (3, 1), (4, 7)]


def test_stamps_of_a_deeper_play_count_from_a_session_that_began_before() -> None:
    steps = [Step(not_before_ns=0), *(Step((n,), not_before_ns=(n + 1) * 10 * S) for n in range(3))]
    sent = played(plays_of(steps, wanted=1, begins=(2,)))
    assert [one.due_s for one in sent] == [0, 10]


def test_by_the_clock_plays_begin_at_their_times_however_long_others_take() -> None:
    plays = plays_of(chain(50), chain(1), chain())
    due = array("q", [0, 3 * S, 4 * S])
    sent = played(plays, takes_s=10, due_ns=due)
    assert times(sent) == [(0, 0), (2, 3), (4, 4), (3, 14), (1, 60)]
    every_other = played(plays, takes_s=10, due_ns=array("q", [3 * S]), play_numbers=Own(2, (1,)))
    assert times(every_other) == [(2, 3), (3, 14)]


def test_sending_that_is_stopped_sends_no_turn_that_waits() -> None:
    lanes = Answering(2, lambda number: (1.0, GOOD))
    numbers = iter(range(2))
    loop = SessionLoop(
        lanes, share_of(lanes, plays_of(chain(5), chain(1, 50))), lambda: next(numbers, None)
    )

    async def main() -> float:
        asyncio.get_running_loop().call_later(4, lambda: loop.stop(cut_off=False))
        await loop.run(0)
        return asyncio.get_running_loop().time()

    assert run_in_no_time(main()) == pytest.approx(4)
    assert [one.number for one in lanes.sent] == [0, 2, 3]


def test_by_time_no_turn_goes_after_the_end_and_what_is_under_way_is_answered() -> None:
    lanes = Answering(2, lambda number: (1.0, GOOD))
    numbers = iter(range(9))
    plays = plays_of(chain(2, 2, 2), wanted=9)
    share = share_of(lanes, plays)
    loop = SessionLoop(lanes, share, lambda: next(numbers, None), end_ns=round(6.5 * S))

    async def main() -> float:
        await loop.run(0)
        return asyncio.get_running_loop().time()

    assert run_in_no_time(main()) == pytest.approx(7)
    assert {one.due_s for one in lanes.sent} == {0, 3, 6}


def test_a_stream_that_was_turned_away_waits_before_its_next_session() -> None:
    plays = plays_of(chain(1), chain(1))
    lanes = Answering(1, lambda number: (1.0, GOOD), away={0})
    numbers = iter(range(2))
    loop = SessionLoop(lanes, share_of(lanes, plays), lambda: next(numbers, None))

    async def main() -> None:
        await loop.run(0)

    run_in_no_time(main())
    assert [one.number for one in lanes.sent] == [0, 2, 3]
    assert lanes.sent[1].due_s == pytest.approx(1 + lanes.waited_s[1])
    assert lanes.waited_s[1] > 0 == lanes.waited_s[2]


def test_a_reply_that_is_there_at_once_ends_the_run_as_any_other() -> None:
    sent = played(plays_of(chain(0.001, 0), FORK), takes_s=0)
    assert len(sent) == 3 + 5


@st.composite
def trees(draw: st.DrawFn) -> list[Step]:
    count = draw(st.integers(1, 8))
    return [
        Step(
            tuple(sorted(draw(st.sets(st.integers(0, place - 1), max_size=3)))) if place else (),
            draw(st.integers(0, 5)) * S,
        )
        for place in range(count)
    ]


@given(
    st.lists(trees(), min_size=1, max_size=3),
    st.integers(1, 3),
    st.lists(st.integers(0, 9), min_size=24, max_size=24),
)
def test_each_turn_goes_once_when_the_last_that_it_waits_for_has_ended_and_its_wait_is_over(
    courses: list[list[Step]], streams: int, takes_s: list[int]
) -> None:
    plays = plays_of(*courses)
    sent = {one.number: one for one in played(plays, streams=streams, takes_s=takes_s.__getitem__)}
    assert sorted(sent) == list(range(plays.first(plays.wanted)))
    for number, one in sent.items():
        play, place = plays.at(number)
        step, first = plays.script(play).steps[place], plays.first(play)
        begun_s = min(
            sent[n].due_s - plays.script(play).steps[plays.at(n)[1]].wait_ns / S
            for n in range(first, first + plays.size(play))
        )
        ends = [sent[first + before].end_s for before in step.after]
        assert one.due_s == pytest.approx(max(ends, default=begun_s) + step.wait_ns / S)
        assert one.sent_s == pytest.approx(one.due_s)
    at_once = max(
        sum(other.sent_s <= one.sent_s < other.end_s for other in sent.values())
        for one in sent.values()
    )
    assert at_once <= streams * plays.lanes


def conversation(bodies: list[bytes], *, stream: bool) -> list[list[str]]:
    """Return the contents of each turn's messages, having checked that roles alternate."""
    plays = plays_of(chain(*[0.0] * (len(bodies) - 1)), live=True)
    lanes = Answering(1, lambda number: (0.0, bodies[number]), stream=stream)
    talk, numbers = Talk({}, (), tuple(f"u{n}" for n in range(len(bodies)))), iter([0])
    loop = SessionLoop(lanes, share_of(lanes, plays, talk=talk), lambda: next(numbers, None))

    async def main() -> None:
        await loop.run(0)

    run_in_no_time(main())
    asked = [json.loads(one.body)["messages"] for one in lanes.sent]
    for messages in asked:
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert all(message["content"].strip() for message in messages)
    return [[message["content"] for message in messages] for messages in asked]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_a_history_grows_by_answers_without_text_too_and_a_failure_ends_it(
    stream: bool, key: str
) -> None:
    form = stream_of if stream else whole_of
    thought, said = form({key: "hm"}), form({key: "hm", "content": "yes"})
    asked = conversation(
        [thought, said, said, form({"content": "half"}, "abort"), said], stream=stream
    )
    assert asked == [
        ["u0"],
        ["u0", NO_TEXT, "u1"],
        ["u0", NO_TEXT, "u1", "yes", "u2"],
        ["u0", NO_TEXT, "u1", "yes", "u2", "yes", "u3"],
    ]
    assert len(conversation([thought, b"{", said], stream=stream)) == 2


def stream_of(said: dict[str, str], reason: str = "length") -> bytes:
    tokens = event({"choices": [{"index": 0, "delta": said}]})
    return tokens + delta("", reason) + usage(5, 3) + event("[DONE]")


def whole_of(said: dict[str, str], reason: str = "length") -> bytes:
    choice = {"index": 0, "message": {"content": None, **said}, "finish_reason": reason}
    counts = {"prompt_tokens": 5, "completion_tokens": 3}
    return json.dumps({"choices": [choice], "usage": counts}).encode()
