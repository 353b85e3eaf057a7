"""How a script ends when somebody presses Ctrl-C: with its exit code, not with a traceback."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def ended(main: Callable[[], int]) -> int:
    """Run a script's main, its imports included, and return its exit code; 130 after Ctrl-C."""
    try:
        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        # What follows is Python's own end: another Ctrl-C there ends it without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interrupts:
    """Counts how often the end was asked for, from entering to leaving."""

    def __init__(self) -> None:
        self._count = 0
        self._before: dict[int, Any] = {}

    def count(self) -> int:
        """Return how often the end was asked for."""
        return self._count

    def __enter__(self) -> Interrupts:
        """Take the signals over."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
