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


UNWAITED = "nobody waited until the server had written it"


class Profile:
    """Asks the server to profile itself, once in a run, off the timing path."""

    def __init__(self, order: Order, seconds: float) -> None:
        """Prepare; nothing is asked yet."""
        self._order = order
        self._seconds = seconds
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._moments_ns: dict[str, int] = {}
        self._problem: str | None = None

    def look(self, share: float) -> None:
        """Begin once this share of the run is over."""
        if self._thread is None and share >= MIDDLE and not self._over.is_set():
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Have the server told to end the profile, if it goes on."""
        self._over.set()

    @property
    def writing(self) -> bool:
        """Whether the server hasn't written it yet."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait until the server has written it."""
        if self._thread is not None:
            self._thread.join()

    def facts(self, start_ns: int) -> dict[str, Any]:
        """Return when the server was asked for it and did it, in seconds from the run's start."""
        times = {name: round((at - start_ns) / 1e9, 3) for name, at in self._moments_ns.items()}
        problem = self._problem or (UNWAITED if self.writing else None)
        if self._thread is None:
            problem = "the run ended before its middle"
        return {"seconds": self._seconds, **times, "problem": problem}

    def _run(self) -> None:
        self._now("asked_s")
        try:
            self._order("start")
            self._now("from_s")
            self._over.wait(self._seconds)
        except BenchError as e:
            self._problem = str(e)  # it may do so all the same, later than it could say
        self._now("to_s")
        try:
            self._order("stop")
            self._now("written_s")
        except BenchError as e:
            self._problem = self._problem or str(e)

    def _now(self, name: str) -> None:
        self._moments_ns[name] = time.perf_counter_ns()
