"""The proxy of `make chaos` does to connections what it says."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tools.hostile.proxy import Proxy

REPLY = bytes(range(32, 127)) * 4


def _serve(listener: socket.socket) -> None:
    """Answer each line with the same reply."""

    def answer(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            while sock.recv(4096):
                sock.sendall(REPLY)

    with suppress(OSError):
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    made = Proxy(random.Random(4))
    made.server_port = listener.getsockname()[1]
    yield made
    made.close()
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def client(proxy: Proxy) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", proxy.port), 10)
    sock.settimeout(10)
    return sock


def ask(sock: socket.socket, line: bytes = b"POST /v1/chat HTTP/1.1\r\n", size: int = 0) -> bytes:
    sock.sendall(line)
    return take(sock, size or len(REPLY))


def take(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = sock.recv(65536)
        if not piece:
            break
        found += piece
    return found


def test_it_passes_everything_whole_or_byte_by_byte(proxy: Proxy) -> None:
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY
        proxy.dribbling = True
        assert ask(sock) == REPLY


def test_it_spoils_as_many_pieces_as_asked(proxy: Proxy) -> None:
    with closing(client(proxy)) as sock:
        proxy.garbling = 1
        assert ask(sock) != REPLY
        assert ask(sock) == REPLY
        proxy.garbling, proxy.inserting = 1, True
        assert len(ask(sock, size=len(REPLY) + 24)) == len(REPLY) + 24
        proxy.behave()
        assert ask(sock) == REPLY


def test_it_cuts_and_resets(proxy: Proxy) -> None:
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY
        proxy.cut()
        assert sock.recv(1) == b""
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY
        proxy.cut(reset=True)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_it_half_closes(proxy: Proxy) -> None:
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY
        proxy.half_close()
        assert sock.recv(1) == b""
        sock.sendall(b"still heard")


def test_what_it_holds_comes_later_and_what_it_mutes_never(proxy: Proxy) -> None:
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY
        proxy.mute()
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ask(sock)
    with closing(client(proxy)) as other:
        proxy.holding = True
        other.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ask(other)
        proxy.holding = False
        other.settimeout(10)
        assert take(other, len(REPLY)) == REPLY


def test_it_refuses_and_listens_again(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        client(proxy)
    proxy.listen_again()
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY


@pytest.mark.parametrize("how", ["bytes", "html", "json", "numbers"])
def test_it_answers_a_page_in_the_servers_place(proxy: Proxy, how: str) -> None:
    proxy.pages = {b"/metrics": how}
    with closing(client(proxy)) as sock:
        assert ask(sock) == REPLY
    with closing(client(proxy)) as sock:
        found = ask(sock, b"GET /metrics HTTP/1.1\r\n", 1 << 20)
        assert found.startswith(b"HTTP/1.1 200 OK")
        assert REPLY not in found
