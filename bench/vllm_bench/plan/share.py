"""What one sending process gets of a plan: where requests go, the bytes of each, and when."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..vllm.address import Tls
from .dealt.own import ALL, Own
from .sessions.script import Plays

NS_PER_S = 1_000_000_000
MOST_CONNECTIONS = 65536  # an address has no more ports

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Share:
    """Requests of one part of a plan for one sending process, and its connections for them.

    In a closed loop every process has all requests of its machine, and tickets decide which process
    sends which. In an open loop each has its own requests, each with its time.
    """

    target: Target
    lane_numbers: Own  # of its lanes; a run has no number twice
    lanes: int  # streams of a closed loop; connections that an open one keeps ready
    warmup: Sequence[PlannedRequest]
    requests: Sequence[PlannedRequest]
    # From the start, ascending: of requests, or of the plays that it sends; None: a closed loop.
    due_ns: array[int] | None = None
    # Which are its machine's, by ticket; in an open loop its own, by their place in `due_ns`.
    play_numbers: Own = ALL
    most_in_flight: int | None = None
    plays: Plays | None = None  # if requests are turns of sessions
    choices: int = 1  # how many answers each of these asks for
    talk: Talk | None = None  # if their prompts have this server's answers in them
    begins: tuple[float, ...] = ()  # of each lane: a share of the start's spread; none: at once
    duration_ns: int | None = None  # a closed loop by time: no new request after it
    plays_last_ns: int | None = None  # no turn of them goes after it; None: all go to their ends
    fewest: int = 0  # but before this many requests (plays) it doesn't end

    @property
    def most_sockets(self) -> int:
        """How many connections may have to be open at once."""
        if self.due_ns is None:
            return self.lanes * (self.plays.lanes if self.plays else 1)
        if self.plays:
            return min(self.lanes + len(self.due_ns) * self.plays.lanes, MOST_CONNECTIONS)
        return self.lanes + (self.most_in_flight or min(len(self.due_ns), MOST_CONNECTIONS))


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint of a run's requests, their HTTP head, and the time limits of replies."""

    host: str
    port: int
    tls: Tls | None  # None: plain HTTP
    path: str
    headers: tuple[tuple[str, str], ...]
    timeouts: Timeouts
    stream: bool  # whether a reply comes token by token

    def head(self) -> bytes:
        """Return what the heads of all requests begin with."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode("ascii") + b"\r\n"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds, each counted from the event that its name gives."""

    first_token_s: float
    stall_s: float
    total_s: float

    @property
    def shortest_ns(self) -> int:
        """Before this, no timeout of a request can be due."""
        return int(min(self.first_token_s, self.stall_s, self.total_s) * NS_PER_S)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a plan, ready to be sent."""

    index: int
    request_id: str
    prompt_id: str
    body: bytes  # of a turn: empty until the answer before it is known
    max_tokens: int
    conversation_id: str | None = None
    turn: int | None = None  # from 1
    cache_salt: str | None = None
    traced: bool = False  # whether it carries a traceparent

    def after(self, head: bytes) -> bytes:
        """Return the complete HTTP/1.1 request; `head` is the beginning that all requests share."""
        return b"%b%bX-Request-Id: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            head,
            self._traceparent if self.traced else b"",
            self.request_id.encode("ascii"),
            len(self.body),
            self.body,
        )

    @property
    def trace_id(self) -> str | None:
        """The id of its trace, 32 hexadecimal digits, by its own id; None: it isn't traced."""
        return self._ids[0] if self.traced else None

    @property
    def _ids(self) -> tuple[str, str]:
        """The ids of its trace and of its span, which is the whole of it on this side."""
        digits = hashlib.blake2b(self.request_id.encode(), digest_size=24).hexdigest()
        return digits[:32], digits[32:]

    @property
    def _traceparent(self) -> bytes:
        """The header's line, as W3C Trace Context has it: version 00, sampled."""
        return "traceparent: 00-{}-{}-01\r\n".format(*self._ids).encode("ascii")


@dataclass(frozen=True, slots=True)
class Talk:
    """What turns with this server's answers in their history are made of."""

    body: dict[str, Any]  # a request's JSON without messages and salt
    opening: tuple[Message, ...]  # the system prompt
    said: Sequence[str | tuple[Message, ...]]  # what each turn adds: a person's words, or more
    limit: str = "max_tokens"  # the field that says how long an answer may be

    def adds(self, position: int) -> tuple[Message, ...]:
        """Return the messages that a turn adds, by its place in the list of all turns."""
        said = self.said[position % len(self.said)]
        return ({"role": "user", "content": said},) if isinstance(said, str) else said

    def request(self, planned: PlannedRequest, history: Sequence[Message]) -> PlannedRequest:
        """Return the request with the body made from the history, its own turn at its end."""
        fields = {**self.body, self.limit: planned.max_tokens}
        body = orjson.dumps({**fields, "messages": [*self.opening, *history]})
        return dataclasses.replace(planned, body=salted(body, planned.cache_salt))


def salted(body: bytes, cache_salt: str | None) -> bytes:
    """Return a request's JSON with a salt for the prefix cache: printable ASCII, without quotes.

    Texts are the same bytes in each use of a prompt; only the salt has to be written.
    """
    if cache_salt is None:
        return body
    return b'%b,"cache_salt":"%b"}' % (body[:-1], cache_salt.encode("ascii"))
