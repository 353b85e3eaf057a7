"""Where the head listens: HOST:PORT in all its forms."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from ...errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """A host (a name, or an address without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address_of(text: str, what: str, *, port: int | None = None) -> Address:
    """Read HOST:PORT; an IPv6 address stands in brackets, or alone without a port.

    `port`: the one of a text without. `what` begins the complaint. Raises UsageError.
    """
    usual, (host, colon, digits) = port, text.rpartition(":")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, digits = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise UsageError(_not_one(text, what, usual))
    elif not colon or ":" in host:
        host, colon, digits = text, "", ""
    if colon:
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
            raise UsageError(_not_one(text, what, usual))
        port = int(digits)
    if port is None or not host or not all("!" <= each <= "~" for each in host):
        raise UsageError(_not_one(text, what, usual))
    return Address(host, port)


def _not_one(text: str, what: str, port: int | None) -> str:
    form = "HOST:PORT" if port is None else "HOST or HOST:PORT"
    return f"{what} {text!r}: not {form}, with a port from 1 to 65535; IPv6 as [::1]:5000"


def own_host() -> str:
    """Return the address under which others reach this machine: of its way out, if there is one."""
    # RFC 5737, RFC 3849: nobody's; a datagram socket sends nothing.
    for family, nobody in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((nobody, 9))
                return str(sock.getsockname()[0])
        except OSError:
            continue
    return "127.0.0.1"
