"""A timer with microseconds: the timers of libuv and asyncio count in milliseconds.

On Linux it is a timerfd on CLOCK_MONOTONIC, the clock of time.perf_counter_ns(),
read by the loop like a socket. On other systems it uses the loop's timers.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class FdTimer:
    """A timerfd that the loop watches; calls back once, at or after the last deadline set."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Itimerspec()
        self._spec_pointer = ctypes.byref(self._spec)
        self._loop = loop
        self._fire = fire
        self._armed = False
        loop.add_reader(self._fd, self._readable)

    def arm(self, deadline_ns: int) -> None:
        """Set the deadline, on the clock of time.perf_counter_ns()."""
        self._armed = True
        self._set(max(deadline_ns, 1))

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _set(self, deadline_ns: int) -> None:
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(deadline_ns, 1_000_000_000)
        self._settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_pointer, None)

    def _readable(self) -> None:
        # Setting a deadline also clears the last one, so the descriptor
        # is never read: this saves a system call each time that tokens are due.
        self._armed = False
        self._fire()
        if not self._armed:
            self._set(0)  # none


class LoopTimer:
    """The loop's own timer: late by up to a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, deadline_ns: int) -> None:
        self.close()
        delay_s = max(0, deadline_ns - time.perf_counter_ns()) / 1e9
        self._handle = self._loop.call_later(delay_s, self._fire)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


Timer = FdTimer | LoopTimer


def precise_timer(loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> Timer:
    """Return the best timer that this system has."""
    if sys.platform == "linux":
        return FdTimer(loop, fire)
    return LoopTimer(loop, fire)
