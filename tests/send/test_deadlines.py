from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.share import Timeouts
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.send.deadlines import Heard, check_deadline

from tests.support.far_end import delta, event, usage

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


PINGS = [(n / 10, PING) for n in range(300)]
EMPTY = event({"choices": [{"index": 0, "delta": {"content": ""}}]})
FINISH = delta("", "stop")


def stepwise(reads: list[tuple[float, bytes]], now_s: float, every: int) -> object:
    """The same stream, of which every so many reads were handed over."""
    made, heard = Exchange(0, 0, t_scheduled_ns=0, t_sent_ns=0), Heard()
    for at_s, data in reads:
        made.reads.append((int(at_s * S), data))
        if len(made.reads) == every:
            heard.hand_over(made.reads)
            made.hand_over()
    return told(check_deadline(made, heard, LIMITS, int(now_s * S), stream=True))


@pytest.mark.parametrize("every", [1, 2, 7, 256])
@pytest.mark.parametrize(
    ("reads", "now_s", "expected"),
    [
        (PINGS[:95], 10, "timeout_first_token"),
        ([(at, EMPTY) for at, _ in PINGS[:95]], 10, "timeout_first_token"),
        ([(at, TOKEN[:20]) for at, _ in PINGS[:1]] + PINGS[1:95], 10, "timeout_first_token"),
        ([(0.05, TOKEN), *PINGS[1:40]], 4, "timeout_stall"),
        ([*PINGS[:20], (2.0, TOKEN[:9]), (2.1, TOKEN[9:]), *PINGS[22:50]], 5, 5.1),
        ([(2.0, TOKEN), (3.0, TOKEN[:9]), (4.0, TOKEN[9:])], 5.5, 7),
        ([(2.0, TOKEN), (3.0, FINISH + event("[DONE]"))], 3.5, 4),  # then it may linger
        ([(2.0, TOKEN), (3.0, FINISH + event("[DONE]"))], 19, None),
        ([(2.0, TOKEN), (3.0, FINISH + event("[DONE]"))], 21, None),  # not over its time
        ([(2.0, TOKEN), (3.0, FINISH), (3.1, usage(1, 1))], 5.5, 6),
        ([(2.0, TOKEN), (3.0, FINISH), *PINGS[31:70]], 7, None),  # judged by what came
        ([(2.0, FINISH), (3.0, delta("b", index=1))], 6.5, "timeout_stall"),  # another choice
    ],
)
def test_what_was_handed_over_is_remembered(
    reads: list[tuple[float, bytes]], now_s: float, expected: object, every: int
) -> None:
    assert stepwise(reads, now_s, every) == expected


@given(st.lists(st.sampled_from([TOKEN, PING, EMPTY, FINISH, usage(1, 1)]), max_size=12), st.data())
def test_wherever_reads_are_cut_and_handed_over_the_newest_token_is_known(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=8)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reads = [(float(place), part) for place, part in enumerate(parts) if part]
    now_s = data.draw(st.sampled_from([0.5, 5.0, 12.0]))
    every = data.draw(st.integers(1, 4))
    assert stepwise(reads, now_s, every) == look(reads, now_s)


def test_without_streaming_only_the_total_counts() -> None:
    assert look([], 15, stream=False) == 20
    assert look([], 20, stream=False) == "timeout_total"


def test_a_request_that_could_not_be_sent_counts_from_its_slot() -> None:
    made = Exchange(0, 0, t_scheduled_ns=5 * S)
    assert isinstance(check_deadline(made, Heard(), LIMITS, 25 * S, stream=True), Failure)
    assert check_deadline(made, Heard(), LIMITS, 6 * S, stream=True) == 15 * S
