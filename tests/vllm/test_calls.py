"""A call ends: by its deadline, at a bound of bytes, at a redirect; whatever the far end does."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest
from vllm_bench.vllm import calls as control_calls
from vllm_bench.vllm.calls import Calls, NoAnswerError
from vllm_bench.vllm.server import ControlError, Server, page_getter

from tests.support.beside.waiting import LIMIT_S, ctrl_c_once, wait_until
from tests.support.far_end import HANG, FarEnd, Step, chunk

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
TRICKLE: list[Step] = [step for _ in range(400) for step in (b"0", 0.05)]
BODY = json.dumps({"data": [{"id": "tiny", "max_model_len": 2048}]}).encode()


def packed(body: bytes, how: str, data: bytes) -> list[Step]:
    head = f"content-encoding: {how}\r\ncontent-length: {len(data)}\r\n\r\n"
    return [HEAD + head.encode() + data]


@pytest.fixture
def calls() -> Iterator[Calls]:
    found = Calls({"X-Token": "a"})
    yield found
    found.close()


@pytest.mark.parametrize(
    "script",
    [
        [HANG],
        [b"HTTP/1.1 200 OK\r\nx: ", *TRICKLE],
        [step for _ in range(400) for step in (b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)],
        [HEAD + b"content-length: 400\r\n\r\n", *TRICKLE],
        [CHUNKED, *(s for _ in range(400) for s in (chunk(b" "), 0.05))],
        [CHUNKED + b"1;", *TRICKLE],
        [HEAD + b"content-length: 5\r\n\r\n", HANG],
    ],
    ids=["silence", "headers", "100s", "body", "chunks", "a chunk's length", "half"],
)
def test_a_reply_that_trickles_or_stops_ends_at_the_calls_deadline(
    far_end: FarEnd, calls: Calls, script: list[Step]
) -> None:
    far_end.scripts = [[HEAD + b"content-length: 2\r\n\r\n{}"], script]
    calls.ask(far_end.base_url, LIMIT_S)  # so that there is a connection
    with pytest.raises(NoAnswerError, match=r"^no answer within 0\.3 s$"):
        calls.ask(far_end.base_url, 0.3)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([HEAD + b"x: " + b"y" * 200_000 + b"\r\n\r\n"], ""),
        ([HEAD + b"content-length: -5\r\n\r\n"], ""),
        ([HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcde"], ""),
        ([CHUNKED + b"zz\r\n"], ""),
        ([CHUNKED + b"f" * 200_000], ""),
        ([b"220 mail ESMTP\r\n\r\n"], ""),
        ([b"\x00" * 300], ""),
        (packed(BODY, "br", BODY), "packed as 'br', which was not asked for"),
        (packed(BODY, "gzip, gzip", gzip.compress(gzip.compress(BODY))), "packed as 'gzip, gzip'"),
        (packed(BODY, "gzip", BODY), "not gzip"),
    ],
)
def test_what_is_no_reply_is_told(
    far_end: FarEnd, calls: Calls, script: list[Step], why: str
) -> None:
    far_end.scripts = [script]
    with pytest.raises(NoAnswerError, match=why or ".") as told:
        calls.ask(far_end.base_url, 10)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "script",
    [
        [CHUNKED, *[chunk(b"x" * 60_000)] * 40],
        packed(b"", "gzip", gzip.compress(bytes(50 << 20))),
        packed(b"", "deflate", zlib.compress(bytes(50 << 20))),
        packed(b"", "gzip", gzip.compress(b"x") + b"y" * (2 << 20)),
        [HEAD + b"connection: close\r\n\r\n", *[b"x" * 60_000] * 40],
    ],
    ids=["chunks", "gzip bomb", "deflate bomb", "behind the end of a gzip", "without a length"],
)
def test_a_reply_is_read_up_to_a_bound(
    far_end: FarEnd, calls: Calls, script: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_calls, "MOST_BYTES", 1 << 20)
    far_end.scripts = [script]
    with pytest.raises(NoAnswerError, match="over 1 MiB"):
        calls.ask(far_end.base_url, 30)


@pytest.mark.parametrize(
    ("how", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
def test_a_gateway_may_pack_what_nobody_asked_to_be_packed(
    far_end: FarEnd, calls: Calls, how: str, pack: Callable[[bytes], bytes]
) -> None:
    far_end.scripts = [packed(BODY, how, pack(BODY))]
    answer = calls.ask(far_end.base_url, 10)
    assert (answer.status, answer.body) == (200, BODY)
    assert far_end.requests[0].headers["accept-encoding"] == "identity"


def test_connections_are_kept_and_one_that_was_closed_is_made_anew(
    far_end: FarEnd, calls: Calls
) -> None:
    ok: list[Step] = [HEAD + b"content-length: 2\r\n\r\n{}"]
    far_end.scripts = [ok, ok, [*ok, "close"], ok]
    for _ in range(3):
        calls.ask(far_end.base_url, 10)
    # It hears of the close, maybe while it puts the connection back.
    wait_until(lambda: all(kept.has_expired() for kept in calls._pool.connections))
    calls.ask(far_end.base_url, 10)
    assert [r.connection for r in far_end.requests] == [1, 1, 1, 2]


def test_nobody_follows_a_redirect_with_a_key(far_end: FarEnd) -> None:
    far_end.scripts = [
        [b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:9/steal\r\ncontent-length: 0\r\n\r\n"]
    ]
    server = Server(far_end.base_url, "sk-1", {})
    with pytest.raises(ControlError, match=r"HTTP 302: it points to http://127\.0\.0\.1:9/steal"):
        server.models()
    with pytest.raises(ControlError, match=r"HTTP 302, and points to http://127\.0\.0\.1:9/steal"):
        page_getter(far_end.base_url, 5)()
    assert "HTTP 302: it points to http://127.0.0.1:9/steal" in (server.why_not_ready() or "")
    assert {r.path for r in far_end.requests} == {"/health", "/v1/models", "/v1"}
    server.close()


def never_found(
    over: threading.Event, begun: Callable[[], object] = lambda: None
) -> Callable[..., None]:
    """A look-up of names that ends with the event, without any."""

    def look_up(*_: object, **__: object) -> None:
        begun()
        over.wait()
        raise socket.gaierror(-2, "Name or service not known")

    return look_up


def test_a_name_that_is_looked_up_for_ever_is_given_up(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", never_found(over))
    with pytest.raises(NoAnswerError, match=r"no connection within 0\.2 s"):
        calls.ask("http://nowhere/v1", 0.2)
    over.set()


@pytest.mark.parametrize("where", ["a page", "a name"])
def test_ctrl_c_ends_a_call(
    far_end: FarEnd, calls: Calls, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    begun, over = threading.Event(), threading.Event()
    if where == "a name":
        monkeypatch.setattr(socket, "getaddrinfo", never_found(over, begun.set))
    far_end.scripts = [[HANG]]
    waiting = ctrl_c_once(lambda: begun.is_set() or far_end.requests)
    with pytest.raises(KeyboardInterrupt):
        calls.ask(far_end.base_url, 600)
    waiting.join()
    over.set()


def test_a_silent_page_of_metrics_is_asked_for_once_a_minute(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.vllm.server.SHORT_S", 0.2)
    far_end.scripts = [[HANG]]
    server = Server(far_end.base_url, None, {})
    monkeypatch.setattr(server, "metrics_text", lambda: Server.metrics_text(server, 0.2))
    assert server.counters() is None
    assert server.cache_config() is None
    assert server.counters() is None
    wait_until(lambda: far_end.requests)
    assert len(far_end.requests) == 1
    assert server.unread is not None
    assert server.unread.endswith("/metrics: no answer within 0.2 s")
    server.close()
