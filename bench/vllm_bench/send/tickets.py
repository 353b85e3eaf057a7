"""One order of requests for several processes: each ticket is a request's index, taken once.

A file of four-byte indexes whose read position all processes share. The kernel moves that
position under a lock of its own, so two readers never get the same ticket, and a process that is
killed at any moment holds nothing up: there is no lock of ours that it could take along.
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
    """Indexes 0 … count - 1, dealt out in order to whichever process asks next."""

    def __init__(self, count: int) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(array("i", range(count)).tobytes())
            file.flush()
            self._fd = os.dup(file.fileno())  # shares the position, outlives the file object
        os.lseek(self._fd, 0, os.SEEK_SET)

    def take(self) -> int | None:
        """Return the next index; None when all are taken."""
        ticket = os.read(self._fd, TICKET_BYTES)
        return int.from_bytes(ticket, sys.byteorder, signed=True) if ticket else None

    def taken(self) -> int:
        """Return how many are taken so far; any process may ask, until it closes its own."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) // TICKET_BYTES

    def close(self) -> None:
        os.close(self._fd)
        self._fd = -1  # a number that another file may get is not asked again

    def __getstate__(self) -> Any:
        return reduction.DupFd(self._fd)  # as a process is started; it can't be sent otherwise

    def __setstate__(self, handle: Any) -> None:
        self._fd = handle.detach()
