"""Conversations on the sending loop: how they end."""

from __future__ import annotations

import asyncio

from vllm_bench.plan.share import PlannedRequest, Talk, Target, Timeouts
from vllm_bench.reply.exchange import Exchange
from vllm_bench.send.conversation_loop import ConversationLoop
from vllm_bench.send.lanes import Lane, Lanes


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
