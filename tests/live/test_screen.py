"""The live view of a run: what it shows in how much room, and where it is drawn at all."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from vllm_bench.live.progress import Progress, ProgressLines
from vllm_bench.live.screen import LiveView
from vllm_bench.live.view import progress_view

from tests.live.screens import (
    HOSTILE,
    SERVER,
    TITLE,
    Clock,
    Terminal,
    console,
    drawn,
    lines,
    under_way,
)

BENCH = Path(__file__).resolve().parents[2] / "bench"
SIZES = [(160, 50), (80, 24), (80, 10), (40, 12), (20, 5), (5, 2), (1, 1)]


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


def test_each_class_has_a_line_where_there_are_classes(clock: Clock) -> None:
    clock.now_s = 31.0
    found = under_way()
    plain = len(lines(found, 80))
    found.classes = {"chat": [1200, 0], "a-class-of-a-long-name": [7, 3]}
    shown = lines(found, 80)
    assert len(shown) == plain + 2
    assert any(line.startswith("chat") and line.endswith("1,200") for line in shown)
    (other,) = [line for line in shown if line.startswith("a-class-of")]
    assert other.endswith("7 (3 failed)")


def test_how_late_tokens_were_read_is_shown_where_the_kernel_tells(clock: Clock) -> None:
    clock.now_s = 31.0
    found = under_way()
    found.read_times.later.update([40] * 99 + [50])
    found.read_times.token_reads, found.read_times.merged_reads = 1000, 5
    (shown,) = [line for line in lines(found, 80) if "read late" in line]
    assert "p99 0.04 ms" in shown
    assert "0.50% merged" in shown


def test_a_wide_terminal_has_room_for_the_name_of_the_run(clock: Clock) -> None:
    clock.now_s = 31.0
    head = lines(under_way(), 159)[0]
    assert f"[2/3] chat · 8 streams · {TITLE.run_id} " in head


def test_what_matters_most_stands_above_what_a_low_terminal_cuts_off(clock: Clock) -> None:
    clock.now_s = 31.0
    labels = [line.split()[0] for line in drawn(under_way(), 80, 6)]
    assert [labels[0], *labels[2:]] == ["[2/3]", "requests", "failed", "last"]


def test_who_was_lost_stands_among_what_matters_most(clock: Clock) -> None:
    clock.now_s = 31.0
    found = under_way()
    found.lost = ["gpu7~2 said nothing for 10 s and was killed"]
    (row,) = [line for line in drawn(found, 120, 7) if line.startswith("lost ")]
    assert row.endswith(found.lost[0])


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
    assert lines(found, 80)[0].startswith(f"[2/3] chat · 8 streams · {found.phase} ")
    found.stopping = True
    head = lines(found, 80)[0]
    assert "stopping" in head
    assert "Ctrl-C" in head


def test_text_from_a_server_is_inert(clock: Clock) -> None:
    clock.now_s = 31.0
    terminal = Terminal()
    with LiveView(console(terminal, 200), TITLE, dict) as view:
        view.show(under_way(HOSTILE))
    written = terminal.getvalue()
    for evil in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e", "\x1b]8;"):
        assert evil not in written
    assert HOSTILE[:13] in written, "no markup is read"
    assert r"\x1b[2J\x1b]0;owned\x07" in written


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
    heavy = {"rich", "numpy", "pydantic", "vllm_bench.live.progress"}
    code = (
        f"import sys; import vllm_bench.send.worker; print(*sorted({heavy} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BENCH
    )
    assert done.stdout.strip() == ""
