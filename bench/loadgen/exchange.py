"""The raw facts of one request and its reply, as the sending loop leaves them.

Nothing is parsed while streams run: an `Exchange` is stamps and bytes, and
`outcome` reads it afterwards, in another process.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .records import ErrorKind


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange could not go on, noticed on the sending loop."""

    kind: ErrorKind
    text: str


@dataclass(slots=True)
class Exchange:
    """One request from its slot to its end. Times are `perf_counter_ns` of the sending process."""

    request_index: int
    stream_index: int
    t_scheduled_ns: int
    t_sent_ns: int | None = None
    t_end_ns: int | None = None  # the reply was complete, or the failure was noticed
    connect_ns: int | None = None  # how long opening a connection for this request took
    http_status: int | None = None
    content_type: str = ""
    content_encoding: str = ""
    reads: list[tuple[int, bytes]] = field(default_factory=list)  # (stamp, body bytes)
    failure: Failure | None = None
