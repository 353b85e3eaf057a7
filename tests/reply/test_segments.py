"""Segments say what the same bytes say read by read, whatever a stream has in it, cut anywhere.

Random streams, read in both ways: the common events many at once, and every event by itself.
"""

from __future__ import annotations

import itertools
import json
import random
from array import array
from collections import Counter
from collections.abc import Iterator

import pytest
from vllm_bench.reply.exchange import Reads, Segment
from vllm_bench.reply.reply import Reply

STREAMS = 1_500  # of a run of the suite; 20,000 take about 5 s
SEEDS = 5  # each with its own share of the streams

WORDS = [
    b"a",
    b" the",
    b"\\n",
    b'\\"x\\"',
    b"\\\\",
    "é".encode(),
    "🙂".encode(),
    b"\\u00e9",
    b"}",
    b"]]",
    b"<think>",
    b"</think>",
    rb"\u003c/think\u003E",
    rb"<\/think>",
    b"<th",
    b"ink>",
]
BAD_WORDS = [
    b"",
    b'"',
    b"\\",
    b"\t",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\\x",
    b"\\ud83d",
    b"\n\n",
]
SHAPES = [  # of the plain events of a stream: what stands around their text
    (b'{"id":"%d","model":"m","choices":[{"index":0,"delta":{"content":"', b'"}}]}'),
    (b'{"id":"%d","choices":[{"delta":{"reasoning":"', b'"},"finish_reason":null}]}'),
    (b'{"id":"%d","model":"m","choices":[{"index":0,"text":"', b'"}],"usage":null}'),
    (b'{"id":"%d","choices":[{"index":0,"delta":{"content": "', b'" }}]}'),  # not as tight
    (b'{"id":"%d","choices":[\r{"delta":{"reasoning_content":"', b'"}}]}'),
    (b'{"delta":{"content":"","id":"%d"},"choices":[{"delta":{"content":"', b'"}}] }'),
]
OTHERS = [
    b'data: {"error":{"message":"dead"}}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[{"index":1,"delta":{"content":"z"},"finish_reason":"length"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n',
    b'data: {"choices":[{"delta":{"content":"q"}}],"usage":{"prompt_tokens":3,'
    b'"completion_tokens":4}}\n\n',
    b'data: {"choices":[{"delta":{"content":"q"},"token_ids":[1,2]}],"model":"other"}\n\n',
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"q"}}],"system_fingerprint":"fp"}\n\n',
    b"data: [DONE]\n\n",
    b": ping\n\n",
    b"\n",
    b"\r\n",
    b"data\n",
    b"event: message\n",
    b"id: 1\ndata: {\ndata: }\n\n",
    b"data: nonsense\n\n",
    b"data: []\n\n",
    b"data:\n\n",
    b"\xff\x00",
    b'data: {"choices":[{"delta":{"content":"',
]


def said(reply: Reply) -> dict[str, object]:
    """Return all that a reply says."""
    return {
        "stamps": list(reply.stamps),
        "counts": list(reply.token_counts),
        "reasons": reply.finish_reasons,
        "visible": (reply.visible_events, reply.first_visible_ns),
        "finish": reply.finish_ns,
        "thoughts": (reply.thoughts, reply.thinking_tokens),
        "usage": reply.usage,
        "model": reply.model,
        "fingerprint": reply.fingerprint,
        "error": reply.error,
        "done": reply.done,
    }


