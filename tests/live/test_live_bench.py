"""bench.py on a terminal: the view is drawn, Ctrl-C is answered in it, and a log is left."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import Step, TinyVllm
from tests.support.running import command, environment, write_scenario

pytestmark = pytest.mark.process

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
BUSY: list[Step] = [b"HTTP/1.1 503 X\r\ncontent-length: 8\r\n\r\n\x1b[2Jbusy"]


class OnATerminal:
    """bench.py with a terminal of its own for standard error, and what it wrote there."""

    def __init__(self, words: list[str], folder: Path, **env: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        unset = {"COLUMNS": "", "LINES": "", "NO_COLOR": "", "TTY_INTERACTIVE": ""}
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=subprocess.DEVNULL,
            stderr=slave,
            env=environment(folder, **{"TERM": "xterm-256color", **unset, **env}),
        )
        os.close(slave)
        self._bytes = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                found = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                return
            self._bytes += found

    @property
    def written(self) -> str:
        return self._bytes.decode(errors="replace")

    def ended(self) -> tuple[int, str]:
        """The exit code, and all that was written."""
        status = self.process.wait(LIMIT_S)
        self._reader.join()
        os.close(self._master)
        return status, self.written


Start = Callable[..., OnATerminal]


@pytest.fixture
def start(tmp_path: Path, tiny_vllm: TinyVllm) -> Start:
    tiny_vllm.token_gap_s = 0.02
    settings = {
        "base_url": tiny_vllm.base_url,
        "model": "tiny",
        "max_new_tokens": 4,
        "concurrencies": [3],
        "num_requests": 30,
    }

    def begin(*words: str, env: dict[str, str] | None = None, **changes: object) -> OnATerminal:
        scenarios = write_scenario(tmp_path, **{**settings, **changes})
        return OnATerminal(command(tmp_path, scenarios, *words), tmp_path, **(env or {}))

    return begin


def visible(text: str) -> list[str]:
    return [line.rstrip() for line in ESCAPES.sub("", text).split("\n")]


def test_a_run_is_drawn_and_leaves_a_log(start: Start, tiny_vllm: TinyVllm) -> None:
    tiny_vllm.misbehave = lambda number: BUSY if number % 10 == 0 else None
    tiny_vllm.token_gap_s = 0.3  # until something has been drawn of what is under way
    bench = start(start="together")
    wait_until(lambda: any(re.match(r"in flight  [123] · ", li) for li in visible(bench.written)))
    tiny_vllm.token_gap_s = 0.02
    _, written = bench.ended()
    assert any(line.startswith("[1/1] one · 3 streams") for line in visible(written))
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    # What a server says moves no cursor.
    assert "\x1b[2J" not in written
    assert "\\x1b[2Jbusy" in written
    # After the view has been wiped away there are two lines, and the verdict.
    log = visible(written[written.rindex("\x1b[?25h") :])
    assert re.match(r"  30/30 requests, .* failed \(http_5xx:\d\)$", log[0])
    assert log[1].startswith("  last error: HTTP 503")
    assert log[2].startswith("  INVALID (")


def test_ctrl_c_is_answered_in_the_view_and_the_cursor_comes_back(
    start: Start, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.3  # so that what is under way takes a while
    bench = start(num_requests=1000)
    wait_until(lambda: "in flight" in bench.written and tiny_vllm.most_in_flight == 3)
    bench.process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping: " in bench.written)
    status, written = bench.ended()
    assert status == 130
    assert written.rindex("\x1b[?25h") > written.rindex("stopping: ")


@pytest.mark.parametrize(
    ("words", "env"), [(("--plain",), {}), ((), {"TERM": "dumb"})], ids=["flag", "dumb"]
)
def test_where_nothing_is_to_be_drawn_there_are_lines(
    start: Start, words: tuple[str, ...], env: dict[str, str]
) -> None:
    _, written = start(*words, env=env).ended()
    assert "\x1b" not in written
    assert "  30/30 requests, " in written
    assert "TTFT  " not in written
