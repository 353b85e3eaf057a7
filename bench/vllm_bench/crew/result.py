"""How a run ended, as who asked for it is told."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..live.progress import Progress
from ..plan.share import NS_PER_S
from ..records.run_info import ClockPair, RunStatus
from .unmeasured import Unmeasured


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    status: RunStatus
    clock_start: ClockPair
    clock_end: ClockPair
    start: dict[str, Any]  # see Plan.start_facts
    num_requests: int  # those that should have a row
    by_class: dict[str, int]  # the same of each class
    uses: Counter[str] | None  # of each prompt, where they are used again; None: as planned
    progress: Progress
    fingerprint: str | None
    replied_as: dict[str, int]  # replies by the model that they name
    client_health: dict[str, Any]
    unmeasured: Unmeasured
    sessions: dict[str, Any]  # empty: the run has none
    notes: tuple[str, ...]


def clock_now() -> ClockPair:
    """Return this instant on both clocks."""
    return clock_at(time.perf_counter_ns())


def clock_at(monotonic_ns: int) -> ClockPair:
    """Return an instant near now on both clocks."""
    ahead_ns = monotonic_ns - time.perf_counter_ns()
    return ClockPair(wall_s=time.time() + ahead_ns / NS_PER_S, monotonic_ns=monotonic_ns)
