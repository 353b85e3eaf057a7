"""Fetches a page of metrics at each tick, from before a run until after it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BenchError
from ..vllm.page import PageError
from .recording import Problem, Recording, UnavailableError
from .tick import Ticker

START_LIMIT_S = 10.0  # a page is fetched, or given up, within five
STOP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    """A page's text, and the moment half-way between request and answer, on both clocks."""

    text: str
    t_s: float
    wall_s: float
    fetch_ms: float


class PageSampler(ABC):
    """Fetches from start to stop."""

    def __init__(
        self, fetch: Callable[[], str], recording: Recording, hz: float, name: str, code: str
    ) -> None:
        """Prepare; `fetch` returns the page. It raises BenchError where there is none.

        `name` is the page's name for people; `code` is the problem's code if there is no page.
        """
        self._fetch = fetch
        self._record = recording
        self._name = name
        self._code = code
        self._ticker = Ticker(self.sample, hz, name)
        self._answered = False
        self._why = f"{name}: no answer in {START_LIMIT_S:g} s"

    @abstractmethod
    def _take(self, page: Page) -> None:
        """Record what a page says. Raises PageError where it isn't the page that was asked for."""

    @abstractmethod
    def _miss(self, why: str) -> None:
        """Record that there was no such page."""

    def start(self) -> None:
        """Fetch for the first time. Raises UnavailableError."""
        self._ticker.start(START_LIMIT_S)
        if not self._answered:
            self._ticker.end()
            failed = self._ticker.failures.words
            why = f"{self._name}: {failed}" if failed else self._why
            raise UnavailableError(self._code, why)

    def stop(self) -> None:
        self._ticker.stop(STOP_LIMIT_S)
        failed = self._ticker.failures.words
        if failed:
            self._record.problem(Problem("reading_failed", f"{self._name}: {failed}"))

    def sample(self) -> None:
        """Fetch once; the thread calls this at each tick."""
        asked_s = time.perf_counter()
        try:
            text = self._fetch()
            fetch_s = time.perf_counter() - asked_s
            wall_s = time.time() - fetch_s / 2
            self._take(Page(text, asked_s + fetch_s / 2, wall_s, fetch_s * 1e3))
            self._answered = True
        except (BenchError, PageError) as e:
            self._why = f"{self._name}: {e}" if isinstance(e, PageError) else str(e)
            self._miss(self._why)
