"""vLLM's own profiler, switched on for some seconds in the middle of a run.

The server writes what it found on its own disk, which takes it seconds to minutes. It answers far
slower meanwhile: a run with a profile tells where time goes, and its figures aren't the server's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from ..errors import BenchError

Order = Callable[[Literal["start", "stop"]], None]  # raises BenchError
MIDDLE = 1 / 3  # of the run, from which on the load is held


class Profile:
    """Asks the server to profile itself, once in a run, off the timing path."""

    def __init__(self, order: Order, seconds: float) -> None:
        """Prepare; nothing is asked yet."""
        self._order = order
        self._seconds = seconds
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._moments_ns: list[int] = []  # when the server had obeyed
        self._problem: str | None = None

    def look(self, share: float) -> None:
        """Begin once this share of the run is over."""
        if self._thread is None and share >= MIDDLE and not self._over.is_set():
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the profile, if it goes on, and wait until the server has written it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def facts(self, start_ns: int) -> dict[str, Any]:
        """Return from when to when the profiler was on, in seconds from the run's start."""
        times = [round((at - start_ns) / 1e9, 3) for at in self._moments_ns]
        on = dict(zip(("from_s", "to_s"), times, strict=False))
        problem = self._problem if self._thread else "the run ended before its middle"
        return {"seconds": self._seconds, **on, "problem": problem}

    def _run(self) -> None:
        try:
            self._order("start")
            self._moments_ns.append(time.perf_counter_ns())
            self._over.wait(self._seconds)
            self._moments_ns.append(time.perf_counter_ns())
            self._order("stop")
        except BenchError as e:
            self._problem = str(e)
