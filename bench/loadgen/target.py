"""Where requests go, and the bytes of each: all that a sending process has to know of them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is verified; `ca_file` None: by the system's authorities."""

    verify: bool = True
    ca_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context to connect with. Raises OSError where the CA file can't be read."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint that a run's requests go to, and the headers that all of them carry."""

    host: str
    port: int
    tls: Tls | None  # None: plain HTTP
    path: str
    headers: tuple[tuple[str, str], ...]

    def head(self) -> bytes:
        """Return what the heads of all requests begin with."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode("ascii") + b"\r\n"

    def request_bytes(self, request: PlannedRequest) -> bytes:
        """Return the whole HTTP/1.1 request, head and body."""
        return request.after(self.head())


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a plan, ready to be sent."""

    index: int
    request_id: str
    prompt_id: str
    body: bytes  # of a turn: empty, until the answer before it is known
    max_tokens: int
    conversation_id: str | None = None
    turn: int | None = None  # from 1

    def after(self, head: bytes) -> bytes:
        """Return the whole request, `head` being what all of its target's begin with."""
        return b"%bX-Request-Id: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            head,
            self.request_id.encode("ascii"),
            len(self.body),
            self.body,
        )
