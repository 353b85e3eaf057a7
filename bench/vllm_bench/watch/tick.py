"""A thread that does one thing at absolute ticks, so that delays don't add up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType


class Ticker:
    """Calls `act` at once, at each tick, and once more when it is stopped."""

    def __init__(self, act: Callable[[], None], hz: float, name: str) -> None:
        """Prepare a thread; it is a daemon, so that a hanging call can't keep a script alive."""
        self._act = act
        self._period_ns = int(1e9 / hz)
        self._due_ns = 0
        self._first_done = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.failures = Failures()

    def start(self, limit_s: float) -> bool:
        """Start, and return whether the first call came back within the limit."""
        self._thread.start()
        return self._first_done.wait(limit_s)

    def end(self) -> None:
        """Make no more calls: for `act` itself, when nothing can come of them."""
        self._act = lambda: None
        self._stopping.set()

    def stop(self, limit_s: float) -> bool:
        """Make the last call, and return whether the thread has ended within the limit."""
        self._stopping.set()
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def left_s(self) -> float:
        return (self._due_ns - time.perf_counter_ns()) / 1e9

    def _run(self) -> None:
        begin_ns = time.perf_counter_ns()
        self._due_ns = begin_ns + self._period_ns
        with self.failures:
            self._act()
        self._first_done.set()
        while not self._stopping.wait(max(0.0, self.left_s())):
            self._due_ns = next_tick_ns(begin_ns, self._period_ns, time.perf_counter_ns())
            with self.failures:
                self._act()
        with self.failures:
            self._act()


class Failures:
    """Calls that failed in a way that nobody foresaw: counted, and none ends the thread.

    A library or a driver may raise anything; samples that end without a word look like none asked.
    """

    def __init__(self) -> None:
        self.calls = self.count = 0
        self.why = ""

    def __enter__(self) -> None:
        self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        self.count += 1
        self.why = f"{kind.__name__}: {error}"[:300]
        return True

    @property
    def words(self) -> str | None:
        """How many failed and why the last one did; None: none has."""
        if not self.count:
            return None
        return f"{self.count} of {self.calls} readings failed: {self.why}"


def next_tick_ns(begin_ns: int, period_ns: int, now_ns: int) -> int:
    """Return the first tick after now; missed ticks are left out."""
    return begin_ns + ((now_ns - begin_ns) // period_ns + 1) * period_ns
