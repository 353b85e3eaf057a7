"""Ctrl-C and SIGTERM while a run goes on: counted, not obeyed at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Interrupts:
    """Counts how often the end was asked for, from entering to leaving."""

    def __init__(self) -> None:
        self._count = 0
        self._before: dict[int, Any] = {}

    def count(self) -> int:
        return self._count

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
