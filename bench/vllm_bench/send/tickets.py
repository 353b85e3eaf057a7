"""Hands out requests to several processes: each ticket is a request's index, taken once.

A file of four-byte indexes whose read position all processes share. The kernel moves that
position under its own lock, so two readers never get the same ticket. A process that is killed
blocks nobody, since this code has no lock.
"""

from __future__ import annotations

import os
import sys
import tempfile
from array import array
from multiprocessing import reduction
from typing import Any

TICKET_BYTES = 4


class Tickets:
    """Indexes 0 … count - 1, each given to the next process that takes one."""

    def __init__(self, count: int) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(array("i", range(count)).tobytes())
            file.flush()
            self._fd = os.dup(
                file.fileno()
            )  # shares the position, stays open after the file object
        os.lseek(self._fd, 0, os.SEEK_SET)

    def take(self) -> int | None:
        """Return the next index; None when all are taken."""
        ticket = os.read(self._fd, TICKET_BYTES)
        return int.from_bytes(ticket, sys.byteorder, signed=True) if ticket else None

    def taken(self) -> int:
        """Return how many are taken so far; only before `close`."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) // TICKET_BYTES

    def close(self) -> None:
        os.close(self._fd)
        self._fd = -1  # another file may get this number: never use it again

    def __getstate__(self) -> Any:
        return reduction.DupFd(self._fd)  # only while a process is being started

    def __setstate__(self, handle: Any) -> None:
        self._fd = handle.detach()
