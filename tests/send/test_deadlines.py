from __future__ import annotations

import pytest
from vllm_bench.plan.share import Timeouts
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.send.deadlines import Heard, check_deadline

from tests.support.far_end import delta

S = 1_000_000_000
LIMITS = Timeouts(first_token_s=10, stall_s=3, total_s=20)
TOKEN = delta("a")
PING = b": ping\n\n"


def look(reads: list[tuple[float, bytes]], now_s: float, *, stream: bool = True) -> object:
    made = Exchange(0, 0, t_scheduled_ns=0, t_sent_ns=0)
    made.reads = [(int(at * S), data) for at, data in reads]
    return told(check_deadline(made, Heard(), LIMITS, int(now_s * S), stream=stream))


def told(found: Failure | int | None) -> object:
    return found.kind if isinstance(found, Failure) else None if found is None else found / S


@pytest.mark.parametrize(
    ("reads", "now_s", "expected"),
    [
        ([], 1, 10),  # look again when the first token is due
        ([], 10, "timeout_first_token"),
        ([(9, PING)], 10, "timeout_first_token"),  # a comment is no token
        ([(1, TOKEN)], 2, 4),  # 1 + 3
        ([(1, TOKEN)], 4, "timeout_stall"),
        ([(1, TOKEN), (3, PING)], 4, "timeout_stall"),  # keep-alives don't hide a stall
        ([(1, TOKEN), (3, TOKEN)], 4, 6),
        ([(1, TOKEN[:9]), (2, TOKEN[9:])], 4, 5),  # an event over two reads
        ([(18, TOKEN)], 19, 20),  # the total comes before the next stall
        ([(19.5, TOKEN)], 20, "timeout_total"),
    ],
)
def test_deadlines_of_a_stream(
    reads: list[tuple[float, bytes]], now_s: float, expected: object
) -> None:
    assert look(reads, now_s) == expected


def test_without_streaming_only_the_total_counts() -> None:
    assert look([], 15, stream=False) == 20
    assert look([], 20, stream=False) == "timeout_total"


def test_a_request_that_could_not_be_sent_counts_from_its_slot() -> None:
    made = Exchange(0, 0, t_scheduled_ns=5 * S)
    assert isinstance(check_deadline(made, Heard(), LIMITS, 25 * S, stream=True), Failure)
    assert check_deadline(made, Heard(), LIMITS, 6 * S, stream=True) == 15 * S
