"""A connection over TLS: the bytes of the socket are stamped, and then opened."""

from __future__ import annotations

import ssl
from typing import Any

from .connection import Connection
from .tls import Tls


class SecureConnection(Connection):
    """The same over TLS, which has shaken hands on the socket: reads are stamped below it."""

    def __init__(self, tls: Tls, *of_any: Any) -> None:
        """Take what any connection takes, after the side of TLS."""
        self._tls = tls
        super().__init__(*of_any)

    def received(self, data: bytes, stamp_ns: int, own_ns: int) -> None:
        """Take the text of a read: a session ticket has none, and a goodbye may follow it."""
        try:
            text, self._said_goodbye = self._tls.opened(data)
        except ssl.SSLError as e:
            self.lost(e)
            return
        super()._write(self._tls.to_send())
        if text:
            super().received(text, stamp_ns, own_ns)
        if self._said_goodbye:
            self.lost(None)

    def close(self) -> None:
        """Say goodbye, and close the connection; no exchange may be under way."""
        self._write_now(self._tls.farewell())
        super().close()

    def _write(self, data: bytes) -> None:
        super()._write(self._tls.sealed(data))
