"""Fetches a vLLM server's /metrics about once per second during a run, and before and after it.

Means come from the growth of sum and count of the server's histograms. Their buckets begin at
10 ms and 0.3 s, which is too wide for percentiles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..records.samples import ALL, ServerRow
from ..vllm.page import HISTOGRAMS, TOTALS, Engine, PageError, Spent, read_page, together
from .page_sampler import Page, PageSampler
from .recording import Problem, Recording

# About a second, but not a simple fraction of one: otherwise, with bursts that come each second,
# all readings would see the same moment of a burst.
HZ = 1.07
GAP_S = 3.0


class ServerRecording(Recording):
    """One run's readings of the server's /metrics, and their engines."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ServerRow, GAP_S)
        self._engines: set[str] = set()
        self._answered = self._unanswered = 0
        self._why = ""

    def rows(self, rows: Sequence[ServerRow]) -> None:
        self._answered += 1
        self._engines |= {row.engine for row in rows} - {ALL}
        super().rows(rows)

    def unanswered(self, why: str) -> None:
        self._unanswered += 1
        self._why = why
        self.missed(None, "no_answer")

    def facts(self) -> dict[str, Any]:
        if self._unanswered:
            asked = self._answered + self._unanswered
            text = f"no answer to {self._unanswered} of {asked} requests: {self._why}"
            self.problem(Problem("no_answer", f"/metrics gave {text}"))
        facts = super().facts()
        for noted in (*facts["problems"], *facts["gaps"]):
            del noted["gpu_index"]
        return {"hz": HZ, "engines": sorted(self._engines), **facts}


class ServerMetricsSampler(PageSampler):
    """Records the values of each engine, and of all together."""

    def __init__(self, fetch: Callable[[], str | None], recording: ServerRecording) -> None:
        super().__init__(fetch, HZ, "/metrics", "no_metrics")
        self._recording = recording
        self._before: dict[str, Engine] = {}
        self._latest: tuple[float, dict[str, float]] = (-math.inf, {})

    def _take(self, page: Page) -> None:
        engines = read_page(page.text)
        if not engines:
            raise PageError("it has none of vLLM's metrics")
        now = {**engines, ALL: together(engines)}
        when: dict[str, Any] = {"t_s": page.t_s, "wall_s": page.wall_s, "fetch_ms": page.fetch_ms}
        self._recording.rows([ServerRow(**when, **self._cells(name, now)) for name in now])
        self._before = now
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

    def _cells(self, name: str, now: Mapping[str, Engine]) -> dict[str, Any]:
        before = self._before.get(name)
        if name == ALL and self._before.keys() != now.keys():
            before = None  # an engine came or went: the sum changed by more than what happened
        if before is not None and restarted(before, now[name]):
            text = "the server's counters began anew in the run"
            self._recording.problem(Problem("server_restarted", text))
        return {"engine": name, **now[name].values, **means(before, now[name])}


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
