"""The live view of a run, drawn on the terminal by the parent, at most five times per second.

Percentiles and bars are computed each second; only counts and the clock change in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType, Segment, SegmentLines
from rich.table import Table
from rich.text import Text

from ..records.text import printable
from .last_seconds import Figures, percentiles
from .progress import (
    Progress,
    ServerSays,
    Title,
    class_words,
    kinds,
    last_line,
    lost_words,
    minutes,
    time_left,
)

FRAME_S = 0.2
COLUMNS_FREE = 3  # a full last column wraps on some terminals, and Ctrl-C is echoed as ^C
LINES_FREE = 1  # a full last line scrolls
LABEL, VALUE = 11, 29  # columns
FOOT = "last 10 s, one bar per second; running, waiting, KV use: from the server"
MOST_ERROR = 500  # characters of an error that are read
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"


def drawing_on(stream: TextIO) -> Console | None:
    """Return what draws on a terminal; None where it can't be drawn on."""
    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    return console if console.is_interactive and not console.is_dumb_terminal else None


class LiveView:
    """Draws during the run, and leaves one or two lines at its end.

    Other output to standard error appears above the view.
    """

    def __init__(self, console: Console, title: Title, server: ServerSays) -> None:
        self._console = console
        self._title = title
        self._server = server
        # Standard output isn't redirected to this console: it may go to a file.
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._figures = Figures()
        self._progress: Progress | None = None
        self._started_s = -math.inf
        self._next_frame_s = self._next_second_s = 0.0
        self._drawn: tuple[int, list[int]] = (0, [])  # the width then, and that of each line
        self._gone = False

    def __enter__(self) -> LiveView:
        percentiles([0.0], 50)  # imports modules now, not during the run
        self._guarded(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a terminal that has gone away: see `_guarded`
            self._erase_folded(self._console.width)
            self._live.stop()
            if self._progress is not None:
                self._leave(self._progress)

    def show(self, progress: Progress) -> None:
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
        self._next_second_s = 1.0  # one request in the first millisecond doesn't make a rate
        self._figures = Figures()
        progress.recent.history.clear()

    def _draw(self, progress: Progress) -> None:
        width, height = self._console.size
        options = self._console.options.update(width=max(1, width - COLUMNS_FREE))
        view = frame(self._title, progress, self._figures, options)
        lines = [*map(_stripped, self._console.render_lines(view, options, pad=False))]
        lines = lines[: max(1, height - LINES_FREE)]
        self._erase_folded(width)
        self._live.update(SegmentLines(lines, new_lines=True), refresh=True)
        self._drawn = (width, [Segment.get_line_length(line) for line in lines])

    def _erase_folded(self, width: int) -> None:
        """Erase the extra lines of a frame that a terminal folded when it became narrower."""
        before, lengths = self._drawn
        if width < before:
            more = sum(max(0, math.ceil(length / width) - 1) for length in lengths)
            up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *(up * more)))

    def _leave(self, progress: Progress) -> None:
        self._console.print(Text(f"  {last_line(progress)}"), soft_wrap=True)
        if progress.last_error:
            text = Text(f"  last error: {printable(progress.last_error, MOST_ERROR)}")
            self._console.print(text, no_wrap=True, overflow="ellipsis")

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do it; a terminal that has gone away ends the view but not the run."""
        if self._gone:
            return
        try:
            act()
        except OSError:
            self._gone = True


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a label, a value, and the figure whose history is drawn."""

    label: str
    value: str
    course: str | None = None
    top: float | None = None  # value of the highest bar; None: the largest shown
    style: str = ""


def frame(
    title: Title, progress: Progress, now: Figures, options: ConsoleOptions
) -> RenderableType:
    """Return the view. The most important lines come first: a low terminal shows only these."""
    head = Table.grid(padding=(0, 2, 0, 0), expand=True)
    head.add_column(ratio=1)
    head.add_column(justify="right")
    head.add_row(*(_text(words, style, options) for words, style in _header(title, progress)))
    bar = ProgressBar(1.0, progress.share, complete_style="cyan", finished_style="cyan")
    head.add_row(bar, _text(f"{progress.share:.0%}", "", options))
    figures = Table.grid(expand=True)
    figures.add_column(width=LABEL)
    figures.add_column(ratio=1)
    for row in _rows(progress, now):
        value = _value(row, progress.recent.history, options)
        figures.add_row(_text(row.label, "dim", options), value)
    return Group(head, figures, _text(FOOT, "dim", options))


def _header(title: Title, progress: Progress) -> list[tuple[str, str]]:
    gone, left = f"{minutes(progress.elapsed_s)} gone", time_left(progress)
    if progress.stopping:
        return [(f"{gone}, {left}", "bold yellow")]
    run = f"[{title.number}/{title.total}] {title.scenario}"
    words = filter(None, (run, title.load, progress.phase, title.run_id))
    return [
        (printable(" · ".join(words), MOST_ERROR), "bold"),
        (f"{gone}, {left}" if left else gone, "dim"),
    ]


