"""The client's own health: lags and CPU of its sending processes. Facts only, no verdict."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..send.outbox import Finished, Pulse

# Loaded now, not when the last message of a process needs it: files may have run out by then.
from ..wire.clock import ClockFacts

QUANTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(slots=True)
class WorkerHealth:
    """One sending process: its lags (us), its share of a core in each second."""

    number: int
    core: int | None
    streams: int  # in an open loop: connections that it keeps ready
    connected: int = 0
    lags_us: array[int] = field(default_factory=lambda: array("I"))
    cpu_shares: list[float] = field(default_factory=list)
    connections_opened: int = 0
    peak_memory_bytes: int | None = None  # None, like cpu_s: the process died
    cpu_s: float | None = None
    clock: ClockFacts | None = None
    trip_ms: float | None = None
    lost: bool = False
    machine: str | None = None  # None: the only one

    @property
    def ended(self) -> bool:
        """Whether nothing more will come from it."""
        return self.lost or self.clock is not None

    def add(self, pulse: Pulse) -> None:
        self.lags_us.frombytes(pulse.lags_us)
        self.cpu_shares.append(round(pulse.cpu_share, 4))

    def end(self, finished: Finished) -> None:
        self.connections_opened = finished.connections_opened
        self.peak_memory_bytes = finished.peak_memory_bytes
        self.cpu_s = finished.cpu_s
        self.clock = finished.clock
        self.trip_ms = finished.trip_ms

    def facts(self, start_ns: int) -> dict[str, Any]:
        own = [self.clock] if self.clock else []
        return {
            "worker": self.number,
            **({"machine": self.machine} if self.machine else {}),
            "own_core": self.core,
            "streams": self.streams,
            "connected_before_start": self.connected,
            "connections_opened": self.connections_opened,
            "trip_ms": self.trip_ms,
            "lost": self.lost,
            "loop_lag_ms": lag_summary(self.lags_us),
            **(clock_facts(own, start_ns) if own else {"clock": None, "clock_error_ms": None}),
            "cpu_share_per_second": self.cpu_shares,
            "peak_memory_bytes": self.peak_memory_bytes,
            "cpu_s": self.cpu_s,
        }


def health_facts(workers: Sequence[WorkerHealth], start_ns: int) -> dict[str, Any]:
    """Return the entry on all sending processes in the run's JSON."""
    pooled = array("I")
    for worker in workers:
        pooled.extend(worker.lags_us)
    return {
        "workers": [worker.facts(start_ns) for worker in workers],
        "streams_asked": sum(worker.streams for worker in workers),
        "connections_opened": sum(worker.connections_opened for worker in workers),
        "loop_lag_ms": lag_summary(pooled),
        **clock_facts([worker.clock for worker in workers if worker.clock], start_ns),
    }


def clock_facts(clocks: Sequence[ClockFacts], start_ns: int) -> dict[str, Any]:
    """Return which clock the stamps are of, and how far the kernel's can be off by its pairing."""
    stepped_ns = [c.own_since_ns for c in clocks if c.own_since_ns is not None]
    if not clocks or any(c.why == "no stamp" for c in clocks):
        return {"clock": "process", "clock_error_ms": None}
    since_s = (min(stepped_ns) - start_ns) / 1e9 if stepped_ns else None
    word = "kernel" if since_s is None else f"kernel until a step at {since_s:.1f} s"
    return {"clock": word, "clock_error_ms": max(c.apart_ns for c in clocks) / 1e6}


def lag_summary(lags_us: array[int]) -> dict[str, float | int] | None:
    """Return count, quantiles and maximum of the lags, in ms; None where no tick came."""
    if not lags_us:
        return None
    ordered = sorted(lags_us)
    last = len(ordered) - 1
    found = {f"p{q * 100:g}": ordered[round(q * last)] / 1000 for q in QUANTILES}
    return {"ticks": len(ordered), **found, "max": ordered[-1] / 1000}
