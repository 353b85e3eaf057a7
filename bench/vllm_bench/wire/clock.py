"""Which clock stamps what arrives: the kernel's, as a packet comes in, or this process's own.

With SO_TIMESTAMPNS (socket(7), Linux) a read tells when its last packet came, so a process that
gets round to reading late tells the arrival all the same. These stamps are of CLOCK_REALTIME, and
requests are stamped by the monotonic clock: so the two are paired. Slewing acts on both; only a
step moves them apart. After a step, or a read without a stamp, this process's own stamps are used
to the end: they are never before the kernel's, so the order holds.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; Python has no name for it
# With less space the kernel cuts the message, and the stamp in it is empty.
CONTROL_SPACE = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0
STEP_NS = 50_000
PAIRS = 20
EVERY_NS = 1_000_000_000
NS_PER_S = 1_000_000_000

Control = list[tuple[int, int, bytes]]  # what `recvmsg` returns beside the bytes
_timespec = struct.Struct("@qq").unpack  # seconds, nanoseconds


@dataclass(frozen=True, slots=True)
class Pair:
    """The wall clock less the monotonic clock at one moment, and what that is uncertain by."""

    offset_ns: int
    width_ns: int


def pair_clocks() -> Pair:
    """Read both clocks several times, and return the reading that took least."""
    return min((_read_both() for _ in range(PAIRS)), key=lambda pair: pair.width_ns)


def _read_both() -> Pair:
    before_ns = time.perf_counter_ns()
    wall_ns = time.time_ns()
    after_ns = time.perf_counter_ns()
    return Pair(wall_ns - (before_ns + after_ns) // 2, after_ns - before_ns)


def ask_for_stamps(sock: socket.socket) -> None:
    """Have the kernel stamp what a socket receives, if it can; before `connect`."""
    if sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        except OSError:
            return  # then reads come without stamps, and the clock notes that


@contextmanager
def kept_stamping() -> Iterator[None]:
    """Keep the kernel stamping: it does while any socket of the machine asks for it.

    It takes a moment to begin, in which the first reads on new connections have no stamps.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ask_for_stamps(sock)
        yield


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """How the reads of a process were stamped."""

    own_since_ns: int | None  # monotonic; None: the kernel stamped all of them
    why: Literal["", "step", "no stamp"]  # why the kernel's stamps weren't used any longer
    apart_ns: int  # the most by which the clocks' pairs differed, and what a pair is uncertain by


class Clock:
    """Stamps reads with the kernel's clock, told in the monotonic one, as long as that is right."""

    def __init__(self, pair: Callable[[], Pair] = pair_clocks) -> None:
        self._pair = pair
        self.begin()

    def begin(self) -> None:
        """Forget what was, and pair the clocks anew; while nothing is under way."""
        pair = self._pair()
        self._offset_ns: int | None = pair.offset_ns
        self._last_ns = pair.offset_ns
        self._due_ns = time.perf_counter_ns() + EVERY_NS
        self._facts = ClockFacts(None, "", pair.width_ns)

    def end(self) -> ClockFacts:
        """Pair the clocks a last time, and return how reads were stamped since the beginning."""
        self._look_closely(time.perf_counter_ns())
        return self._facts

    def look(self) -> None:
        """Notice a step, and pair the clocks when a second is over. Before each batch of reads."""
        now_ns = time.perf_counter_ns()
        apart_ns = time.time_ns() - now_ns - self._last_ns
        if now_ns >= self._due_ns or not -STEP_NS < apart_ns < STEP_NS:
            self._look_closely(now_ns)

    def _look_closely(self, now_ns: int) -> None:
        pair = self._pair()
        apart_ns = abs(pair.offset_ns - self._last_ns)
        self._last_ns = pair.offset_ns
        self._due_ns = now_ns + EVERY_NS
        if self._offset_ns is None:
            return
        if apart_ns > STEP_NS + pair.width_ns:
            self._use_own(now_ns, "step")
            return
        self._offset_ns = pair.offset_ns
        apart_ns = max(self._facts.apart_ns, apart_ns + pair.width_ns)
        self._facts = ClockFacts(None, "", apart_ns)

    def arrived_ns(self, control: Control, own_ns: int) -> int:
        """Return when a read's last packet came; `own_ns` is taken just after the read."""
        if self._offset_ns is None:
            return own_ns
        try:
            ((_, _, stamp),) = control
            seconds, ns = _timespec(stamp)
        except (ValueError, struct.error):  # none, several, or one that was cut
            self._use_own(own_ns, "no stamp")
            return own_ns
        arrived_ns: int = seconds * NS_PER_S + ns - self._offset_ns
        return arrived_ns

    @property
    def kernel(self) -> bool:
        """Whether stamps are the kernel's."""
        return self._offset_ns is not None

    def _use_own(self, now_ns: int, why: Literal["step", "no stamp"]) -> None:
        self._offset_ns = None
        self._facts = ClockFacts(now_ns, why, self._facts.apart_ns)
