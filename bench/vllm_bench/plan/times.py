"""When the requests of one run are sent: drawn, or read from a trace, before it starts. Pure.

Times are in seconds from the start, ascending. An open loop goes on after the last measured
request, so that this one too is answered under the full load: after the times of the measured
requests come those of the tail, which has no rows. A closed loop has no times, but its streams have
an order in which they begin.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..prompts.order import derive_seed, permutation
from ..scenario.load import LoadLevel
from ..scenario.load_keys import Start
from ..scenario.scenario import Scenario
from .arrivals import arrival_times, realised
from .share import NS_PER_S

if TYPE_CHECKING:  # read where a scenario has a trace
    from ..traces.trace import Trace

TAIL_S = 60.0  # an open loop goes on for at most this long after the last measured arrival
MOST_TAIL = 250_000  # and for at most this many requests: they are planned, and kept in memory
FEWEST_SPARES, MOST_SPARES = 8, 512
# Public traces have 0.2 to 10 requests/s; 1,000 times as many, or as few, are outside of these.
FASTEST_RATE, SLOWEST_RATE = 100.0, 1 / 60  # requests/s on average
NEARLY_A_SECOND = 1 - 1e-9  # of two requests a second apart one is in it
FEW_TO_DOUBT = 10  # fewer requests may come at any rate
UNITS = {"azure": "dates", "mooncake": "milliseconds", "burstgpt": "seconds"}  # of times
SPARE_S = 0.5  # enough connections are kept ready for the most arrivals within this time


def schedule_seed(scenario: Scenario, repeat: int) -> int:
    """Return the seed of a repeat's schedule, or of the order in which its streams begin.

    Repeats count from 1.
    """
    return derive_seed(scenario.seed, "schedule" if repeat == 1 else f"schedule of repeat {repeat}")


def drawn_times(scenario: Scenario, rate: float, repeat: int) -> tuple[int, array[float]]:
    """Return how many requests are measured at a request rate, and the times of all."""
    arrivals, seed = scenario.arrivals(rate), schedule_seed(scenario, repeat)
    measured = scenario.num_requests
    if measured is None:
        measured = len(arrival_times(arrivals, seed=seed, duration_s=scenario.duration_s))
    # A longer draw begins with the shorter one.
    tail = min(int(rate * TAIL_S) + 1, MOST_TAIL)
    return measured, arrival_times(arrivals, seed=seed, count=measured + tail)


def trace_times(trace: Trace) -> array[float]:
    """Return a trace's times, and the same times again as its tail."""
    times_s = [request.at_s for request in trace.requests]
    gap_s = times_s[-1] / max(1, len(times_s) - 1) or 1.0
    again_s = times_s[-1] + gap_s
    tail = (again_s + t for t in times_s[: bisect_right(times_s, TAIL_S)])
    return array("d", [*times_s, *tail])


def replay_notes(trace: Trace, speed: float) -> tuple[str, ...]:
    """Return how long a replay lasts and at which rates, and a doubt where they are absurd.

    Not of a run's own rows: their unit is known.
    """
    times_s = [request.at_s for request in trace.requests]
    rate = (len(times_s) - 1) / times_s[-1] if times_s[-1] else float(len(times_s))
    busiest = most_within(times_s, NEARLY_A_SECOND)
    said = (
        f"{trace.kind}: the replay at speed {speed:g} lasts {_length(times_s[-1])}: {rate:.4g} "
        f"requests/s on average, {busiest} in its busiest second"
    )
    usual = SLOWEST_RATE <= rate <= FASTEST_RATE
    if usual or trace.kind == "run" or len(times_s) < FEW_TO_DOUBT:
        return (said,)
    too, instead, factor = ("fast", "slower", 1e-3) if rate > 1 else ("slow", "faster", 1e3)
    return (
        said,
        f"trace_rate: {rate:.4g} requests/s is too {too} for recorded traffic: the times of "
        f"{trace.kind} are read as {UNITS[trace.kind]}; if they have another unit, "
        f"speed: {speed * factor:g} replays them 1,000 times {instead}",
    )


def _length(seconds: float) -> str:
    """Return a duration for people: `0.91 s`, `2 min`, `55.6 hours`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def schedule_facts(
    scenario: Scenario, level: LoadLevel, measured_s: Sequence[float]
) -> dict[str, Any]:
    """Return the entry on times in the run's JSON: what was asked for, and what was drawn."""
    if level.concurrency is not None or not measured_s:
        timed = {} if scenario.duration_s is None else {"duration_s": scenario.duration_s}
        return {"shape": "closed", **timed}
    rate, cv = realised(measured_s)
    drawn = level.request_rate is not None
    found = {
        "shape": scenario.arrival if drawn else "trace",
        "cv": scenario.cv,
        "burst_size": scenario.burst_size,
        "ramp_s": scenario.ramp_s if drawn else None,
        "trace": scenario.trace,
        "speed": level.speed,
        "duration_s": scenario.duration_s,
        "max_in_flight": scenario.max_in_flight,
        "span_s": measured_s[-1],
        "realised_rate": rate,
        "realised_cv": cv,
    }
    return {key: value for key, value in found.items() if value is not None}


def stream_begins(scenario: Scenario, streams: int, repeat: int) -> tuple[float, ...]:
    """Return when each stream begins, as a share of the start's spread.

    Even steps in an order drawn from the seed.
    """
    order = permutation(streams, schedule_seed(scenario, repeat))
    return tuple(place / streams for place in order)


def start_facts(
    start: Start | None, warmup_latency_s: float | None, think_s: float
) -> dict[str, Any]:
    """Return how the streams of a closed loop begin, and the seconds during which they do.

    That is about one round of a stream: a latency, as the warm-up told it, and the think time.
    Streams that are answered equally fast stay as far apart as they began.
    """
    if start is None:
        return {}
    if start == "together" or warmup_latency_s is None:
        return {"start": "together", "start_spread_s": 0.0}
    return {"start": "staggered", "start_spread_s": warmup_latency_s + think_s}


def spare_connections(times_s: Sequence[float]) -> int:
    """Return how many connections to keep ready: enough for the most arrivals within `SPARE_S`."""
    return max(FEWEST_SPARES, min(most_within(times_s, SPARE_S), MOST_SPARES))


def most_within(times_s: Sequence[float], seconds: float) -> int:
    """Return how many arrivals there are at most within so many seconds."""
    import numpy as np

    times = np.asarray(times_s)
    first = np.searchsorted(times, times - seconds)  # of those that are near before each
    return int((np.arange(len(times)) - first).max(initial=-1)) + 1


def nanoseconds(times_s: Sequence[float]) -> array[int]:
    """Return times in whole nanoseconds."""
    import numpy as np

    return array("q", np.rint(np.asarray(times_s) * NS_PER_S).astype(np.int64).tobytes())
