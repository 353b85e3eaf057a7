"""Ctrl-C and SIGTERM during a run: counted or ignored; the old handlers come back afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextmanager
def interrupts_counted() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how often a signal came so far."""
    asked = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1

    with _handled(note):
        yield lambda: asked


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore both signals; children that are started meanwhile ignore them forever.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to the whole process group: only the parent
    handles them.
    """
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)
