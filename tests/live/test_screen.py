"""The live view of a run: what it shows in how much room, and what it does to a terminal."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console
from vllm_bench.live import progress as progress_module
from vllm_bench.live.last_seconds import Figures
from vllm_bench.live.progress import Progress, ProgressLines
from vllm_bench.live.screen import LiveView, Title, frame, progress_view
from vllm_bench.send.loop_health import Pulse

from tests.support.made_runs import failed_record, made_record

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
BENCH = Path(__file__).resolve().parents[2] / "bench"
TITLE = Title(2, 3, "chat", "8 streams", "chat-cc8-pref256-max128-20251124T120000Z")
SERVER = {"t_s": 1.0, "running": 7.0, "waiting": 12.0, "kv_cache_usage": 0.25}
SIZES = [(160, 50), (80, 24), (80, 10), (40, 12), (20, 5), (5, 2), (1, 1)]
HOSTILE = (
    "[red]x[/nope] \x1b[2J\x1b]0;owned\x07 \u202eevil\r\n\ttail [link=file:///x]y[/link] 日本語" * 5
)


class Clock:
    """A clock that stands until it is set; seconds since the run's start."""

    now_s = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    virtual = SimpleNamespace(perf_counter=lambda: 500.0 + found.now_s)
    monkeypatch.setattr(progress_module, "time", virtual)
    return found


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


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("error", ["HTTP 503: busy", HOSTILE])
def test_a_frame_leaves_columns_for_an_echoed_ctrl_c_and_the_last_line_free(
    clock: Clock, width: int, height: int, error: str
) -> None:
    clock.now_s = 31.0
    shown = drawn(under_way(error), width, height)
    assert 0 < len(shown) <= max(1, height - 1)
    assert all(cell_len(line) <= max(1, width - 3) for line in shown)


