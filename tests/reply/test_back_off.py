"""When a request counts as turned away, and how long its stream waits then."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.reply.back_off import MOST_S, asked_wait_s, turned_away, wait_s
from vllm_bench.reply.exchange import Exchange, Failure

from tests.support.far_end import delta, event, good_stream

NOW_S = 1_763_985_600.0


def ended(status: int | None = None, body: bytes = b"", **more: Any) -> Exchange:
    reads = [(1, body)] if body else []
    return Exchange(
        *(7, 0, 0), http_status=status, reads=reads, held_bytes=len(body), t_end_ns=1, **more
    )


def error(**fields: object) -> bytes:
    return event({"error": {"message": "no", **fields}})


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (ended(failure=Failure("connect", "refused")), True),
        (ended(failure=Failure("truncated", "closed before any reply")), True),
        (ended(failure=Failure("cancelled", "x")), False),
        (ended(failure=Failure("timeout_first_token", "x")), False),
        (ended(200, failure=Failure("truncated", "closed in mid-reply")), False),
        *((ended(status, b"x"), status in (429, 502, 503, 504)) for status in (400, 404, 500, 501)),
        *((ended(status), True) for status in (429, 502, 503, 504)),
        (ended(200, error(code=503)), True),
        (ended(200, error(code="429") + event("[DONE]")), True),
        (ended(200, orjson.dumps({"error": {"code": 503}})), True),  # in one piece
        (ended(200, event({"object": "error", "code": 503})), True),
        (ended(200, error(code=500)), False),
        (ended(200, error(code=400)), False),
        (ended(200, error(code="rate_limit_exceeded")), False),
        (ended(200, error()), False),
        (ended(200, b"".join(good_stream())), False),
        (ended(200, delta("x") + error(code=503)), False),  # it had been taken
        (ended(200, delta("x") * 100 + error(code=503)), False),
        (ended(200, delta('{"error": {"code": 503}}')), False),  # a text, not an error
        (ended(200), False),
    ],
)
def test_what_counts_as_turned_away(exchange: Exchange, expected: bool) -> None:
    assert turned_away(exchange) is expected


@pytest.mark.parametrize(
    ("header", "asked_s"),
    [
        ("3", 3),
        ("120", 120),
        ("0", 0),
        ("-1", 0),
        ("1.5", 0),
        ("", 0),
        ("soon", 0),
        ("9" * 400, 999_999_999),
        ("\N{SUPERSCRIPT TWO}", 0),
        (formatdate(NOW_S + 2, usegmt=True), 2),
        (formatdate(NOW_S - 60, usegmt=True), 0),
        ("Mon, 99 Foo 2025 99:99:99 GMT", 0),
    ],
)
def test_a_server_asks_in_seconds_or_by_a_date(header: str, asked_s: float) -> None:
    assert asked_wait_s(header, NOW_S) == pytest.approx(asked_s)


def test_a_wait_grows_differs_and_is_never_long() -> None:
    for times in range(1, 2000):
        wait = wait_s(ended(503), times)
        longest = min(0.1 * 2 ** min(times - 1, 20), MOST_S)
        assert longest / 2 <= wait <= longest
    waits = [wait_s(Exchange(n, 0, 0, http_status=503), 3) for n in range(50)]
    assert len(set(waits)) == 50
    assert waits == [wait_s(Exchange(n, 0, 0, http_status=503), 3) for n in range(50)]


def test_a_server_that_asks_for_more_gets_the_most() -> None:
    assert wait_s(ended(429, retry_after="2"), 9) == 2
    assert wait_s(ended(429, retry_after="3600"), 1) == MOST_S
    assert wait_s(ended(429, retry_after="0"), 1) <= 0.1


@pytest.mark.fuzz
@given(
    st.one_of(st.text(max_size=60), st.from_regex(r"(Mon, )?\d+ [A-Z][a-z]{2} \d+ [\d:]+ \S*")),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(max_size=5)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(st.sampled_from(["error", "code", "x"]), inner, max_size=3),
            ),
        ).map(orjson.dumps),
    ),
    st.sampled_from([None, 200, 429, 503, 999]),
)
def test_no_reply_is_waited_for_long(header: str, body: bytes, status: int | None) -> None:
    for text in (body, b"data: " + body + b"\n\n"):
        exchange = ended(status, text, retry_after=header)
        assert turned_away(exchange) in (True, False)
        assert 0 <= wait_s(exchange, 1) <= MOST_S
