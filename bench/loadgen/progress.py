"""How far a run has come, and one line that says so."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TextIO

from .records import RequestRecord


@dataclass(slots=True)
class Progress:
    """What a watcher of the run may show. Times in seconds."""

    planned: int
    started_s: float
    ended: int = 0
    completion_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str | None = None
    stopping: bool = False
    phase: str | None = None  # what goes on besides measuring

    def count(self, record: RequestRecord) -> None:
        """Add one record."""
        self.ended += 1
        self.completion_tokens += record.completion_tokens or 0
        if record.error_kind:
            self.errors[record.error_kind] += 1
            self.last_error = record.error

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run's start."""
        return max(0.0, time.perf_counter() - self.started_s)

    @property
    def rate(self) -> float:
        """Requests ended a second, since the start."""
        return self.ended / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def token_rate(self) -> float:
        """Generated tokens of ended requests a second, since the start."""
        return self.completion_tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the rate so far; None before the first end."""
        rate = self.rate
        return (self.planned - self.ended) / rate if rate > 0 else None


def progress_line(progress: Progress) -> str:
    """Return how far the run is: requests, rates, failures by kind, time left."""
    parts = [
        f"{progress.ended}/{progress.planned} requests",
        f"{progress.rate:.3g} req/s",
        f"{progress.token_rate:,.0f} tok/s",
        _failures(progress),
        _time_left(progress),
    ]
    return ", ".join(part for part in parts if part)


def _failures(progress: Progress) -> str:
    kinds = " ".join(f"{kind}:{count}" for kind, count in progress.errors.most_common())
    return f"{sum(progress.errors.values())} failed ({kinds})" if kinds else "0 failed"


def _time_left(progress: Progress) -> str:
    if progress.stopping:
        return "stopping: no new requests (Ctrl-C again cuts off those under way)"
    left_s = progress.left_s
    if left_s is None or progress.ended == progress.planned:
        return ""
    minutes, seconds = divmod(round(left_s), 60)
    return f"{minutes}:{seconds:02} left"


class ProgressLine:
    """One line that is written over on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        """Show on `stream`."""
        self._stream = stream
        self._on_terminal = stream.isatty()
        self._next_s = 0.0 if self._on_terminal else 10.0

    def __enter__(self) -> ProgressLine:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state standing."""
        if self._on_terminal:
            print(file=self._stream)

    def show(self, progress: Progress) -> None:
        """Show how far the run is, five times a second at most."""
        if progress.elapsed_s < self._next_s and progress.ended < progress.planned:
            return
        self._next_s = progress.elapsed_s + (0.2 if self._on_terminal else 10.0)
        line = f"  {progress_line(progress)}"
        if not self._on_terminal:
            print(line, file=self._stream, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:{width}}", end="", file=self._stream, flush=True)
