"""One call to a server away from the timing path: it ends in time, at a bound of bytes, on Ctrl-C.

httpx's own limits are for each read, so a reply of a byte a second would never end. Here the whole
call has one deadline: httpcore hands its timeouts on to the network backend as they are, and ours
takes them for a moment on the monotonic clock.
"""

from __future__ import annotations

import queue
import re
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx
import orjson

from ..reply.words import error_text
from .no_answer import FinalError, HungUpError, NoAnswerError, no_answer

MOST_BYTES = 16 << 20  # of a body, unpacked: the ids of two million tokens, or fifty engines' page
CONNECT_S = 5.0
PIECE = 1 << 16
TITLE = re.compile(r"<title>([^<]{1,100})</title>", re.IGNORECASE)
ONCE_PACKED = {"gzip", "x-gzip", "deflate"}  # nobody asks for them, but some gateways do it
FAILURES = (
    *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol),
    *(httpx.InvalidURL, OSError, UnicodeError),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply."""

    status: int
    body: bytes
    location: str  # where a redirect points to; nobody follows it, with a key in the headers

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def is_page(self) -> bool:
        """Whether it is a page for people."""
        return self.body.lstrip()[:1] == b"<"

    def json(self) -> Any:
        """Return the JSON that it is; None: it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def words(self) -> str:
        """What it says about its own failure."""
        if self.location:
            return f"it points to {self.location}: give that address, if it is right"
        if self.is_page:
            title = TITLE.search(self.text)
            return "a web page" + (f", {' '.join(title[1].split())}" if title else "")
        try:
            return error_text(orjson.loads(self.body))
        except (ValueError, TypeError, RecursionError):  # not JSON, or nested without end
            return " ".join(self.text.split())


def check_url(url: str) -> None:
    """Raise ValueError where no request can go to such an address (256.0.0.1, say)."""
    try:
        _ = httpx.URL(url).host
    except httpx.InvalidURL as e:
        raise ValueError(str(e)) from e


class Calls:
    """Calls with the same headers, over connections that are kept. Safe to use from any thread."""

    def __init__(self, headers: Mapping[str, str], context: ssl.SSLContext | None = None) -> None:
        """Prepare; nothing is sent yet. `context` is for https."""
        given = {**headers, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._headers = httpx.Headers(given).raw
        # No proxy from the environment: the streaming path doesn't use one either, and both must
        # speak to the same server.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=64,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )

    def close(self) -> None:
        self._pool.close()

    def ask(self, url: str, limit_s: float, json: bytes | None = None) -> Answer:
        """Return the reply to a GET, or to a POST of some JSON. Raises NoAnswerError."""
        deadline_s = time.monotonic() + limit_s
        moments = dict.fromkeys(("connect", "read", "write"), deadline_s)
        kind = [] if json is None else [(b"Content-Type", b"application/json")]
        with (
            _reasons(url, limit_s),
            self._pool.stream(
                "GET" if json is None else "POST",
                httpcore.URL(str(httpx.URL(url))),
                headers=[*self._headers, *kind],
                content=json,
                extensions={"timeout": {**moments, "pool": limit_s}},
            ) as reply,
        ):
            found = httpx.Headers(reply.headers)
            body = _body(reply.iter_stream(), found.get("content-encoding", ""))
            return Answer(reply.status, body, found.get("location", ""))


@contextmanager
def _reasons(url: str, limit_s: float) -> Iterator[None]:
    try:
        yield
    except httpcore.ConnectTimeout as e:
        kind = HungUpError if url.startswith("https") else NoAnswerError  # or of the handshake
        raise kind(f"no connection within {min(limit_s, CONNECT_S):g} s") from e
    except httpcore.TimeoutException as e:
        raise NoAnswerError(f"no answer within {limit_s:g} s") from e
    except FAILURES as e:
        raise no_answer(e) from e


def _body(pieces: Iterable[bytes], packed_as: str) -> bytes:
    """Return a body, unpacked. Raises NoAnswerError where it is too long."""
    unpack = _unpacker(packed_as)
    body, came = bytearray(), 0
    for piece in pieces:
        came += len(piece)
        body += unpack(piece, MOST_BYTES + 1 - len(body))
        if max(came, len(body)) > MOST_BYTES:
            raise FinalError(f"an answer of over {MOST_BYTES >> 20} MiB")
    return bytes(body)


def _unpacker(packed_as: str) -> Callable[[bytes, int], bytes]:
    """Return a function that unpacks a piece into so many bytes at most."""
    name = packed_as.strip().lower()
    if name in ("", "identity"):
        return lambda piece, most: piece[:most]
    if name not in ONCE_PACKED:
        raise FinalError(f"an answer packed as {name[:40]!r}, which was not asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either of the two, by its first bytes

    def unpack(piece: bytes, most: int) -> bytes:
        try:
            return b"" if unpacker.eof else unpacker.decompress(piece, most)
        except zlib.error as e:
            raise FinalError(f"an answer that is not {name}") from e

    return unpack


class _Backend(httpcore.NetworkBackend):
    """httpcore's own, with moments for timeouts."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *where: Any, **how: Any
    ) -> httpcore.NetworkStream:
        def connect() -> httpcore.NetworkStream:
            return self._plain.connect_tcp(host, port, CONNECT_S, *where, **how)

        return _Stream(_aside(connect, timeout))


class _Stream(httpcore.NetworkStream):
    """A connection whose waits end at a moment."""

    def __init__(self, plain: httpcore.NetworkStream) -> None:
        self._plain = plain

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._plain.read(max_bytes, _left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for begin in range(0, len(buffer), PIECE):
            self._plain.write(buffer[begin : begin + PIECE], _left_s(timeout))

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        def shake() -> httpcore.NetworkStream:
            return self._plain.start_tls(ssl_context, server_hostname, CONNECT_S)

        return _Stream(_aside(shake, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def _left_s(deadline_s: float | None) -> float:
    """Return the time that is left. Raises ReadTimeout where there is none."""
    left_s = (deadline_s or 0.0) - time.monotonic()
    if left_s <= 0:
        raise httpcore.ReadTimeout
    return left_s


def _aside(
    connect: Callable[[], httpcore.NetworkStream], deadline_s: float | None
) -> httpcore.NetworkStream:
    """Return what `connect` returns, in a thread: Ctrl-C can't interrupt the look-up of a name."""
    done: queue.SimpleQueue[httpcore.NetworkStream | Exception] = queue.SimpleQueue()
    over = threading.Event()

    def run() -> None:
        try:
            stream = connect()
        except (*FAILURES, httpcore.TimeoutException) as e:
            done.put(e)
        else:
            done.put(stream)
            if over.is_set():
                stream.close()

    threading.Thread(target=run, daemon=True).start()
    try:
        found = done.get(timeout=min(_left_s(deadline_s), CONNECT_S))
    except queue.Empty as e:
        over.set()  # what comes now is nobody's
        raise httpcore.ConnectTimeout from e
    except BaseException:
        over.set()
        raise
    if isinstance(found, Exception):
        raise found
    return found