def _rows(progress: Progress, now: Figures) -> list[Row]:
    of = f" of {progress.planned:,}" if progress.missing else ""
    done = f"{progress.ended:,}{of} · {_number(now.requests_per_s)} req/s"
    failed = f"{progress.failed:,}{kinds(progress)}"
    red, error = "red" if progress.errors else "", progress.last_error
    lost = lost_words(progress)
    under_way = f"{_shown(progress.in_flight)} · {_shown(now.running)} running"
    tokens = f"{_shown(now.tokens_per_s)} tok/s · server {_shown(now.server_tokens_per_s)}"
    cpu = "" if now.cpu_share is None else f" · CPU {now.cpu_share:.0%}"
    return [
        Row("requests", done, "requests_per_s"),
        Row("failed", failed, "failed", style=red),
        *([Row("last error", printable(error, MOST_ERROR), style=red)] if error else []),
        *([Row("lost", printable(lost, MOST_ERROR), style="red")] if lost else []),
        *(_class_row(name, *counts) for name, counts in progress.classes.items()),
        Row("in flight", f"{under_way} · {_shown(now.waiting)} waiting", "in_flight"),
        Row("tokens", tokens, "tokens_per_s"),
        Row("TTFT", _pair(now.ttft_p50_ms, now.ttft_p95_ms), "ttft_p95_ms"),
        Row("ITL", _pair(now.itl_p50_ms, now.itl_p95_ms), "itl_p95_ms"),
        Row("KV use", _shown(now.kv_cache_usage, ".1%"), "kv_cache_usage", top=1.0),
        Row("send lag", f"p99 {_ms(now.send_lag_p99_ms)}", "send_lag_p99_ms"),
        Row("loop lag", f"p99 {_ms(now.loop_lag_p99_ms)}{cpu}", "loop_lag_p99_ms"),
        *_read_late(progress),
    ]


def _class_row(name: str, ended: int, failed: int) -> Row:
    return Row(name[: LABEL - 1], class_words(ended, failed), style="red" if failed else "")


def _read_late(progress: Progress) -> list[Row]:
    """Return how late the tokens of the run so far were read, where the kernel tells."""
    found = progress.read_times.so_far()
    if found is None:
        return []
    late_ms, merged = found
    return [Row("read late", f"p99 {_ms(late_ms)} · {merged:.2%} merged")]


def _value(row: Row, history: Sequence[Figures], options: ConsoleOptions) -> Text:
    value = _text(row.value, row.style, options)
    left = options.max_width - LABEL - VALUE
    if row.course is not None and left > 0 and value.cell_len < VALUE:
        # One bar per second: more bars than columns aren't needed.
        seconds = list(history)[-left:]
        blocks = ASCII_BLOCKS if options.ascii_only else BLOCKS
        bars = sparkline([getattr(f, row.course) for f in seconds], blocks, row.top)
        value.pad_right(VALUE - value.cell_len)
        value.append(bars, row.style or "cyan")
    return value


def _stripped(line: list[Segment]) -> list[Segment]:
    """Return a line without blanks at its end, which some terminals would fold."""
    while line and line[-1].text.isspace():
        line.pop()
    return [*line[:-1], *(last._replace(text=last.text.rstrip()) for last in line[-1:])]


def _text(words: str, style: str, options: ConsoleOptions) -> Text:
    """Return text on one line, cut off if it is too long."""
    if options.ascii_only:
        plain = words.replace("·", ",").replace("—", "-").encode("ascii", "backslashreplace")
        return Text(plain.decode(), style, no_wrap=True, overflow="crop")
    return Text(words, style, no_wrap=True, overflow="ellipsis")


def sparkline(
    values: Sequence[float | None], blocks: str = BLOCKS, top: float | None = None
) -> str:
    """Return a bar for each value, the newest at the right; a blank where there is none.

    The lowest bar is 0, the highest is `top`, or the largest value: bars that start at the smallest
    value would make noise look important.
    """
    highest = max((v for v in (*values, top) if v is not None), default=0.0)
    last = len(blocks) - 1

    def bar(value: float) -> str:
        return blocks[min(last, int(value / highest * len(blocks)))] if highest > 0 else blocks[0]

    return "".join(" " if v is None else bar(v) for v in values)


def _pair(p50: float | None, p95: float | None) -> str:
    return f"p50 {_number(p50)} · p95 {_ms(p95)}"


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{_number(value)} ms"


def _number(value: float | None) -> str:
    """Return about three digits, and no less than a hundredth."""
    if value is None:
        return "—"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _shown(value: float | None, form: str = ",.0f") -> str:
    return "—" if value is None else format(value, form)
