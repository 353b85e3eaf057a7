"""How a server's certificate is verified, and whether the server is on this machine."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is verified; `ca_file` None: by the system's authorities."""

    verify: bool = True
    ca_file: str | None = None
    authorities: str | None = None  # what such a file says, for a machine that doesn't have it

    def context(self) -> ssl.SSLContext:
        """Return the context to connect with. Raises OSError where the CA file can't be read."""
        context = ssl.create_default_context(cafile=self.ca_file, cadata=self.authorities)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def carried(self) -> Tls:
        """Return the same for another machine. Raises OSError where the CA file can't be read."""
        if self.ca_file is None:
            return self
        # Beside the certificates, which are ASCII, a file may have comments in any words.
        said = Path(self.ca_file).read_bytes().decode("ascii", errors="ignore")
        return Tls(self.verify, authorities=said)


def is_own_address(host: str) -> bool:
    """Whether a host's name or address belongs to this machine."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(_is_own(family, address) for family, *_, address in found)


def _is_own(family: int, address: Any) -> bool:
    # Without IPv6 `localhost` may still be ::1 too, which can't be bound.
    if ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        return True
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)  # possible only for an address of this machine
    except OSError:
        return False
    return True
