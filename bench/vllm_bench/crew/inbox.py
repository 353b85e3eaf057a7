"""What a sending process sends, read without ever waiting for it.

A process can freeze, or be killed, in the middle of a message: whoever waits for the rest waits
for ever. So bytes are taken as they come, and a message is read once it is whole.
"""

from __future__ import annotations

import os
import pickle
import struct
from mmap import mmap
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait

A_LOOK = 1 << 20  # bytes at a time, so that the other processes have their turn

# How multiprocessing.Connection.send writes: the length, or -1 and a longer length; then a pickle.
LENGTH, LONGER = struct.Struct("!i"), struct.Struct("!iQ")


class Inbox:
    """The parent's end of a sending process's results."""

    def __init__(self, pipe: Pipe) -> None:
        """Read this pipe, which is never waited for from now on."""
        self._pipe = pipe
        self._fd = pipe.fileno()
        self._bytes = bytearray()
        self._look = memoryview(mmap(-1, A_LOOK))  # had once: pages that no look fills are none
        os.set_blocking(self._fd, False)

    def wait(self, limit_s: float) -> None:
        """Wait until something has come."""
        wait([self._pipe], limit_s)

    def take(self) -> list[object] | None:
        """Return the messages that are whole; None: the pipe has ended.

        One that can't be read raises what pickle raises, once those before it were returned.
        """
        try:
            found = os.readv(self._fd, [self._look])
        except BlockingIOError:
            return self._whole() if self._bytes else []
        except OSError:  # a connection that ended without a word
            return None
        if not found:
            return None
        self._bytes += self._look[:found]
        return self._whole()

    def _whole(self) -> list[object]:
        messages: list[object] = []
        at, end = 0, len(self._bytes)
        with memoryview(self._bytes) as view:
            while (span := _span(view, at)) is not None and span[1] <= end:
                try:
                    messages.append(pickle.loads(view[span[0] : span[1]]))  # noqa: S301
                except (OSError, ImportError):  # no file can be opened: its module isn't loaded
                    if messages:
                        break
                    raise
                at = span[1]
        del self._bytes[:at]
        return messages


def _span(view: memoryview, at: int) -> tuple[int, int] | None:
    """Return where the message at `at` begins and ends; None: its head isn't whole."""
    if len(view) - at < LENGTH.size:
        return None
    (length,) = LENGTH.unpack_from(view, at)
    begin = at + LENGTH.size
    if length == -1:
        if len(view) - at < LONGER.size:
            return None
        _, length = LONGER.unpack_from(view, at)
        begin = at + LONGER.size
    return begin, begin + length
