"""A run that is under way, drawn on the terminal by the parent: five times a second at most.

Percentiles and bars are taken anew each second; only counts and the clock change in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from ..records.text import escaped
from .last_seconds import Figures, percentiles
from .progress import Progress, ProgressLines, last_line, minutes, time_left

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"


def sparkline(
    values: Sequence[float | None], width: int, *, blocks: str = BLOCKS, top: float | None = None
) -> str:
    """Return the last `width` values, the newest at the right; a blank where there is none.

    The lowest bar is 0, the highest is `top`, or the greatest value shown: bars from the least
    value up would make noise look like news.
    """
    shown = values[-width:] if width > 0 else ()
    greatest = max((v for v in shown if v is not None), default=0.0)
    scale = greatest if top is None else max(top, greatest)
    last = len(blocks) - 1
    per_bar = len(blocks) / scale if scale > 0 else 0.0
    return "".join(" " if v is None else blocks[min(last, int(v * per_bar))] for v in shown)


LABEL = 11  # columns
VALUE = 31
MOST_ERROR = 500  # characters of an error that are looked at


@dataclass(frozen=True, slots=True)
class Title:
    """Which run of how many this is."""

    number: int
    total: int
    scenario: str
    load: str  # for people: `8 streams`
    run_id: str


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to write on. `ascii_only`: the terminal has no other characters."""

    width: int
    height: int
    ascii_only: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what, how much, and how it came to that."""

    label: str
    value: str
    course: Callable[[Figures], float | None] | None = None
    top: float | None = None  # the course's highest bar; None: the greatest shown
    style: str = ""


def frame(title: Title, progress: Progress, now: Figures, room: Room) -> list[Text]:
    """Return the lines: none wider than the room, and no more than it has."""
    full = [*_full_rows(progress, now), *_error_rows(progress)]
    head = [_header(title, progress, room), _bar(progress, room)]
    if len(head) + len(full) > room.height:
        head, full = head[:1], _short_rows(progress, now)
    lines = [*head, *(_line(row, progress.recent.history, room) for row in full)]
    foot = "  last 10 s, a bar a second; running, waiting, KV use: as the server says"
    if len(lines) < room.height and len(head) > 1:
        lines.append(Text(foot, style="dim"))
    return [_fitted(line, room) for line in lines[: room.height]]


def one_line(text: str) -> str:
    """Return foreign text on one line, with all but printable characters spelled out."""
    return escaped(" ".join(text[:MOST_ERROR].split()))


def _header(title: Title, progress: Progress, room: Room) -> Text:
    """Return what runs at the left and the time at the right; the run's name where it fits."""
    times = f"{minutes(progress.elapsed_s)} gone"
    left = time_left(progress)
    if progress.stopping:
        return Text.assemble((f"{times}, ", "dim"), (left, "bold yellow"))
    times = f"{times}, {left}" if left else times
    words = [f"[{title.number}/{title.total}] {title.scenario}", title.load]
    words += [progress.phase] if progress.phase else []
    short, named = (one_line(" · ".join(parts)) for parts in (words, [*words, title.run_id]))
    start = named if len(named) + len(times) + 2 <= room.width else short
    gap = max(2, room.width - len(start) - len(times))
    return Text.assemble((start, "bold"), " " * gap, (times, "dim"))


def _bar(progress: Progress, room: Room) -> Text:
    share = progress.ended / progress.planned if progress.planned else 1.0
    words = f" {share:4.0%}"
    width = max(0, room.width - len(words) - 2)
    filled = int(width * share)
    done, todo = ("#", "-") if room.ascii_only else ("━", "─")
    return Text.assemble("  ", (done * filled, "cyan"), (todo * (width - filled), "dim"), words)


