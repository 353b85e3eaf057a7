"""What shows a run: a screen on a terminal, else lines, which need no library for screens."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, TextIO

from .progress import Progress, ProgressLines, ServerSays, Title


class View(AbstractContextManager[object], Protocol):
    """Shows a run's progress, as often as it is told."""

    def show(self, progress: Progress) -> None: ...


def progress_view(stream: TextIO, title: Title, server: ServerSays, *, plain: bool = False) -> View:
    """Return what shows a run on the stream: a view if the stream is a terminal, else lines."""
    if plain or not stream.isatty():
        return ProgressLines(stream)
    from .screen import LiveView, drawing_on

    console = drawing_on(stream)
    return ProgressLines(stream) if console is None else LiveView(console, title, server)
