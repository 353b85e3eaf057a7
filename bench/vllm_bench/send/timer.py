"""A timer with microseconds for the sending loop, whose own timers count in milliseconds.

On Linux it is a timerfd on CLOCK_MONOTONIC, the clock of `perf_counter_ns`, watched by the loop
like a socket (timerfd_create(2); Python has it from 3.13 on, so it is called through ctypes).
On other systems the loop's timer is used: up to a millisecond late, which shows as send lag.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable, Coroutine

CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1


async def sleep_until(at_ns: int) -> None:
    """Sleep until `perf_counter_ns` has reached an instant, never less."""
    # Loops round to milliseconds, up or down.
    while (left_ns := at_ns - time.perf_counter_ns()) > 0:
        await asyncio.sleep(left_ns / 1e9)


def in_background(
    work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]
) -> asyncio.Task[None]:
    """Start work, kept in `tasks` until it ends. What it raises ends the process."""

    def over(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled():
            task.result()  # raised here, it reaches the loop's handler (see worker.py)

    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(over)
    return task


class PreciseTimer:
    """Calls `fire` once, at or soon after the instant that was set last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        """Prepare; nothing is set. Raises OSError if the system has no descriptors left."""
        self._loop = loop
        self._fire = fire
        self._handle: asyncio.TimerHandle | None = None
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                raise OSError(ctypes.get_errno(), "no timer available")
            loop.add_reader(self._fd, self._due)

    def arm(self, at_ns: int) -> None:
        """Set the instant, on the clock of `perf_counter_ns`; it replaces an earlier one."""
        if self._fd >= 0:
            # struct itimerspec: interval (none) and value, seconds and nanoseconds each.
            spec = (ctypes.c_long * 4)(0, 0, *divmod(max(at_ns, 1), 1_000_000_000))
            self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, spec, None)
            return
        if self._handle is not None:
            self._handle.cancel()
        delay_s = max(0, at_ns - time.perf_counter_ns()) / 1e9
        self._handle = self._loop.call_later(delay_s, self._fire)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _due(self) -> None:
        try:
            os.read(self._fd, 8)  # it stays readable until it is read
        except BlockingIOError:
            return  # set again meanwhile, and not due yet
        self._fire()
