"""What a process has said on its standard error, for when it ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO

from ...records.text import printable

LAST_LINES = 3
LIMIT_S = 2.0  # for what an ended process has said; whoever it left behind may hold its pipe open


class LastWords:
    """The last lines of a pipe, which is read to its end: nobody else does."""

    def __init__(
        self, pipe: IO[bytes], heard: Callable[[Sequence[str]], object] | None = None
    ) -> None:
        """Begin to read, in a thread, which calls `heard` with the last lines at each one."""
        self._lines = deque[str](maxlen=LAST_LINES)
        self._heard = heard
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def so_far(self) -> str:
        """Return them in a line, empty where there is none."""
        return printable(" / ".join(self._lines), 300)

    def at_end(self) -> str:
        """Return those of a process that has ended: its end can be seen before its words."""
        self._thread.join(LIMIT_S)
        return self.so_far()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._lines.append(line.decode(errors="replace").strip())
                if self._heard is not None:
                    self._heard(self._lines)
