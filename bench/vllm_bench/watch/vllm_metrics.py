"""Fetches a vLLM server's /metrics about once per second during a run, and before and after it.

Means come from the growth of sum and count of the server's histograms. Their buckets begin at
10 ms and 0.3 s, which is too wide for percentiles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..records.beside.samples import ALL, ServerRow
from ..vllm.page import HISTOGRAMS, Engine, PageError, Spent, read_page, together
from .page_sampler import Page, PageSampler
from .recording import Problem, Recording
from .sources import MOST_SOURCES, Sources, restarted

# About a second, but not a simple fraction of one: otherwise, with bursts that come each second,
# all readings would see the same moment of a burst.
HZ = 1.07
GAP_S = 3.0
MOST_ENGINES = 1000
CHANGES = {
    "server_restarted": "the server restarted during the run: its counters began anew",
    "replicas": "several servers answered /metrics in turn: it shows one of them at a time",
}


class ServerRecording(Recording):
    """One run's readings of the server's /metrics, and their engines."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ServerRow, GAP_S)
        self.sources = Sources()
        self._odd: tuple[int, str] = (0, "")
        self._engines: set[str] = set()
        self._answered = self._unanswered = 0
        self._why = ""

    def rows(self, rows: Sequence[ServerRow]) -> None:
        self._answered += 1
        if len(self._engines) < MOST_ENGINES:
            self._engines |= {row.engine for row in rows} - {ALL}
        super().rows(rows)

    def odd(self, lines: Sequence[str]) -> None:
        """Note lines of a page that can't be read, or can't be true."""
        if lines:
            self._odd = (self._odd[0] + len(lines), lines[0])

    def unanswered(self, why: str) -> None:
        self._unanswered += 1
        self._why = why
        self.missed(None, "no_answer")

    def facts(self) -> dict[str, Any]:
        if self._unanswered:
            asked = self._answered + self._unanswered
            text = f"no answer to {self._unanswered} of {asked} requests: {self._why}"
            self.problem(Problem("no_answer", text))
        for problem in self._doubts():
            self.problem(problem)
        facts = super().facts()
        for noted in (*facts["problems"], *facts["gaps"]):
            del noted["gpu_index"]
        started = {"server_started": self.sources.started}
        return {"hz": HZ, "engines": sorted(self._engines), **started, **facts}

    def _doubts(self) -> list[Problem]:
        """Return what the pages themselves give reason to doubt."""
        change, (odd, line) = self.sources.change, self._odd
        found = [Problem(change, CHANGES[change])] if change else []
        if odd:
            found.append(Problem("odd_values", f"/metrics: {odd} lines were left out, as {line}"))
        if self.sources.went_back:
            found.append(Problem("odd_values", "/metrics: a counter went back"))
        return found


class ServerMetricsSampler(PageSampler):
    """Records the values of each engine, and of all together."""

    def __init__(self, fetch: Callable[[], str], recording: ServerRecording) -> None:
        super().__init__(fetch, recording, HZ, "/metrics", "no_metrics")
        self._recording = recording
        self._before: dict[Hashable, dict[str, Engine]] = {}  # each server's last reading
        self._latest: tuple[float, dict[str, float]] = (-math.inf, {})

    def _take(self, page: Page) -> None:
        found = read_page(page.text)
        if not found.engines:
            raise PageError("it has none of vLLM's metrics")
        self._recording.odd(found.odd)
        now = {**found.engines, ALL: together(found.engines)}
        sources = self._recording.sources
        source = sources.of(found.started_s, found.engines, now[ALL], page.wall_s)
        before = self._before.get(source, {})
        when: dict[str, Any] = {"t_s": page.t_s, "wall_s": page.wall_s, "fetch_ms": page.fetch_ms}
        self._recording.rows([ServerRow(**when, **_cells(name, before, now)) for name in now])
        if len(self._before) > MOST_SOURCES:
            self._before.clear()
        self._before[source] = now
        # One assignment, so that no thread sees a part of it.
        self._latest = (page.t_s, {"t_s": page.t_s, **now[ALL].values})

    def _miss(self, why: str) -> None:
        self._recording.unanswered(why)

    @property
    def latest(self) -> Mapping[str, float]:
        """The server's last values for all engines together, by column; empty: no recent ones.

        Any thread may read this during the sampling.
        """
        t_s, said = self._latest
        return said if time.perf_counter() - t_s < GAP_S else {}


def _cells(name: str, before: Mapping[str, Engine], now: Mapping[str, Engine]) -> dict[str, Any]:
    last = before.get(name)
    if name == ALL and before.keys() != now.keys():
        last = None  # an engine came or went: the sum changed by more than what happened
    return {"engine": name, **now[name].values, **means(last, now[name])}


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
