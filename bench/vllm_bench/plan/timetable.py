"""When the requests of one run are to go: drawn, or read from a trace, before it starts. Pure.

An open loop goes on after the last request that is measured, so that this one too is answered
under the load that it belongs to: the tail of a timetable has no rows.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..prompts.order import derive_seed
from ..scenario.load import LoadLevel
from ..scenario.scenario import Scenario
from .arrivals import arrival_times, realised
from .trace import Trace

TAIL_S = 60.0  # an open loop is kept up for so long at most, for replies that last longer
MOST_TAIL = 250_000  # and for so many requests: they are planned, and held in memory
FEWEST_SPARES, MOST_SPARES = 8, 512
SPARE_S = 0.5  # connections are kept ready for the most arrivals in so long a time


@dataclass(frozen=True, slots=True)
class Timetable:
    """Times in seconds from the start, ascending: of the measured requests, then of the tail.

    `times_s` is empty for a closed loop, which has no times.
    """

    measured: int
    times_s: array[float] = field(default_factory=lambda: array("d"))
    facts: dict[str, Any] = field(default_factory=dict)  # for the run's JSON

    @property
    def open_loop(self) -> bool:
        """Whether requests go by the clock."""
        return bool(self.times_s)

    @property
    def measured_s(self) -> Sequence[float]:
        """Times of the requests that have rows."""
        return self.times_s[: self.measured]

    @property
    def rate(self) -> float:
        """Requests a second as they came out: one over the mean gap."""
        return realised(self.measured_s)[0] or float(self.measured)


def timetable_of(
    scenario: Scenario, level: LoadLevel, repeat: int, trace: Trace | None = None
) -> Timetable:
    """Return when one run's requests go. `trace` is the level's, for scenarios that have one."""
    if level.concurrency is not None:
        return Timetable(scenario.num_requests or 0, facts={"shape": "closed"})
    if level.request_rate is not None:
        measured, times_s = _drawn(scenario, level.request_rate, repeat)
        own: dict[str, Any] = {
            "shape": scenario.arrival,
            "cv": scenario.cv,
            "burst_size": scenario.burst_size,
            "ramp_s": scenario.ramp_s,
        }
    else:
        assert trace is not None
        measured, times_s = len(trace.requests), _repeated([r.at_s for r in trace.requests])
        own = {"shape": "trace", "trace": scenario.trace, "speed": level.speed}
    return Timetable(measured, times_s, _facts(scenario, own, times_s[:measured]))


def schedule_seed(scenario: Scenario, repeat: int) -> int:
    """Return the seed of a repeat's schedule; repeats count from 1."""
    return derive_seed(scenario.seed, "schedule" if repeat == 1 else f"schedule of repeat {repeat}")


def _drawn(scenario: Scenario, rate: float, repeat: int) -> tuple[int, array[float]]:
    arrivals, seed = scenario.arrivals(rate), schedule_seed(scenario, repeat)
    if scenario.num_requests is not None:
        measured = scenario.num_requests
    else:
        measured = len(arrival_times(arrivals, seed=seed, duration_s=scenario.duration_s))
    # The first of a longer draw are those of a shorter one.
    tail = min(int(rate * TAIL_S) + 1, MOST_TAIL)
    times_s = arrival_times(arrivals, seed=seed, count=measured + tail)
    return measured, times_s


def _repeated(times_s: Sequence[float]) -> array[float]:
    """Return a trace's times and, as its tail, the same again."""
    gap_s = times_s[-1] / max(1, len(times_s) - 1) or 1.0
    again_s = times_s[-1] + gap_s
    tail = (again_s + t for t in times_s[: bisect_right(times_s, TAIL_S)])
    return array("d", [*times_s, *tail])


def _facts(scenario: Scenario, own: dict[str, Any], measured_s: Sequence[float]) -> dict[str, Any]:
    rate, cv = realised(measured_s)
    found = {
        **own,
        "duration_s": scenario.duration_s,
        "max_in_flight": scenario.max_in_flight,
        "span_s": measured_s[-1] if measured_s else None,
        "realised_rate": rate,
        "realised_cv": cv,
    }
    return {key: value for key, value in found.items() if value is not None}


def spare_connections(times_s: Sequence[float]) -> int:
    """Return how many connections are to be ready: for the most arrivals within half a second."""
    most = first = 0
    for place, time_s in enumerate(times_s):
        while times_s[first] < time_s - SPARE_S:
            first += 1
        most = max(most, place - first + 1)
    return max(FEWEST_SPARES, min(most, MOST_SPARES))
