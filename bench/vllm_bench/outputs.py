"""A script's outputs: closed by its caller, full, without a reader, or stuck behind Ctrl-S."""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections import deque
from typing import TextIO

MOST_WAITING = 1 << 18  # bytes; a terminal that is stuck is drawn on no further
A_MOMENT_S = 0.2  # for what was written to appear before what other outputs show next


def open_outputs(*, aside: bool) -> None:
    """Let a script print to what its caller has closed, and what a terminal can't show.

    The number of a closed output would else be the next file's, and what is printed went into it.
    With `aside` nobody waits for standard error: see `Aside`.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if aside:
        raw, encoding = Aside(sys.stderr.fileno()), sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(raw, encoding, write_through=True)
    for stream in (sys.stdout, sys.stderr):
        # A question mark where a terminal lacks a character.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def discard(number: int) -> None:
    """Let what is still written to an output succeed, Python's own last flush too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def takes_more(number: int) -> bool:
    """Return whether a write would not have to wait."""
    there = select.poll()
    there.register(number, select.POLLOUT)
    return bool(there.poll(0))


def finish(stream: TextIO, limit_s: float | None) -> None:
    """Write out what was printed, and wait for it, or for this long. Raises OSError."""
    stream.flush()
    raw = getattr(stream, "buffer", None)
    if isinstance(raw, Aside):
        raw.finish(limit_s)


class Aside(io.RawIOBase):
    """Writes by a thread of its own, so that whoever measures never waits for a terminal.

    A terminal under Ctrl-S, or a pipe that nobody reads, takes nothing for hours. Meanwhile what is
    written waits, up to `MOST_WAITING`; more is dropped. What fails is dropped too.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stuck = False
        threading.Thread(target=self._write_all, daemon=True).start()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: object) -> int:
        """Take bytes; returns at once."""
        taken = bytes(data)  # type: ignore[call-overload]
        with self._changed:
            if self._bytes + len(taken) <= MOST_WAITING:
                self._waiting.append(taken)
                self._bytes += len(taken)
                self._changed.notify_all()
        return len(taken)

    def flush(self) -> None:
        """Wait until all is written: for a moment, and once it is stuck not at all."""
        if not self._stuck:
            self.finish(A_MOMENT_S)

    def finish(self, limit_s: float | None) -> None:
        """Wait until all is written, or this time has passed."""
        with self._changed:
            self._stuck = not self._changed.wait_for(lambda: not self._bytes, limit_s)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                data = self._waiting.popleft()
            _write(self._number, data)
            with self._changed:
                self._bytes -= len(data)
                self._stuck = self._stuck and bool(self._bytes)
                self._changed.notify_all()


def _write(number: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(number, data) :]
    except OSError:  # its reader has gone, or its disk is full
        return
