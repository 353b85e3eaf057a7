"""Asks a vLLM server for /metrics each second beside a run, and before and after it.

Means come from what sum and count of the server's histograms grew by; its buckets begin at
10 ms and 0.3 s, too wide for percentiles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..records.sample_file import RowFile
from ..records.samples import ALL, ServerRow
from ..vllm.page import HISTOGRAMS, TOTALS, Engine, PageError, Spent, read_page, together
from .gaps import GapLog, Problem
from .tick import Beat

# About a second, and no simple part of one: readings in step with bursts that come each second
# would see the same moment of each.
HZ = 1.07
GAP_S = 3.0
START_LIMIT_S = 20.0
STOP_LIMIT_S = 20.0


class NoMetricsError(Exception):
    """The server has no /metrics; the text says why in one line."""


def restarted(before: Engine, now: Engine) -> bool:
    """Whether a counter has shrunk: the server was started anew."""
    counts = [(b.count, now.spent[n].count) for n, b in before.spent.items() if n in now.spent]
    totals = [
        (before.values[c], now.values[c]) for c in TOTALS if c in before.values and c in now.values
    ]
    return any(new < old for old, new in (*counts, *totals))


def means(before: Engine | None, now: Engine) -> dict[str, float | int | None]:
    """Return mean and count of each histogram since `before`; nothing without a before."""
    if before is None or restarted(before, now):
        return {}
    return {
        key: value
        for name in HISTOGRAMS
        if name in before.spent and name in now.spent
        for key, value in _mean(name, before.spent[name], now.spent[name]).items()
    }


def _mean(name: str, before: Spent, now: Spent) -> dict[str, float | int | None]:
    count = now.count - before.count
    mean_ms = (now.seconds - before.seconds) / count * 1e3 if count else None
    return {f"{name}_mean_ms": mean_ms, f"{name}_count": round(count)}


class ServerMetricsSampler:
    """Asks from start to stop."""

    def __init__(self, fetch: Callable[[], str | None], path: Path) -> None:
        """Prepare to write `path`; `fetch` returns /metrics, or None where it doesn't answer."""
        self._fetch = fetch
        self._file = RowFile(path, ServerRow)
        self._beat = Beat(self.sample, HZ, "server-metrics")
        self._before: dict[str, Engine] = {}
        self._gaps = GapLog(GAP_S)
        self._latest: tuple[float, dict[str, float]] = (-math.inf, {})
        self._zero_s = 0.0
        self._asked = self._missed = 0
        self._engines: set[str] = set()
        self._why: str | None = None
        self.problems: list[Problem] = []

    def start(self) -> None:
        """Ask for the first time. Raises NoMetricsError."""
        self._beat.start(START_LIMIT_S)
        if not self._before:
            self._beat.end()
            raise NoMetricsError(self._why or f"no answer in {START_LIMIT_S:g} s")

    def anchor(self, start_ns: int) -> None:
        """Say when the run starts, on the monotonic clock."""
        self._zero_s = start_ns / 1e9
        self._file.anchor(self._zero_s)

    def stop(self) -> None:
        """Ask for the last time and end."""
        self._beat.stop(STOP_LIMIT_S)

    def sample(self) -> None:
        """Ask once; the thread calls this at each tick."""
        asked_s = time.perf_counter()
        text = self._fetch()
        answered_s = time.perf_counter()
        self._asked += 1
        engines = self._read(text)
        if not engines:
            self._missed += 1
            self._gaps.missed("server", "no_answer")
            return
        fetch_s = answered_s - asked_s
        t_s, wall_s = asked_s + fetch_s / 2, time.time() - fetch_s / 2
        self._gaps.seen("server", t_s)
        self._engines |= set(engines)
        now = {**engines, ALL: together(engines)}
        when: dict[str, Any] = {"t_s": t_s, "wall_s": wall_s, "fetch_ms": fetch_s * 1e3}
        self._file.write(ServerRow(**when, **self._cells(name, now)) for name in now)
        self._before = now
        self._latest = (t_s, {"t_s": t_s, **now[ALL].values})  # one assignment: no thread sees half

    @property
    def latest(self) -> Mapping[str, float]:
        """What the server last said of all its engines, by column; empty: nothing of late.

        Any thread may ask while the sampling goes on.
        """
        t_s, said = self._latest
        return said if time.perf_counter() - t_s < GAP_S else {}

    def _read(self, text: str | None) -> dict[str, Engine]:
        """Return the engines; none, and why, where there is no page of a vLLM server."""
        if text is None:
            self._why = "it doesn't answer with status 200"
            return {}
        try:
            engines = read_page(text)
        except PageError as e:
            self._why = str(e)
            return {}
        if not engines:
            self._why = "it holds none of vLLM's metrics"
        return engines

    def _cells(self, name: str, now: Mapping[str, Engine]) -> dict[str, Any]:
        before = self._before.get(name)
        if name == ALL and self._before.keys() != now.keys():
            before = None  # an engine came or went: the sum moved by more than what happened
        if before is not None and restarted(before, now[name]):
            self._tell(Problem("server_restarted", "the server's counters began anew in the run"))
        return {"engine": name, **now[name].values, **means(before, now[name])}

    def _tell(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def facts(self) -> dict[str, Any]:
        """Write what is left, and return what was sampled, for the run's JSON."""
        self._file.write()
        if self._file.problem is not None:
            self._tell(Problem("not_written", self._file.problem))
        if self._missed:
            text = (
                f"/metrics gave no answer to {self._missed} of {self._asked} questions: {self._why}"
            )
            self._tell(Problem("no_answer", text))
        return {
            "file": f"{self._file.path.parent.name}/{self._file.path.name}",
            "rows": self._file.written,
            "hz": HZ,
            "engines": sorted(self._engines),
            "problems": [{"code": p.code, "text": p.text} for p in self.problems],
            "gaps": [gap.facts(self._zero_s) for gap in self._gaps.until(time.perf_counter())],
        }
