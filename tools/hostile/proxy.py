"""What lies between client and server: a proxy that cuts, resets, holds, mutes and garbles."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

LOOK_S = 0.05
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
ENDLESS = b"transfer-encoding: chunked\r\n\r\n"
NUMBERS = (b"nan", b"1e999", b"-1", b"9" * 400, b"", b"one")


@dataclass(slots=True, eq=False)
class Pair:
    """One connection of a client, and its own to the server."""

    client: socket.socket
    server: socket.socket
    muted: bool = False  # nothing passes any more, and nobody hangs up
    over: bool = False

    def close(self, *, reset: bool = False) -> None:
        """Hang up on both; the client sees an end, or RST."""
        self.over = True
        # A thread that waits in `recv` keeps a socket open: shut down, it wakes.
        with suppress(OSError):
            if reset:
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.client.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.client.close()
        self.server.close()


class Proxy:
    """Listens on a free port of this machine in front of another one, in threads."""

    def __init__(self, rng: random.Random) -> None:
        """Draw what it garbles from `rng`."""
        self.server_port = 0
        self.holding = False  # all bytes wait
        self.dribbling = False  # byte by byte
        self.garbling = 0  # how many more pieces of replies are spoilt
        self.inserting = False  # garbage comes in front of them, not in their place
        self.pages: dict[bytes, str] = {}  # the beginning of a path: how it is answered
        self._rng = rng
        self._pairs: list[Pair] = []
        self._over = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """End it and all connections."""
        self._over = True
        self.refuse()
        self.cut()

    def behave(self) -> None:
        """Pass everything from now on."""
        self.holding = self.dribbling = self.inserting = False
        self.garbling, self.pages = 0, {}

    def cut(self, *, reset: bool = False) -> None:
        """Hang up on everybody; with RST, if asked."""
        for pair in self._taken():
            pair.close(reset=reset)

    def half_close(self) -> None:
        """Tell all clients that nothing more comes, but go on listening to them."""
        for pair in list(self._pairs):
            with suppress(OSError):
                pair.client.shutdown(socket.SHUT_WR)

    def mute(self) -> None:
        """Let nothing more pass on the connections that there are."""
        for pair in list(self._pairs):
            pair.muted = True

    def refuse(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def listen_again(self) -> None:
        """Listen on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._serve()

    def _taken(self) -> list[Pair]:
        pairs, self._pairs = self._pairs, []
        return pairs

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.server_port), 5)
                except OSError:  # the server is away
                    client.close()
                    continue
                server.settimeout(None)
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = Pair(client, server)
                self._pairs.append(pair)
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(pair,), daemon=True).start()

    def _ask(self, pair: Pair) -> None:
        with suppress(OSError):
            while data := pair.client.recv(65536):
                how = self._page(data)
                if how is not None:
                    self._misanswer(pair, how)
                    return
                self._wait(pair)
                pair.server.sendall(data)
            pair.server.shutdown(socket.SHUT_WR)

    def _answer(self, pair: Pair) -> None:
        with suppress(OSError):
            while data := pair.server.recv(65536):
                self._wait(pair)
                for piece in self._pieces(data):
                    pair.client.sendall(piece)
            self._wait(pair)
            if not pair.over:
                pair.client.shutdown(socket.SHUT_WR)

    def _wait(self, pair: Pair) -> None:
        while (self.holding or pair.muted) and not self._over:
            time.sleep(LOOK_S)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self.garbling:
            self.garbling -= 1
            data = self._garbled(data)
        if self.dribbling:
            yield from (data[at : at + 1] for at in range(len(data)))
        else:
            yield data

    def _garbled(self, data: bytes) -> bytes:
        at = self._rng.randrange(len(data))
        if self.inserting:
            return data[:at] + self._rng.randbytes(24) + data[at:]
        return data[:at] + b"\xff" * len(data[at : at + 16]) + data[at + 16 :]

    def _page(self, data: bytes) -> str | None:
        path = data[:200].partition(b" ")[2].partition(b" ")[0]
        return next((how for start, how in self.pages.items() if path.startswith(start)), None)

    def _misanswer(self, pair: Pair, how: str) -> None:
        """Answer a page in the server's place."""
        send = pair.client.sendall
        if how == "silent":
            while not self._over:
                time.sleep(LOOK_S)
        elif how == "trickle":
            send(HEAD + b"content-length: 100000\r\n\r\n")
            while not self._over:
                send(b"#")
                time.sleep(1)
        elif how == "endless":
            send(HEAD + ENDLESS)
            block = b"%x\r\n%s\r\n" % (65536, b"#" * 65536)
            while not self._over:
                send(block)
        else:
            body = self._body(how)
            send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        pair.close()

    def _body(self, how: str) -> bytes:
        if how == "numbers":
            names = (b"num_requests_running", b"generation_tokens_total", b"prompt_tokens_total")
            return b"".join(b"vllm:%s %s\n" % (n, self._rng.choice(NUMBERS)) for n in names)
        if how == "html":
            return b"<html><body>Welcome to nginx!</body></html>\n"
        if how == "json":
            return self._rng.choice((b"[]", b"null", b'{"data": 3}', b'{"data": [{"id": 5}]}'))
        return self._rng.randbytes(5000)
