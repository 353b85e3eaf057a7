"""A run under way, and a terminal that it is drawn on."""

from __future__ import annotations

import io
import re
from array import array

from rich.console import Console
from vllm_bench.live.last_seconds import Figures
from vllm_bench.live.progress import Progress, Title
from vllm_bench.live.screen import LiveView, frame
from vllm_bench.send.outbox import Pulse

from tests.support.made_runs import failed_record, made_record

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
TITLE = Title(2, 3, "chat", "8 streams", "chat-cc8-pref256-max128-20251124T120000Z")
SERVER = {"t_s": 1.0, "running": 7.0, "waiting": 12.0, "kv_cache_usage": 0.25}
HOSTILE = (
    "[red]x[/nope] \x1b[2J\x1b]0;owned\x07 \u202eevil\r\n\ttail [link=file:///x]y[/link] 日本語" * 5
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal; one that has gone away refuses all."""

    encoding = "utf-8"
    gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)

    def taken(self) -> str:
        """What was written since the last time."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def console(terminal: Terminal, width: int = 80, height: int = 24) -> Console:
    return Console(
        file=terminal,
        width=width,
        height=height,
        force_terminal=True,
        markup=False,
        highlight=False,
        emoji=False,
        _environ={"TERM": "xterm-256color"},
    )


def under_way(error: str = "HTTP 503: busy") -> Progress:
    """A run of 200 requests after 31 s: 120 ended, 4 of them failed, 8 in flight."""
    found = Progress(200, started_s=500.0, most_in_flight=8)
    for index in range(116):
        found.count(made_record(index), array("q", [0, 20_000_000, 45_000_000]))
    for index, kind in enumerate(["http_5xx", "truncated", "http_5xx", "http_5xx"]):
        found.count(failed_record(116 + index, error_kind=kind, error=error))
    found.begun = lambda: found.ended + 8
    lags = array("I", [250] * 100).tobytes()
    found.recent.pulse(Pulse(530_500_000_000, 0.31, lags), 500_000_000_000)
    for second in range(1, 32):
        found.recent.take(float(second), 8, SERVER)
    return found


def lines(found: Progress, width: int, *, ascii_only: bool = False) -> list[str]:
    """The frame's lines at this width, whatever their number."""
    screen = console(Terminal(), width)
    options = screen.options.update(width=width)
    if ascii_only:
        options.encoding = "ascii"
    figures = found.recent.history[-1] if found.recent.history else Figures()
    shown = screen.render_lines(frame(TITLE, found, figures, options), options)
    return ["".join(segment.text for segment in line).rstrip() for line in shown]


def drawn(found: Progress, width: int, height: int) -> list[str]:
    """The lines that the view draws on a terminal of this size."""
    terminal = Terminal()
    with LiveView(console(terminal, width, height), TITLE, dict) as view:
        view.show(found)
        written = ESCAPES.sub("", terminal.taken())
    return [line.rstrip() for line in written.splitlines()]


class Clock:
    """A clock that stands until it is set; seconds since the run's start."""

    now_s = 0.0
