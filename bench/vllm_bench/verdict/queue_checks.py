"""Doubts about an open loop's queue: the server's, when it grows, and the client's, at the cap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.in_flight import InFlight, in_system
from ..figures.statistics import Values, floats
from . import thresholds
from .finding import Finding


@dataclass(frozen=True, slots=True)
class _Thirds:
    """The middle and the last third of a run. The first is left out: there the queue fills."""

    middle: float  # requests waiting or served, on average
    late: float
    middle_arrivals: int
    late_arrivals: int
    between: int  # arrivals from the middle of the one to that of the other


def not_stationary(facts: Facts) -> Finding | None:
    """More was offered than served: the queue grew for as long as the run lasted."""
    found = _thirds(facts)
    if found is None or found.between < thresholds.MIN_ARRIVALS:
        return None
    # By Little's law as many more are under way as arrive more often; what is beyond is queue.
    more = found.late_arrivals / max(1, found.middle_arrivals) if facts.load.is_open else 1.0
    expected = found.middle * more
    grown = found.late - expected
    if grown <= thresholds.QUEUE_NOISE * _burstiness(facts) * math.sqrt(found.middle):
        return None
    severity = thresholds.NOT_STATIONARY.severity(grown / found.between)
    if severity is None:
        return None
    what, expectation = "requests in flight", ""
    if facts.load.is_open:
        what, expectation = "requests due and unanswered", f" ({expected:.1f} by its arrivals)"
    return Finding(
        "not_stationary",
        severity,
        f"{what} grew from {found.middle:.1f} in the middle third of the run to "
        f"{found.late:.1f} in the last{expectation}: {100 * grown / found.between:.0f} % of the "
        "arrivals only lengthened the queue",
        "there is no steady state to measure: offer less, or report this rate as one that the "
        "server doesn't sustain; latencies here depend on how long the run was",
    )


def _thirds(facts: Facts) -> _Thirds | None:
    """Return the run's thirds; in an open loop after its ramp, with what waits in the client."""
    is_open = facts.load.is_open
    flight: InFlight | None = in_system(facts.frame) if is_open else facts.flight
    arrivals = floats(facts.frame["t_scheduled_s" if is_open else "t_sent_s"])
    if flight is None or arrivals.size == 0:
        return None
    start_s, end_s = float(arrivals.min()), float(arrivals.max())
    start_s = max(start_s, facts.plan_number("ramp_s") or 0.0)
    if end_s <= start_s:
        return None
    edges = start_s + (end_s - start_s) * np.arange(7) / 6
    return _Thirds(
        middle=flight.mean_between(edges[2], edges[4]),
        late=flight.mean_between(edges[4], end_s),
        middle_arrivals=_count(arrivals, edges[2], edges[4]),
        late_arrivals=_count(arrivals, edges[4], math.inf),
        between=_count(arrivals, edges[3], edges[5]),
    )


def _count(arrivals_s: Values, start_s: float, end_s: float) -> int:
    return int(((arrivals_s >= start_s) & (arrivals_s < end_s)).sum())


def _burstiness(facts: Facts) -> float:
    """Return by how much more than Poisson's arrivals the run's vary: their cv, 1 at least."""
    return max(1.0, facts.plan_number("realised_cv") or 1.0)


def cap_bound(facts: Facts) -> Finding | None:
    """Requests waited in the client because `max_in_flight` were in flight already."""
    cap, waited = facts.plan_number("max_in_flight"), int(facts.waited_for_cap.sum())
    severity = thresholds.CAP_BOUND.severity(waited / facts.rows) if facts.rows else None
    if cap is None or severity is None:
        return None
    return Finding(
        "cap_bound",
        severity,
        f"{waited} of {counted(facts.rows, 'request')} ({100 * waited / facts.rows:.3g} %) waited "
        f"until one of {cap:.0f} in flight ended",
        "the cap set the pace, not the schedule: raise max_in_flight, or offer a lower rate; "
        "times from the schedule hold the wait, times from the send don't",
    )
