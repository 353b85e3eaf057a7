"""A run that is under way, drawn on the terminal by the parent: five times a second at most.

Percentiles and bars are taken anew each second; only counts and the clock change in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from .last_seconds import Figures, percentiles
from .live_rows import Room, Title, frame, one_line
from .progress import Progress, ProgressLines, last_line

FRAME_S = 0.2
MARGIN = 1  # a full last column wraps on some terminals, a full last line scrolls

ServerSays = Callable[[], Mapping[str, float]]  # empty: nothing of late


def progress_view(
    stream: TextIO, title: Title, server: ServerSays, *, plain: bool = False
) -> ProgressLines | LiveView:
    """Return what shows a run on the stream: a view where it can draw, else lines."""
    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    if plain or not stream.isatty() or console.is_dumb_terminal or not console.is_interactive:
        return ProgressLines(stream)
    return LiveView(console, title, server)


class LiveView:
    """Draws while the run goes on, and leaves a line or two when it is over.

    What is printed to standard error meanwhile comes to stand above it.
    """

    def __init__(self, console: Console, title: Title, server: ServerSays) -> None:
        """Prepare to draw on the console."""
        self._console = console
        self._title = title
        self._server = server
        # What the script prints as its output is not for this console: it may go to a file.
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._figures = Figures()
        self._progress: Progress | None = None
        self._started_s = -math.inf
        self._next_frame_s = self._next_second_s = 0.0
        self._drawn: tuple[int, list[Text]] = (0, [])  # at which width
        self._gone = False

    def __enter__(self) -> LiveView:
        """Hide the cursor, and get ready before the first request."""
        percentiles([0.0], 50)  # imports what they take, which is not to happen within the run
        self._guarded(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the view away, and leave the last state and the cursor."""
        with suppress(OSError):  # a terminal that has gone away: see `_guarded`
            self._erase()
            if self._progress is not None:
                self._leave(self._progress)

    def show(self, progress: Progress) -> None:
        """Draw how far the run is, where it is time to."""
        now_s = progress.elapsed_s
        self._progress = progress
        if progress.started_s != self._started_s:  # the warm-up is over
            self._begin(progress)
        if now_s < self._next_frame_s or self._gone:
            return
        self._next_frame_s = now_s + FRAME_S
        if now_s >= self._next_second_s:
            self._next_second_s = math.floor(now_s) + 1.0
            self._figures = progress.recent.take(now_s, progress.in_flight, self._server())
        self._guarded(partial(self._draw, progress))

    def _begin(self, progress: Progress) -> None:
        self._started_s = progress.started_s
        self._next_frame_s = 0.0
        self._next_second_s = 1.0  # one request in the first millisecond is no rate
        self._figures = Figures()
        progress.recent.history.clear()

    def _draw(self, progress: Progress) -> None:
        size = self._console.size
        room = Room(
            max(1, size.width - MARGIN),
            max(1, size.height - MARGIN),
            self._console.options.ascii_only,
        )
        lines = frame(self._title, progress, self._figures, room)
        self._unfold(size.width)
        self._live.update(Text("\n", no_wrap=True).join(lines), refresh=True)
        self._drawn = (size.width, lines)

    def _unfold(self, width: int) -> None:
        """Erase the lines that a terminal made of the last frame's when it became narrower."""
        before, lines = self._drawn
        if width >= before:
            return
        more = sum(max(1, math.ceil(line.cell_len / width)) for line in lines) - len(lines)
        up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        self._console.control(Control(ControlType.CARRIAGE_RETURN, *(up * more)))

    def _erase(self) -> None:
        self._unfold(self._console.size.width)
        self._live.stop()

    def _leave(self, progress: Progress) -> None:
        self._console.print(Text(f"  {last_line(progress)}"), soft_wrap=True)
        if progress.last_error:
            text = Text(f"  last error: {one_line(progress.last_error)}")
            self._console.print(text, no_wrap=True, overflow="ellipsis")

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do it; a terminal that has gone away ends the view, and not the run."""
        if self._gone:
            return
        try:
            act()
        except OSError:
            self._gone = True