@pytest.mark.parametrize("width", [1, 5, 20, 40, 80, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("error", ["HTTP 503: busy", HOSTILE])
def test_a_line_is_never_wider_than_its_terminal_and_holds_what_that_can_show(
    clock: Clock, width: int, ascii_only: bool, error: str
) -> None:
    clock.now_s = 31.0
    found = under_way(error)
    found.phase = "warming up 3/8"
    shown = lines(found, width, ascii_only=ascii_only)
    assert all(cell_len(line) <= width for line in shown)
    assert all(line.isprintable() for line in shown)
    assert not ascii_only or all(line.isascii() for line in shown)


@pytest.mark.parametrize("width", [37, 77, 157])
def test_all_there_is_to_know_is_shown_on_any_terminal(clock: Clock, width: int) -> None:
    clock.now_s = 31.0
    shown = lines(under_way(), width)
    text = "\n".join(shown)
    for part in (
        "[2/3] chat",
        "0:31 gone, 0:21 left",
        "60%",
        "requests   120 of 200 · 3.90 req/s",  # 35 and 4 failures in the last ten seconds
        "failed     4 (http_5xx:3 tru",
        "last error HTTP 503: busy",
        "in flight  8 · 7 running · 12 waiting",
        "tokens     70 tok/s · server —",  # 35 times 20
        "TTFT       p50 100 · p95 100 ms",
        "KV use     25.0%",
        "send lag   p99 0.10 ms",
        "loop lag   p99 0.25 ms · CPU 31%",
    ):
        assert part in text, part
    assert len(shown) == 13


def test_a_wide_terminal_has_room_for_the_name_of_the_run(clock: Clock) -> None:
    clock.now_s = 31.0
    head = lines(under_way(), 159)[0]
    assert f"[2/3] chat · 8 streams · {TITLE.run_id} " in head


def test_what_matters_most_stands_above_what_a_low_terminal_cuts_off(clock: Clock) -> None:
    clock.now_s = 31.0
    labels = [line.split()[0] for line in drawn(under_way(), 80, 6)]
    assert [labels[0], *labels[2:]] == ["[2/3]", "requests", "failed", "last"]


def test_a_wider_terminal_shows_a_longer_course(clock: Clock) -> None:
    clock.now_s = 31.0
    found = under_way()
    for second in range(32, 300):
        found.recent.take(float(second), 8, SERVER)
    courses = {
        width: next(li for li in lines(found, width) if "in flight" in li).count("█")
        for width in (40, 60, 80, 200)
    }
    assert courses == {40: 0, 60: 20, 80: 40, 200: 160}


def test_what_nobody_says_is_a_dash_and_no_zero(clock: Clock) -> None:
    clock.now_s = 0.5
    found = Progress(50, started_s=500.0)
    text = "\n".join(lines(found, 80))
    for part in ("in flight  — · — running", "TTFT       p50 — · p95 —", "KV use     —"):
        assert part in text
    assert "0:00 gone" in text
    assert "left" not in text


def test_the_phase_follows_the_load_and_stopping_says_what_ctrl_c_does(clock: Clock) -> None:
    clock.now_s = 31.0
    found = under_way()
    found.phase = "after the last arrival"
    assert lines(found, 80)[0].startswith("[2/3] chat · 8 streams · after the last arrival ")
    found.stopping = True
    assert "stopping: no new requests (Ctrl-C again cuts off" in lines(found, 80)[0]


def test_text_from_a_server_is_inert(clock: Clock) -> None:
    clock.now_s = 31.0
    terminal = Terminal()
    with LiveView(console(terminal, 200), TITLE, dict) as view:
        view.show(under_way(HOSTILE))
    written = terminal.getvalue()
    for evil in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e", "\x1b]8;"):
        assert evil not in written
    assert "[red]x[/nope] \\x1b[2J\\x1b]0;owned\\x07 \\u202eevil tail [link=file:///x]y" in written


def test_at_most_five_frames_a_second_and_figures_once(clock: Clock) -> None:
    terminal = Terminal()
    found = Progress(50, started_s=500.0)
    frames = 0
    with LiveView(console(terminal), TITLE, dict) as view:
        terminal.taken()
        for tick in range(17):  # two seconds, in steps that binary fractions hold exactly
            clock.now_s = tick / 8
            view.show(found)
            frames += bool(terminal.taken())
    assert frames == 9  # at 0, 1/4, 2/4, ...
    assert len(found.recent.history) == 2


def test_after_the_warm_up_the_clock_and_the_courses_begin_anew(clock: Clock) -> None:
    terminal = Terminal()
    found = Progress(50, started_s=500.0, phase="warming up 3/8")
    with LiveView(console(terminal), TITLE, dict) as view:
        for second in (2.0, 3.0):
            clock.now_s = second
            view.show(found)
        assert "warming up 3/8" in terminal.taken()
        assert len(found.recent.history) == 2
        found.started_s, found.phase = 503.05, ""  # the start, a moment ahead
        view.show(found)
        assert "0:00 gone" in terminal.taken()
        assert not found.recent.history


def test_it_leaves_a_compact_last_state_and_the_cursor(clock: Clock) -> None:
    clock.now_s = 31.0
    terminal = Terminal()
    with LiveView(console(terminal), TITLE, dict) as view:
        view.show(under_way())
        assert "\x1b[?25l" in terminal.getvalue()
    *_, drawn, left = terminal.getvalue().partition("\x1b[?25h")
    assert drawn
    assert "TTFT" not in left
    assert "120/200 requests, 3.9 req/s, 78 tok/s, 4 failed (http_5xx:3 truncated:1)\n" in left
    assert left.endswith("  last error: HTTP 503: busy\n")


def test_the_cursor_comes_back_when_the_run_breaks_off(clock: Clock) -> None:
    terminal = Terminal()
    view = LiveView(console(terminal), TITLE, dict)
    with pytest.raises(ValueError, match="broke"), view:  # noqa: PT012
        view.show(under_way())
        raise ValueError("broke")
    written = terminal.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "120/200 requests" in written[written.rindex("\x1b[?25h") :]


def test_notes_stand_above_the_view_whole(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with LiveView(console(terminal), TITLE, dict) as view:
        view.show(under_way())
        terminal.taken()
        print("note: [b]no[/b] telemetry", file=sys.stderr, flush=True)
        written = terminal.taken()
    assert sys.stderr is terminal
    head, _, below = written.partition("note: [b]no[/b] telemetry\n")
    assert head.count("\x1b[1A") == below.count("\n")  # up to the frame's top, and down again
    assert "TTFT" not in head
    assert "TTFT" in below


def test_lines_that_a_narrower_terminal_folded_are_erased_too(clock: Clock) -> None:
    clock.now_s = 31.0
    terminal = Terminal()
    screen = console(terminal, 200)
    found = under_way()
    with LiveView(screen, TITLE, dict) as view:
        view.show(found)
        terminal.taken()
        before = lines(found, 197)
        screen.size = (80, 24)  # type: ignore[assignment]
        clock.now_s = 31.25
        view.show(found)
        written = terminal.taken()
    folded = sum(max(1, -(-cell_len(line) // 80)) for line in before)
    assert folded > len(before)
    assert written.count("\x1b[1A") == folded - 1


def test_a_terminal_that_goes_away_ends_the_view_and_not_the_run(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    found = under_way()
    with LiveView(console(terminal), TITLE, dict) as view:
        view.show(found)
        terminal.gone = True
        for tick in range(1, 20):
            clock.now_s = tick / 4
            view.show(found)
    assert sys.stderr is terminal


@pytest.mark.parametrize(
    ("stream", "term", "plain", "drawn"),
    [
        (Terminal(), "xterm", False, True),
        (Terminal(), "xterm", True, False),  # --plain
        (Terminal(), "dumb", False, False),
        (io.StringIO(), "xterm", False, False),  # a file or a pipe
    ],
)
def test_it_is_drawn_only_where_it_can_be(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, term: str, plain: bool, drawn: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")  # asks for colours in a pipe, not for a view
    monkeypatch.delenv("TTY_INTERACTIVE", raising=False)
    view = progress_view(stream, TITLE, dict, plain=plain)
    assert isinstance(view, LiveView if drawn else ProgressLines)


def test_without_colours_none_is_written(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    with progress_view(terminal, TITLE, dict) as view:
        view.show(under_way())
    assert "\x1b[?25l" in terminal.getvalue()  # it was drawn
    for colour in range(30, 38):
        assert f"\x1b[{colour}m" not in terminal.getvalue()


@pytest.mark.process
def test_a_sending_process_knows_nothing_of_it() -> None:
    code = (
        "import sys; import vllm_bench.send.worker; "
        "print(*sorted({'rich', 'numpy', 'vllm_bench.live.progress'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BENCH
    )
    assert done.stdout.strip() == ""
