"""Hands out requests to several processes: each ticket is a request's index, taken once.

The tickets taken are the position in an empty file that all processes share. The kernel moves that
position under its own lock (lseek(2) with SEEK_CUR), so two processes never get the same ticket. A
process that is killed blocks nobody, since this code has no lock.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any


class Tickets:
    """Indexes 0 … count - 1, each given to the next process that takes one."""

    def __init__(self, count: int) -> None:
        """Raises OSError where no file can be made."""
        self._count = count
        with tempfile.TemporaryFile() as file:
            # It shares the position, and stays open after the file object.
            self._fd = os.dup(file.fileno())

    def take(self) -> int | None:
        """Return the next index; None when all are taken."""
        ticket = os.lseek(self._fd, 1, os.SEEK_CUR) - 1
        return ticket if ticket < self._count else None

    def until(self, end_ns: int, fewest: int) -> Callable[[], int | None]:
        """Return a `take` that gives no more from an instant on (`perf_counter_ns`).

        It goes on until `fewest` are taken; processes that ask at once may then take one each.
        """

        def take() -> int | None:
            # Asked before a ticket is taken: one that nobody uses would be a missing request.
            over = time.perf_counter_ns() >= end_ns and self.taken() >= fewest
            return None if over else self.take()

        return take

    def taken(self) -> int:
        """Return how many are taken so far; only before `close`."""
        return min(os.lseek(self._fd, 0, os.SEEK_CUR), self._count)

    def close(self) -> None:
        os.close(self._fd)
        self._fd = -1  # another file may get this number: never use it again

    def __getstate__(self) -> Any:
        return self._count, reduction.DupFd(self._fd)  # only while a process is being started

    def __setstate__(self, state: Any) -> None:
        self._count, handle = state
        self._fd = handle.detach()
