"""TLS as bytes: records cut anywhere, tickets, and the goodbye that comes without a FIN."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
import trustme
from vllm_bench.wire.tls import Tls


class Server:
    """The far end's side of a handshake, without a socket."""

    def __init__(self) -> None:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.trusting = ssl.create_default_context()
        authority.configure_trust(self.trusting)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)


def shaken(server: Server) -> tuple[Tls, bytes]:
    """Return a side that has shaken hands, and what the server sent beyond that: its tickets."""
    near = Tls(server.trusting, "127.0.0.1")
    done = near.shake_hands()
    while not done:
        server.incoming.write(near.to_send())
        with suppress(ssl.SSLWantReadError):
            server.tls.do_handshake()
        done = near.shake_hands(server.outgoing.read())
    server.incoming.write(near.to_send())
    server.tls.do_handshake()
    return near, server.outgoing.read()


def test_tickets_bring_no_text_and_no_goodbye() -> None:
    near, tickets = shaken(Server())
    assert tickets
    assert near.opened(tickets) == (b"", False)


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_records_may_be_cut_anywhere(size: int) -> None:
    far = Server()
    near, tickets = shaken(far)
    text = bytes(range(256)) * 200  # several records
    far.tls.write(text)
    far.tls.write(b"more")
    sealed, found = tickets + far.outgoing.read(), b""
    for at in range(0, len(sealed), size):
        part, goodbye = near.opened(sealed[at : at + size])
        found += part
        assert not goodbye
    assert found == text + b"more"


def test_a_goodbye_is_told_with_the_text_before_it_and_answered() -> None:
    far = Server()
    near, tickets = shaken(far)
    far.tls.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        far.tls.unwrap()
    assert near.opened(tickets + far.outgoing.read()) == (b"last words", True)
    far.incoming.write(near.farewell())
    far.tls.unwrap()  # now it has its answer


def test_what_is_sealed_is_read_by_the_far_end() -> None:
    far = Server()
    near, _ = shaken(far)
    far.incoming.write(near.sealed(b"request"))
    assert far.tls.read(100) == b"request"
    assert near.to_send() == b""


def test_nonsense_is_an_error() -> None:
    near, _ = shaken(Server())
    with pytest.raises(ssl.SSLError):
        near.opened(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