def stream_of(rng: random.Random) -> Iterator[bytes]:
    """Yield the pieces of a stream: mostly plain events, and some that differ in any way."""
    before, after = rng.choice(SHAPES)
    before = before % rng.randrange(10**6) if b"%d" in before else before
    odd = rng.choice([0.0, 0.02, 0.1, 0.4])
    for _ in range(rng.randrange(40)):
        if rng.random() >= odd:
            yield b"data: " + before + rng.choice(WORDS) + after + b"\n\n"
        elif rng.random() < 0.3:
            end = rng.choice([b"\n\n", b"\r\n\r\n", b"\n", b"\r\r\n\n", b"\ndata: \n\n"])
            yield b"data: " + before + rng.choice(WORDS) + after + end
        elif rng.random() < 0.4:
            text = rng.choice(WORDS) + rng.choice([*BAD_WORDS, before[-16:] + b"a"])
            yield b"data: " + before + text + after + b"\n\n"
        elif rng.random() < 0.5:
            whole = b"data: " + before + rng.choice(WORDS) + after + b"\n\n"
            place = rng.randrange(len(whole))
            yield whole[:place] + rng.choice([b"", b'"', b"\\", b"\n", b"x"]) + whole[place + 1 :]
        else:
            yield rng.choice(OTHERS)
    yield from rng.choice([OTHERS[1:2] + OTHERS[3:4] + OTHERS[8:9], OTHERS[8:9], []])


def reads_of(rng: random.Random, pieces: list[bytes]) -> Reads:
    """Return a stream as reads: one a piece, one of several, or cut at any byte."""
    how = rng.randrange(3)
    if how == 0:
        chunks = pieces
    elif how == 1:
        places = sorted(rng.choices(range(len(pieces) + 1), k=rng.randrange(1, 9)))
        edges = [0, *places, len(pieces)]
        chunks = [b"".join(pieces[a:b]) for a, b in itertools.pairwise(edges)]
    else:
        whole = b"".join(pieces)
        places = sorted(rng.choices(range(len(whole) + 1), k=rng.randrange(1, 30)))
        chunks = [whole[a:b] for a, b in itertools.pairwise([0, *places, len(whole)])]
    stamp = itertools.accumulate(rng.choice([0, 1, 5]) for _ in range(len(chunks) + 1))
    return [(10 + next(stamp), chunk) for chunk in chunks]


def the_long_way(reads: Reads) -> dict[str, object]:
    reply = Reply(stream=True)
    reply._learning = 0
    reply.feed(200, reads)
    return said(reply)


def in_segments(rng: random.Random, reads: Reads) -> dict[str, object]:
    reply = Reply(stream=True)
    places = sorted(rng.choices(range(len(reads) + 1), k=rng.randrange(4)))
    for a, b in itertools.pairwise([0, *places, len(reads)]):
        reply.take(Segment(0, 200, reads[a:b]).packed())
    return said(reply)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_segments_say_what_the_long_way_says(seed: int) -> None:
    seen: Counter[str] = Counter()
    for number in range(STREAMS // SEEDS):
        rng = random.Random(f"{seed} {number}")
        reads = reads_of(rng, list(stream_of(rng)))
        wanted = the_long_way(reads)
        assert in_segments(rng, reads) == wanted, json.dumps([str(chunk) for _, chunk in reads])
        seen.update(key for key, value in wanted.items() if value)
    assert min(seen[key] for key in ("stamps", "error", "reasons", "usage", "done", "model")) > 9


def test_a_segment_of_plain_events_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = SHAPES[0]
    events = [b"data: " + before % 7 + word + after + b"\n\n" for word in 9 * WORDS]
    read_by_itself: list[bytes] = []
    reply = Reply(stream=True)
    monkeypatch.setattr(
        reply, "_feed", lambda at, chunk, feed=reply._feed: read_by_itself.append(feed(at, chunk))
    )
    reply.take(Segment(0, 200, list(enumerate(events))).packed())
    assert len(read_by_itself) == 1
    assert reply.stamps == array("q", range(len(events)))
    assert reply.visible_events == len(events)


def test_an_event_has_the_stamp_of_the_read_that_completed_it() -> None:
    before, after = SHAPES[0]
    stream = b"".join(b"data: " + before % 7 + b"w" + after + b"\n\n" for _ in range(4))
    size = len(stream) // 4
    cuts = [0, size, size + 5, 3 * size, 3 * size, 4 * size - 1, 4 * size]
    reads = [(n, stream[a:b]) for n, (a, b) in enumerate(itertools.pairwise(cuts))]
    reply = Reply(stream=True)
    reply.take(Segment(0, 200, reads).packed())
    assert list(reply.stamps) == [0, 2, 2, 5]
