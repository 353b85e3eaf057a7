"""GPU rows from another machine: runs a command there whose output is the sampler's stream.

For instance `ssh gpu7 python vllm-bench/bench/observe_gpu.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import dataclasses
import json
import math
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any

import orjson

from ..interrupts import INTERRUPTS
from ..records.beside.samples import GpuRow, gpu_row
from ..records.row import columns, csv_lines, text_of
from ..records.text import printable
from .recording import GpuFacts, GpuRecording, GpuSink, Problem, UnavailableError

HEADER = ",".join(columns(GpuRow))
ALIVE = "# {}\n"
START_LIMIT_S = 30.0  # a login, Python and the driver
STOP_LIMIT_S = 2.0  # for a command that is told to end; then for each of its pipes
CLOCKS_APART_S = 0.5
MOST_APART_S = 86_400.0
BAD_LINES = 10  # after this many, the output isn't a sampler's
MOST_LINE = 1 << 16  # characters: a note on 300 GPUs
MOST_LINES_S = 2000  # of sixteen GPUs at 100 Hz
MOST_AT_ONCE = 4000  # lines that a pipe may have kept back
MOST_GPUS = 1024
MOST_NAME = 100  # characters
MOST_VALUE = 1e15


class StreamError(Exception):
    """A line that isn't the sampler's; the text is one line for people."""


class StreamSink:
    """Writes a sampler's readings and notes as lines."""

    def __init__(self, write: Callable[[str], None], zero_s: float) -> None:
        """Write lines through `write`; `t_s` counts from `zero_s` of the sampler's clock."""
        self._write = write
        self._zero_s = zero_s
        write(HEADER + "\n")

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        self._note({"gpus": [dataclasses.asdict(gpu) for gpu in found], "hz": hz})

    def rows(self, rows: Sequence[GpuRow]) -> None:
        self._write(csv_lines(dataclasses.replace(r, t_s=r.t_s - self._zero_s) for r in rows))

    def missed(self, gpu_index: int, code: str) -> None:
        self._note({"missed": gpu_index, "code": code})

    def problem(self, problem: Problem) -> None:
        self._note({"problem": problem.code, "text": problem.text, "gpu_index": problem.gpu_index})

    def _note(self, note: dict[str, object]) -> None:
        self._write(f"# {json.dumps(note)}\n")


def take_line(line: str, sink: GpuSink, now_s: float | None = None) -> GpuRow | None:
    """Pass one line of the stream on; a row is returned, too. Raises StreamError.

    Rows of another day than `now_s` have no place in a run.
    """
    try:
        if line.startswith("#"):
            _take_note(orjson.loads(line[1:]), sink)
            return None
        (cells,) = csv.reader([line])
        row = _checked(gpu_row(cells), now_s)
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as e:
        raise StreamError(f"not a sampler's line: {repr(line.strip()[:80])[:80]}") from e
    row = dataclasses.replace(row, t_s=row.wall_s)
    sink.rows([row])
    return row


def _checked(row: GpuRow, now_s: float | None) -> GpuRow:
    """Return a row whose values can be true. Raises ValueError where they can't."""
    values: dict[str, Any] = dataclasses.asdict(row)
    for name, value in values.items():
        if isinstance(value, int | float) and not 0 <= abs(value) <= MOST_VALUE:
            raise ValueError(f"{name} can't be {value}")
    if not 0 <= row.gpu_index < MOST_GPUS or row.wall_s < 0:
        raise ValueError("no such GPU, or no such time")
    if now_s is not None and abs(row.wall_s - now_s) > MOST_APART_S:
        raise ValueError("read on another day")
    given = {name: v for name, v in values.items() if isinstance(v, str)}
    texts: dict[str, Any] = {name: text_of(v)[:MOST_NAME] for name, v in given.items()}
    return dataclasses.replace(row, **texts)


def _take_note(note: Any, sink: GpuSink) -> None:
    """Pass a note on. Raises ValueError, KeyError, TypeError where it is none."""
    if not isinstance(note, dict):
        raise TypeError("not a note")
    if "gpus" in note:
        hz = float(note["hz"])
        if not 0.01 <= hz <= 1000 or len(note["gpus"]) > MOST_GPUS:
            raise ValueError("no sampler's rate, or too many GPUs")
        sink.gpus([_gpu(gpu) for gpu in note["gpus"]], hz)
    elif "missed" in note:
        sink.missed(_index(note["missed"]), printable(note["code"], MOST_NAME))
    elif "problem" in note:
        index = note["gpu_index"]
        code, text = printable(note["problem"], MOST_NAME), printable(note["text"])
        sink.problem(Problem(code, text, None if index is None else _index(index)))


def _gpu(noted: dict[str, Any]) -> GpuFacts:
    name, absent = noted["name"], set(noted["absent"]) & set(columns(GpuRow))
    return GpuFacts(
        _index(noted["index"]),
        printable(noted["uuid"], MOST_NAME),
        None if name is None else printable(name, MOST_NAME),
        tuple(sorted(absent)),
    )


