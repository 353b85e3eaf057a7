"""Fetches a vLLM server's /metrics about once per second during a run, and before and after it.

All that the page says of vLLM is kept, as far as it changed (see `SaidRow`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..records.beside.said_file import OWN
from ..records.beside.samples import SaidRow
from ..vllm.page import together
from ..vllm.page_reader import PageReader, Reading
from .page_sampler import Page, PageSampler
from .recording import Problem, Recording
from .sources import Sources

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
        super().__init__(path, SaidRow, GAP_S)
        self.sources = Sources()
        self._odd: tuple[int, str] = (0, "")
        self._engines: set[str] = set()
        self._answered = self._unanswered = 0
        self._why = ""

    def reading(self, rows: Iterable[SaidRow], engines: Iterable[str]) -> None:
        """Take a page's rows, and the engines that were on it."""
        self._answered += 1
        if len(self._engines) < MOST_ENGINES:
            self._engines |= set(engines)
        self.rows(list(rows))

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
        return {
            "hz": HZ,
            "readings": self._answered,
            "engines": sorted(self._engines),
            **started,
            **facts,
        }

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

    def __init__(
        self, fetch: Callable[[], str], recording: ServerRecording, mask: Callable[[str], str] = str
    ) -> None:
        """Prepare; `mask` takes secrets out of what the server calls its series."""
        super().__init__(fetch, recording, HZ, "/metrics", "no_metrics")
        self._recording = recording
        self._reader = PageReader(mask)
        self._servers: dict[Hashable, int] = {}  # the number of each one that answered
        self._own: dict[str, float] = {}  # the reading's own series as they were written last
        self._named: set[int] = set()  # series whose name is written
        self._latest: tuple[float, dict[str, float]] = (-math.inf, {})

    def _take(self, page: Page) -> None:
        reading = self._reader.read(page.text)
        found, everything = reading.page, together(reading.page.engines)
        self._recording.odd(found.odd)
        sources = self._recording.sources
        source = sources.of(found.started_s, found.engines, everything, page.wall_s)
        self._recording.reading(self._rows(page, reading, source), found.engines)
        # One assignment, so that no thread sees a part of it.
        self._latest = (page.t_s, {"t_s": page.t_s, **everything.values})

    def _rows(self, page: Page, reading: Reading, source: Hashable) -> Iterator[SaidRow]:
        """Yield the reading's own rows, and one of each value that has changed."""
        server = self._servers.setdefault(source, len(self._servers) + 1)
        own = (round(page.wall_s, 6), round(page.fetch_ms, 3), server)
        for number, (name, value) in enumerate(zip(OWN, own, strict=True)):
            if number == 0 or value != self._own.get(name):
                first = name not in self._own
                yield SaidRow(page.t_s, number, _text(value), None, name if first else None)
                self._own[name] = value
        for place, changed in reading.changes.items():
            text = "" if changed is None else _text(changed)
            if place in self._named:
                yield SaidRow(page.t_s, len(OWN) + place, text)
            elif text:
                self._named.add(place)
                name_of = self._reader.names[place]
                called = (name_of.engine, name_of.name, name_of.labels)
                yield SaidRow(page.t_s, len(OWN) + place, text, *called)

    def _miss(self, why: str) -> None:
        self._recording.unanswered(why)

    @property
    def latest(self) -> Mapping[str, float]:
        """The server's last values for all engines together, by column; empty: no recent ones.

        Any thread may read this during the sampling.
        """
        t_s, said = self._latest
        return said if time.perf_counter() - t_s < GAP_S else {}


def _text(value: float) -> str:
    """Return a number as text, without a fraction of nothing; no digit is lost."""
    return repr(value).removesuffix(".0")
