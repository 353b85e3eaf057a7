"""GPU rows from another machine: runs a command there whose output is the sampler's stream.

For instance `ssh gpu7 python vllm-bench/bench/observe_gpu.py`.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any

from ..records.row import columns, csv_lines
from ..records.samples import GpuRow, gpu_row
from .recording import GpuFacts, GpuRecording, GpuSink, Problem, UnavailableError

HEADER = ",".join(columns(GpuRow))
ALIVE = "# {}\n"
START_LIMIT_S = 30.0  # a login, Python and the driver
STOP_LIMIT_S = 5.0
CLOCKS_APART_S = 0.5
BAD_LINES = 10  # after this many, the output isn't a sampler's


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


def take_line(line: str, sink: GpuSink) -> GpuRow | None:
    """Pass one line of the stream on; a row is returned, too. Raises StreamError."""
    try:
        if line.startswith("#"):
            _take_note(json.loads(line[1:]), sink)
            return None
        (cells,) = csv.reader([line])
        row = gpu_row(cells)
    except (ValueError, KeyError, TypeError, csv.Error) as e:
        raise StreamError(f"not a sampler's line: {line.strip()[:200]!r}") from e
    row = dataclasses.replace(row, t_s=row.wall_s)
    sink.rows([row])
    return row


def _take_note(note: dict[str, Any], sink: GpuSink) -> None:
    if "gpus" in note:
        gpus = [GpuFacts(**{**gpu, "absent": tuple(gpu["absent"])}) for gpu in note["gpus"]]
        sink.gpus(gpus, float(note["hz"]))
    elif "missed" in note:
        sink.missed(int(note["missed"]), str(note["code"]))
    elif "problem" in note:
        index = note["gpu_index"]
        gpu_index = None if index is None else int(index)
        sink.problem(Problem(str(note["problem"]), str(note["text"]), gpu_index))


class CommandSampler:
    """Runs the command from start to stop, and records the rows that it prints."""

    def __init__(self, command: str, recording: GpuRecording) -> None:
        self._command = command
        self._recording = recording
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []
        self._first = threading.Event()
        self._said: deque[str] = deque(maxlen=5)  # its last messages
        self._rows = 0
        self._nearest_s = float("inf")  # least time from a row's reading to its arrival

    def start(self) -> None:
        """Start the command and wait for its first row. Raises UnavailableError."""
        try:
            words = shlex.split(self._command)
            if not words:
                raise UnavailableError("command", "--telemetry-command: it is empty")
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for this program, which then ends the command
            )
        except (OSError, ValueError) as e:
            raise UnavailableError("command", f"--telemetry-command: {e}") from e
        for read, stream in (
            (self._listen, self._process.stderr),
            (self._read, self._process.stdout),
        ):
            self._threads.append(threading.Thread(target=read, args=(stream,), daemon=True))
            self._threads[-1].start()
        self._first.wait(START_LIMIT_S)
        if not self._rows:
            self._end()
            raise UnavailableError("command", f"--telemetry-command gave no row: {self._why()}")

    def stop(self) -> None:
        """End the command, and note what its rows showed about it."""
        assert self._process is not None
        died = self._process.poll()
        self._end()
        if died is not None:
            text = f"--telemetry-command ended early with status {died}: {self._why()}"
            self._recording.problem(Problem("command", text))
        if abs(self._nearest_s) > CLOCKS_APART_S:
            early = "before they were read" if self._nearest_s < 0 else "after they were read"
            text = (
                f"GPU rows of --telemetry-command arrived {abs(self._nearest_s):.2f} s {early} or "
                "more: the two machines' clocks differ, or its output is delayed"
            )
            self._recording.problem(Problem("clock_offset", text))

    def _why(self) -> str:
        return " / ".join(self._said) or "it printed nothing"

    def _end(self) -> None:
        process = self._process
        assert process is not None
        _signal(process, signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
        for thread in self._threads:
            thread.join(STOP_LIMIT_S)  # processes that left the session may keep the pipes open

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._said.append(line.strip()[:200])

    def _read(self, stream: IO[str]) -> None:
        bad = 0
        with stream:
            for line in stream:
                try:
                    bad = 0 if self._take(line) else bad
                except StreamError as e:
                    bad += 1
                    self._said.append(str(e))
                if bad >= BAD_LINES:
                    break
        self._first.set()

    def _take(self, line: str) -> bool:
        """Take one line, and return whether it was a row. Raises StreamError."""
        arrived_s = time.time()
        if line.rstrip("\r\n") == HEADER or not line.strip():
            return False
        row = take_line(line, self._recording)
        if row is None:
            return False
        self._rows += 1
        self._nearest_s = min(self._nearest_s, arrived_s - row.wall_s)
        self._first.set()
        return True


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal the command and all processes that it started: its session."""
    with contextlib.suppress(ProcessLookupError):  # the session has ended
        os.killpg(process.pid, number)