def _index(noted: Any) -> int:
    if isinstance(noted, bool) or not isinstance(noted, int) or not 0 <= noted < MOST_GPUS:
        raise ValueError("not a GPU's number")
    return noted


class CommandSampler:
    """Runs the command from start to stop, and records the rows that it prints."""

    def __init__(self, command: str, recording: GpuRecording) -> None:
        self._command = command
        self._recording = recording
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []
        self._first = threading.Event()
        self._said: deque[str] = deque(maxlen=5)  # its last messages
        self._rows = self._lines = 0
        self._refused: str | None = None  # why no more of its output is read
        self._last_s: dict[int, float] = {}  # when each GPU was read
        self._nearest_s = float("inf")  # least time from a row's reading to its arrival

    def start(self) -> None:
        """Start the command and wait for its first row. Raises UnavailableError."""
        try:
            self._open()
            self._first.wait(START_LIMIT_S)
        except KeyboardInterrupt:
            self._kill()  # it has a session of its own, and would go on
            raise
        if not self._rows:
            self._end()
            raise UnavailableError("command", f"--telemetry-command gave no row: {self._why()}")

    def _open(self) -> None:
        """Start the command. Raises UnavailableError."""
        try:
            words = shlex.split(self._command)
            if not words:
                raise UnavailableError("command", "--telemetry-command: it is empty")
            with INTERRUPTS.put_off():  # until it is known what to end
                self._begin(words)
        except (OSError, ValueError) as e:
            raise UnavailableError("command", f"--telemetry-command: {e}") from e

    def _begin(self, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for this program, which then ends the command
        )
        atexit.register(self._kill)  # where nobody can wait for `stop`
        for read, stream in (
            (self._listen, self._process.stderr),
            (self._read, self._process.stdout),
        ):
            self._threads.append(threading.Thread(target=read, args=(stream,), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """End the command, and note what its rows showed about it."""
        assert self._process is not None
        died = self._process.poll()
        self._end()
        if self._refused is not None:
            text = f"--telemetry-command was not read to its end: {self._why()}"
            self._recording.problem(Problem("command", text))
        elif died is not None:
            text = f"--telemetry-command ended early with status {died}: {self._why()}"
            self._recording.problem(Problem("command", text))
        if math.isfinite(self._nearest_s) and abs(self._nearest_s) > CLOCKS_APART_S:
            early = "before they were read" if self._nearest_s < 0 else "after they were read"
            text = (
                f"GPU rows of --telemetry-command arrived {abs(self._nearest_s):.2f} s {early} or "
                "more: the two machines' clocks differ, or its output is delayed"
            )
            self._recording.problem(Problem("clock_offset", text))

    def _why(self) -> str:
        said = list(dict.fromkeys(self._said))  # often the same again and again
        if self._refused is not None:
            return " / ".join([self._refused, *said[:1]])
        return " / ".join(said) or "it printed nothing"

    def _end(self) -> None:
        process = self._process
        assert process is not None
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
        self._kill()
        atexit.unregister(self._kill)
        for thread in self._threads:
            thread.join(STOP_LIMIT_S)  # processes that left the session may keep the pipes open

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            _signal(process, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S)

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            while line := stream.readline(MOST_LINE):
                self._said.append(line.strip()[:200])

    def _read(self, stream: IO[str]) -> None:
        began_s, bad = time.monotonic(), 0
        with stream:
            while self._refused is None and (line := stream.readline(MOST_LINE)):
                try:
                    bad = 0 if self._take(line) else bad
                except StreamError as e:
                    bad += 1
                    self._said.append(str(e))
                self._lines += 1
                allowed = MOST_AT_ONCE + MOST_LINES_S * (time.monotonic() - began_s)
                self._refused = _refused(line, bad, self._lines, allowed)
        self._first.set()

    def _take(self, line: str) -> bool:
        """Take one line, and return whether it was a row. Raises StreamError."""
        arrived_s = time.time()
        if line.rstrip("\r\n") == HEADER or not line.strip():
            return False
        row = take_line(line, self._recording, arrived_s)
        if row is None:
            return False
        self._rows += 1
        last_s, self._last_s[row.gpu_index] = self._last_s.get(row.gpu_index), row.wall_s
        if row.wall_s == last_s:
            raise StreamError(f"a reading that came before: {repr(line.strip()[:80])[:80]}")
        self._nearest_s = min(self._nearest_s, arrived_s - row.wall_s)
        self._first.set()
        return True


def _refused(line: str, bad: int, lines: int, allowed: float) -> str | None:
    """Return why no more should be read; None: it may go on."""
    if len(line) >= MOST_LINE and not line.endswith("\n"):
        return f"a line of over {MOST_LINE} characters"
    if lines > allowed:
        return f"over {MOST_LINES_S} lines per second"
    return f"{bad} lines that aren't a sampler's, one after the other" if bad >= BAD_LINES else None


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal the command and all processes that it started: its session."""
    with contextlib.suppress(ProcessLookupError):  # the session has ended
        os.killpg(process.pid, number)
