"""Ctrl-C and SIGTERM while a run goes on: counted, or ignored, and given back afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextmanager
def interrupts_counted() -> Iterator[Callable[[], int]]:
    """Yield what tells how often the end was asked for so far."""
    asked = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1

    with _handled(note):
        yield lambda: asked


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore what asks for the end, as the children started meanwhile will for good.

    A terminal sends Ctrl-C, a batch system SIGTERM, to the whole process group: they are the
    parent's to answer, from the first instant.
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
