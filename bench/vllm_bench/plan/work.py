"""Where requests go, and the bytes of each: all that a sending process has to know of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import orjson

from ..vllm.address import Tls


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


@dataclass(frozen=True, slots=True)
class Manner:
    """How every request of a run is sent and waited for."""

    target: Target
    timeouts: Timeouts
    replies_stream: bool

    @property
    def patience_ns(self) -> int:
        """Before this, no timeout of a request can be due."""
        t = self.timeouts
        return int(min(t.first_token_s, t.stall_s, t.total_s) * NS_PER_S)


NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds, each counted from the event that its name gives."""

    first_token_s: float
    stall_s: float
    total_s: float


Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Talk:
    """What the turns of a plan are made of. Conversation c has the requests from c x turns on."""

    body: dict[str, Any]  # all of a request's JSON but the messages
    opening: tuple[Message, ...]  # the system prompt
    said: tuple[str, ...]  # what the person says, a text a request
    turns: int
    think_ns: int
    stream: bool
    salt_each: bool = False  # nothing is to be found in the prefix cache, the history neither

    def request(self, planned: PlannedRequest, history: list[Message]) -> PlannedRequest:
        """Return the request with the body that the history makes of it."""
        body = {**self.body, "messages": [*self.opening, *history]}
        if self.salt_each:
            body["cache_salt"] = planned.request_id
        return dataclasses.replace(planned, body=orjson.dumps(body))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and when it is meant to go, in ns from the start."""

    after_ns: int
    request: PlannedRequest
