"""How well a sending process keeps up: the lag of its loop, its share of a core.

A tick is due every 10 ms. If it is late, reads on the loop may be late by the same time. Ticks
that were missed because the loop was busy count too, each with the rest of the delay: otherwise
one long stop would be one sample among thousands.
"""

from __future__ import annotations

import asyncio
import re
import resource
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .outbox import Alive, Pulse

TICK_NS = 10_000_000
PULSE_NS = 1_000_000_000
MOST_SILENT_S = 11  # ten, and its last word may have been a second old


def lags_of(due_ns: int, now_ns: int) -> list[int]:
    """Return the lag (us) of the tick that was due, and of the ticks that were missed."""
    return [lag // 1000 for lag in range(now_ns - due_ns, -1, -TICK_NS)]


class LoopHealth:
    """Ticks on the running loop, and reports one pulse per second."""

    def __init__(
        self, report: Callable[[Pulse], None], replying: Callable[[], bool] = lambda: False
    ) -> None:
        """`replying` tells whether any reply is under way."""
        self._report = report
        self._replying = replying
        self._lags_us = array("I")
        self._due_ns = 0
        self._pulse_ns = 0
        self._cpu_ns = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        now_ns = time.perf_counter_ns()
        self._pulse_ns, self._cpu_ns = now_ns, time.process_time_ns()
        self._next(now_ns)

    def stop(self) -> None:
        """Stop, and report the rest of the last second."""
        if self._handle is not None:
            self._handle.cancel()
        self._pulse(time.perf_counter_ns())

    def _next(self, now_ns: int) -> None:
        self._due_ns = now_ns + TICK_NS
        self._handle = self._loop.call_later(TICK_NS / 1e9, self._tick)

    def _tick(self) -> None:
        now_ns = time.perf_counter_ns()  # the tick runs
        # uvloop's timers count milliseconds, and may fire a fraction of one early.
        self._lags_us.extend(lags_of(min(self._due_ns, now_ns), now_ns))
        if now_ns - self._pulse_ns >= PULSE_NS:
            self._pulse(now_ns)
        self._next(now_ns)

    def _pulse(self, now_ns: int) -> None:
        cpu_ns, span_ns = time.process_time_ns(), now_ns - self._pulse_ns
        if span_ns > 0:
            share = (cpu_ns - self._cpu_ns) / span_ns
            self._report(Pulse(now_ns, share, self._lags_us.tobytes(), self._replying()))
        self._pulse_ns, self._cpu_ns, self._lags_us = now_ns, cpu_ns, array("I")


@contextmanager
def signs_of_life(report: Callable[[Alive], None]) -> Iterator[None]:
    """Report each second, inside the block, that the loop goes round; at once for the first time.

    The parent takes a process that says nothing for one that is frozen.
    """
    loop = asyncio.get_running_loop()
    beat: asyncio.TimerHandle

    def again() -> None:
        nonlocal beat
        report(Alive())
        beat = loop.call_later(PULSE_NS / 1e9, again)

    again()
    try:
        yield
    finally:
        beat.cancel()


class Listening:
    """Notices that the parent, which said each second that it lives, says so no more.

    Only a machine's foreman says so: nobody else can end what it has started there. Silence is
    counted in turns of this loop: suspended itself, this process has missed nothing.
    """

    def __init__(self, on_silence: Callable[[], None]) -> None:
        """`on_silence` is called once, after ten seconds; never before the first sign."""
        self._on_silence = on_silence
        self._silent_s = 0
        self._beat: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """Take a sign of life."""
        self._silent_s = 0
        if self._beat is None:
            self._again()

    def _again(self) -> None:
        if self._silent_s == MOST_SILENT_S:
            self._on_silence()
            return
        self._silent_s += 1
        self._beat = asyncio.get_running_loop().call_later(PULSE_NS / 1e9, self._again)


def peak_memory_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the most memory that this process has had.

    Linux counts `ru_maxrss` on over exec: a spawned process begins with its parent's size. macOS,
    which has no /proc, gives it in bytes.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