def _full_rows(progress: Progress, now: Figures) -> list[Row]:
    cpu = "" if now.cpu_share is None else f" · CPU {now.cpu_share:.0%}"
    of = f"{progress.ended:,} of {progress.planned:,}"
    return [
        Row("requests", f"{of} · {_one(now.requests_per_s)} req/s", lambda f: f.requests_per_s),
        Row("in flight", _count(progress.in_flight), lambda f: f.in_flight),
        Row("tokens", f"{_count(now.tokens_per_s)} tok/s", lambda f: f.tokens_per_s),
        Row("TTFT", _pair(now.ttft_p50_ms, now.ttft_p95_ms), lambda f: f.ttft_p95_ms),
        Row("ITL", _pair(now.itl_p50_ms, now.itl_p95_ms), lambda f: f.itl_p95_ms),
        Row("send lag", f"p99 {_ms(now.send_lag_p99_ms)}", lambda f: f.send_lag_p99_ms),
        Row("loop lag", f"p99 {_ms(now.loop_lag_p99_ms)}{cpu}", lambda f: f.loop_lag_p99_ms),
        Row("running", _generating(now), lambda f: f.running),
        Row("waiting", _count(now.waiting), lambda f: f.waiting),
        Row("KV use", _share(now.kv_cache_usage), lambda f: f.kv_cache_usage, top=1.0),
    ]


def _error_rows(progress: Progress) -> list[Row]:
    style = "red" if progress.errors else ""
    rows = [Row("failed", _failed(progress), lambda f: f.failed, style=style)]
    if progress.last_error:
        rows.append(Row("last error", one_line(progress.last_error), style=style))
    return rows


def _short_rows(progress: Progress, now: Figures) -> list[Row]:
    done = f"{progress.ended:,} of {progress.planned:,} · {_count(progress.in_flight)} in flight"
    failed = _failed(progress)
    if progress.last_error:
        failed = f"{failed}: {one_line(progress.last_error)}"
    lags = f"send {_ms(now.send_lag_p99_ms)} · loop {_ms(now.loop_lag_p99_ms)}"
    server = (
        f"{_count(now.running)} run · {_count(now.waiting)} wait · KV {_share(now.kv_cache_usage)}"
    )
    return [
        Row("requests", done, lambda f: f.requests_per_s),
        Row("failed", failed, lambda f: f.failed, style="red" if progress.errors else ""),
        Row("tokens", f"{_count(now.tokens_per_s)} tok/s", lambda f: f.tokens_per_s),
        Row("TTFT", _pair(now.ttft_p50_ms, now.ttft_p95_ms), lambda f: f.ttft_p95_ms),
        Row("ITL", _pair(now.itl_p50_ms, now.itl_p95_ms), lambda f: f.itl_p95_ms),
        Row("server", server, lambda f: f.running),
        Row("lag p99", lags, lambda f: f.send_lag_p99_ms),
    ]


def _line(row: Row, history: Sequence[Figures], room: Room) -> Text:
    line = Text.assemble((f"  {row.label:{LABEL}}", "dim"), (row.value, row.style))
    left = room.width - 2 - LABEL - VALUE
    if row.course is None or left < 1 or len(row.value) >= VALUE:
        return line
    line.append(" " * (VALUE - len(row.value)))
    # A bar a second is at most as many as there are columns: the rest need not be asked for.
    values = [row.course(f) for f in list(history)[-left:]]
    blocks = ASCII_BLOCKS if room.ascii_only else BLOCKS
    line.append(sparkline(values, left, blocks=blocks, top=row.top), "red" if row.style else "cyan")
    return line


def _fitted(line: Text, room: Room) -> Text:
    if room.ascii_only:
        plain = line.plain.replace("·", ",").replace("—", "-")
        line = Text(plain.encode("ascii", "backslashreplace").decode(), style=line.style)
    line.truncate(room.width, overflow="crop" if room.ascii_only else "ellipsis")
    return line


def _failed(progress: Progress) -> str:
    total = sum(progress.errors.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in progress.errors.most_common())
    return f"{total:,} ({kinds})" if kinds else "0"


def _generating(now: Figures) -> str:
    rate = now.server_tokens_per_s
    return _count(now.running) + ("" if rate is None else f" · {rate:,.0f} tok/s generated")


def _pair(p50: float | None, p95: float | None) -> str:
    return f"p50 {_one(p50)} · p95 {_ms(p95)}"


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{_one(value)} ms"


def _one(value: float | None) -> str:
    """Return about three digits, and no less than a hundredth."""
    if value is None:
        return "—"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _count(value: float | None) -> str:
    return "—" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.1%}"


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
