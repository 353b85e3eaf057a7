"""TLS of a connection as bytes in and bytes out, so that reads are stamped below it."""

from __future__ import annotations

import ssl
from contextlib import suppress

RECORD_BYTES = 16384


class Tls:
    """The TLS side of one connection. It holds no socket."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    def shake_hands(self, data: bytes = b"") -> bool:
        """Take the far end's next bytes; return whether the handshake is done.

        In between, `to_send` has what goes to the far end. Raises ssl.SSLError.
        """
        self._in.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def sealed(self, text: bytes) -> bytes:
        """Return what to send so that the far end reads `text`."""
        self._tls.write(text)
        return self._out.read()

    def opened(self, data: bytes) -> tuple[bytes, bool]:
        """Return the text in the far end's next bytes, and whether it said that no more will come.

        No text may be in them: a part of a record, or a session ticket. Raises ssl.SSLError.
        """
        self._in.write(data)
        parts: list[bytes] = []
        try:
            # Asking until SSLWantRead would cost as much again as the reading itself.
            while self._in.pending or self._tls.pending():
                part = self._tls.read(RECORD_BYTES)
                if not part:  # close_notify: many servers wait for an answer, and send no FIN
                    return b"".join(parts), True
                parts.append(part)
        except ssl.SSLWantReadError:  # a record that isn't whole
            pass
        return b"".join(parts), False

    def to_send(self) -> bytes:
        """Return what has to go to the far end: parts of the handshake, or a new key's."""
        return self._out.read() if self._out.pending else b""

    def farewell(self) -> bytes:
        """Return what tells the far end that no more will come."""
        with suppress(ssl.SSLError):  # it would wait for the answer, or the far end broke off
            self._tls.unwrap()
        return self.to_send()
