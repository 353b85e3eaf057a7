"""Conversations on the sending loop: how they end, and how their history grows."""

from __future__ import annotations

import asyncio
import json

import pytest
from vllm_bench.plan.share import Message, PlannedRequest, Talk, Target, Timeouts
from vllm_bench.reply.exchange import Exchange
from vllm_bench.send.conversation_loop import NO_TEXT, ConversationLoop
from vllm_bench.send.lanes import Lane, Lanes

from tests.support.far_end import delta, event, usage


class AtOnce(Lanes):
    """Lanes whose requests have ended when `send` returns: a server could hardly be quicker."""

    def send(self, lane: Lane, request: PlannedRequest, slot_ns: int) -> None:
        self.on_free(lane, Exchange(request.index, lane.index, t_scheduled_ns=slot_ns), slot_ns)


def test_a_reply_that_is_there_at_once_ends_the_run_as_any_other() -> None:
    requests = tuple(PlannedRequest(n, f"r-{n}", "p", b"", 1) for n in range(3))
    talk = Talk({}, (), ("a", "b", "c"), turns=3, think_ns=1_000_000)

    async def main() -> None:
        timeouts = Timeouts(5, 5, 5)
        # Nobody is there, nor needed.
        lanes = AtOnce(Target("127.0.0.1", 1, None, "/", (), timeouts, stream=True), print)
        lanes.add()
        numbers = iter([0])
        loop = ConversationLoop(lanes, talk, requests, lambda: next(numbers, None))
        await asyncio.wait_for(loop.run(0), 5)

    asyncio.run(main())


class Answering(Lanes):
    """Lanes that answer each request with the next body, and keep what was asked."""

    def __init__(self, target: Target, bodies: list[bytes]) -> None:
        super().__init__(target, print)
        self.asked: list[list[Message]] = []
        self._bodies = bodies

    def send(self, lane: Lane, request: PlannedRequest, slot_ns: int) -> None:
        self.asked.append(json.loads(request.body)["messages"])
        lane.kept = bytearray(self._bodies[request.index])
        done = Exchange(request.index, lane.index, slot_ns, slot_ns, t_end_ns=slot_ns)
        done.http_status = 200
        done.content_type = "text/event-stream" if self.target.stream else "application/json"
        self.on_free(lane, done, slot_ns)


def conversation(bodies: list[bytes], *, stream: bool) -> list[list[str]]:
    """Return the contents of each turn's messages, having checked that roles alternate."""
    turns = len(bodies)
    requests = tuple(PlannedRequest(n, f"r-{n}", "p", b"", 1) for n in range(turns))
    talk = Talk({}, (), tuple(f"u{n}" for n in range(turns)), turns, think_ns=0)

    async def main() -> Answering:
        target = Target("127.0.0.1", 1, None, "/", (), Timeouts(5, 5, 5), stream=stream)
        lanes = Answering(target, bodies)
        lanes.add()
        numbers = iter([0])
        loop = ConversationLoop(lanes, talk, requests, lambda: next(numbers, None))
        await asyncio.wait_for(loop.run(0), 5)
        return lanes

    asked = asyncio.run(main()).asked
    for messages in asked:
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert all(message["content"].strip() for message in messages)
    return [[message["content"] for message in messages] for messages in asked]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_a_history_grows_by_answers_without_text_and_not_by_failures(
    stream: bool, key: str
) -> None:
    form = stream_of if stream else whole_of
    thought, said, cut_off = form({key: "hm"}), form({key: "hm", "content": "yes"}), b"{"
    aborted = form({"content": "half"}, "abort")
    asked = conversation([thought, said, cut_off, thought, aborted, said], stream=stream)
    assert asked == [
        ["u0"],
        ["u0", NO_TEXT, "u1"],
        ["u0", NO_TEXT, "u1", "yes", "u2"],
        ["u0", NO_TEXT, "u1", "yes", "u3"],
        ["u0", NO_TEXT, "u1", "yes", "u3", NO_TEXT, "u4"],
        ["u0", NO_TEXT, "u1", "yes", "u3", NO_TEXT, "u5"],
    ]


def stream_of(said: dict[str, str], reason: str = "length") -> bytes:
    tokens = event({"choices": [{"index": 0, "delta": said}]})
    return tokens + delta("", reason) + usage(5, 3) + event("[DONE]")


def whole_of(said: dict[str, str], reason: str = "length") -> bytes:
    choice = {"index": 0, "message": {"content": None, **said}, "finish_reason": reason}
    counts = {"prompt_tokens": 5, "completion_tokens": 3}
    return json.dumps({"choices": [choice], "usage": counts}).encode()
