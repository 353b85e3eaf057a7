"""An event loop whose time passes only when nothing else is left to do: tests of hours in moments.

`perf_counter_ns` tells the loop's time while it runs, so that all waits of the sending loop are the
loop's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Instead of waiting for the next timer it moves its time there."""

    def __init__(self) -> None:
        super().__init__()
        self._now_ns = 0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def at_once(timeout: float | None) -> Any:
            if timeout is None:
                raise RuntimeError("nothing is left to wait for")
            self._now_ns += max(0, round(timeout * 1e9))
            return select(0)

        selector.select = at_once

    def time(self) -> float:
        return self._now_ns / 1e9

    def now_ns(self) -> int:
        return self._now_ns


def run_in_no_time(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; times count from 0."""
    loop = VirtualLoop()
    try:
        with patch.object(time, "perf_counter_ns", loop.now_ns):
            return loop.run_until_complete(work)
    finally:
        loop.close()
