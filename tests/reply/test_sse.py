from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.reply.sse import EventSplitter

GOOD = b'data: {"a": 1}\n\ndata: {"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (GOOD, [b'{"a": 1}', b'{"b": "\xc3\xa9"}', b"[DONE]"]),
        (GOOD.replace(b"\n", b"\r\n"), [b'{"a": 1}', b'{"b": "\xc3\xa9"}', b"[DONE]"]),
        (b": keep-alive\n\ndata: x\n\n", [b"x"]),
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data: x\ndata: y\n\n", [b"x\ny"]),
        (b"event: ping\nid: 3\nretry: 1\ndata: x\n\n", [b"x"]),
        (b"event: ping\n\n\n\n", []),
        (b"data: never finished", []),
        (b"data: no blank line\n", []),
        (b"", []),
    ],
)
def test_a_stream_gives_the_payloads_of_its_events(stream: bytes, payloads: list[bytes]) -> None:
    assert EventSplitter().feed(stream) == payloads


payload = st.binary(max_size=30).filter(lambda b: b"\n" not in b and b"\r" not in b)


@given(st.lists(payload, max_size=8), st.sampled_from([b"\n", b"\r\n"]), st.data())
def test_any_cutting_of_any_stream_gives_the_same_events(
    payloads: list[bytes], end: bytes, data: st.DataObject
) -> None:
    stream = b"".join(b"data: " + p + end + b": comment" + end + end for p in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    splitter = EventSplitter()
    assert [p for a, b in itertools.pairwise(edges) for p in splitter.feed(stream[a:b])] == payloads
