"""The raw facts of one request and its reply, as the sending loop recorded them.

Nothing is parsed while streams run: an `Exchange` is stamps and bytes. What it has read is
handed over in segments, so that neither a long reply nor many replies that end together are a long
piece of work for the process that stamps.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..records.request_record import ErrorKind

Reads = list[tuple[int, bytes]]  # (stamp in ns, body bytes) of each read, in order
READ_OVERHEAD = 150  # bytes of a read beside its body: tuple, number, head of the bytes, lateness


def _none() -> array[int]:
    return array("q")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange could not go on, as seen by the sending loop."""

    kind: ErrorKind
    text: str


@dataclass(slots=True)
class Exchange:
    """One request from its slot to its end. Times are of the clock of `perf_counter_ns`.

    A read's stamp is the kernel's where it has one, and else was taken just after the read.
    """

    request_index: int
    stream_index: int
    t_scheduled_ns: int
    t_sent_ns: int | None = None
    t_end_ns: int | None = None  # the reply was complete, or the failure was noticed
    waited_ns: int = 0  # its stream's wait before it, since the server had turned requests away
    connect_ns: int | None = None  # time to open a connection for this request, if one was opened
    resent: int = 0  # how often it was sent again, since its connection had closed under it
    http_status: int | None = None
    content_type: str = ""
    content_encoding: str = ""
    location: str = ""  # where a redirect points to
    framed: bool = False  # the reply's head said where it ends, or that chunks do
    retry_after: str = ""  # when the server wants to be asked again: seconds, or a date
    reads: Reads = field(default_factory=list)  # those not yet handed over
    # How long after its stamp each of them was read; 0: the stamp was taken then.
    lates_ns: array[int] = field(default_factory=_none)
    held_bytes: int = 0  # of these reads, framing included
    failure: Failure | None = None

    def hand_over(self) -> Segment:
        """Return what was read since the last call, and forget it here."""
        held, lates_ns, size = self.reads, self.lates_ns, self.held_bytes
        if held:
            self.reads, self.lates_ns, self.held_bytes = [], _none(), 0
        return Segment(self.request_index, self.http_status, held, lates_ns, size)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a reply, on its way to the parent process."""

    request_index: int
    http_status: int | None
    reads: Reads
    lates_ns: array[int] = field(default_factory=_none)
    read_bytes: int = 0  # of the reads, framing included

    @property
    def memory_bytes(self) -> int:  # asked for by name in send/outbox.py
        """About what the segment takes: many small reads are mostly Python's own."""
        return self.read_bytes + READ_OVERHEAD * len(self.reads)

    def packed(self) -> PackedSegment:
        """Return the segment as flat buffers: many small objects are slow to pickle."""
        stamps = array("q", [stamp for stamp, _ in self.reads]).tobytes()
        lengths = array("I", [len(body) for _, body in self.reads]).tobytes()
        body = b"".join([body for _, body in self.reads])
        lates = self.lates_ns.tobytes()
        return PackedSegment(self.request_index, self.http_status, stamps, lengths, body, lates)


@dataclass(frozen=True, slots=True)
class PackedSegment:
    """A segment as it crosses the pipe: stamps (int64), lengths (uint32), all bodies in one.

    `lates`: how long after its stamp each was read (ns, int64).
    """

    request_index: int
    http_status: int | None
    stamps: bytes
    lengths: bytes
    body: bytes
    lates: bytes = b""

    def reads(self) -> Iterator[tuple[int, bytes]]:
        stamps, lengths = array("q", self.stamps), array("I", self.lengths)
        start = 0
        for stamp, length in zip(stamps, lengths, strict=True):
            yield stamp, self.body[start : start + length]
            start += length
