"""HTTP as it may come: cut anywhere, several requests in one packet, wrong, or slow."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.simulated import Simulated

BODY = json.dumps({"prompt": "hello", "max_tokens": 3, "stream": True, "ignore_eos": True}).encode()
REQUEST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "1") as server:
        yield int(server.url.rpartition(":")[2])


def talk(port: int, *writes: bytes) -> bytes:
    """Send the writes one by one and return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in writes:
            sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_request_may_come_byte_by_byte(port: int) -> None:
    request = REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    got = talk(port, *(request[at : at + 1] for at in range(len(request))))
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_requests_in_one_packet_are_answered_one_after_the_other(port: int) -> None:
    got = talk(port, REQUEST + HEALTH + REQUEST + b"GET /v1/models " + LAST)
    streams = got.split(b"HTTP/1.1 200 OK")[1:]
    assert [b"[DONE]" in stream for stream in streams] == [True, False, True, False]
    assert got.count(b"[DONE]") == 2
    assert b'"object":"list"' in streams[-1]


def test_an_event_is_one_chunk_of_the_body(port: int) -> None:
    body = talk(port, REQUEST, b"GET /health " + LAST).partition(b"\r\n\r\n")[2]
    chunks = []
    while not body.startswith(b"0\r\n\r\n"):
        size, _, rest = body.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    assert len(chunks) == 4
    assert all(c.startswith(b"data: ") and c.endswith(b"\n\n") for c in chunks)


@pytest.mark.parametrize(
    ("head", "last"),
    [(b"connection: close", True), (b"connection: keep-alive", False), (b"x-nothing: 1", False)],
)
def test_the_connection_stays_open_unless_the_client_wants_it_closed(
    port: int, head: bytes, last: bool
) -> None:
    request = b"GET /health HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % head
    got = talk(port, request, *(() if last else (b"GET /version " + LAST,)))
    assert got.count(b"HTTP/1.1 200 OK") == (1 if last else 2)


def test_what_is_no_http_is_a_bad_request(port: int) -> None:
    got = talk(port, b"nonsense\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 Bad Request")
    assert got.endswith(b"Invalid HTTP request received.")


def test_a_client_that_asks_first_may_send_its_body(port: int) -> None:
    head, _, body = REQUEST.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head + b"\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b"".join(iter(lambda: sock.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK")
