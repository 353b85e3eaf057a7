"""What the live view does to a terminal while it draws, and what it leaves there."""

from __future__ import annotations

import sys

import pytest
from rich.cells import cell_len
from vllm_bench.live.progress import Progress, last_line
from vllm_bench.live.screen import LiveView

from tests.live.screens import TITLE, Clock, Terminal, console, lines, under_way


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
    found = under_way()
    with LiveView(console(terminal), TITLE, dict) as view:
        view.show(found)
        assert "\x1b[?25l" in terminal.getvalue()
    *_, drawn, left = terminal.getvalue().partition("\x1b[?25h")
    assert drawn
    assert "TTFT" not in left
    state, error = left.splitlines()[-2:]
    assert state.split("  ")[-1] == last_line(found)
    assert error.endswith(found.last_error)


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
