"""What each machine of a run sent and saw: a row of the table of machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...stats.distribution import Distribution, describe
from ..client import busiest_cpu_share, exactness, lag_of_loops
from ..facts import Facts
from ..metrics import headline_metric
from ..throughput import window_throughput
from .machine import Machine, machines_of


@dataclass(frozen=True, slots=True)
class MachineSide:
    """One machine of a run; None where a figure isn't known, or has too few requests."""

    machine: str
    rows: int  # requests that ended
    failed: int
    metric: str  # of the next two: TTFT, or latency where nothing was streamed
    p50_ms: float | None  # of the counted successes
    p95_ms: float | None
    requests_per_s: float | None  # successes in the steady window, or over the whole run
    loop_lag_p99_ms: float | None  # of its worst sending process
    stamp_error_ms: float | None  # None: not measured
    cpu_busiest: float | None  # share of a core
    offset_ms: float | None  # its clock less the head's
    offset_error_ms: float | None  # plus or minus
    start_apart_ms: float | None
    senders: int | None
    fetched: int  # of the rows: came only after the machine, or the head, was lost
    lost: str | None  # how


def machine_sides(facts: Facts) -> Iterator[MachineSide]:
    """Yield each machine of a run, in the order of its JSON; none: one sent alone.

    Of a run whose head was killed, the rows alone tell which there were.
    """
    found = {machine.name: machine for machine in machines_of(facts.info)}
    for name, part in facts.machines.items():
        yield _side(found.get(name) or Machine(name), part)


def _side(machine: Machine, part: Facts) -> MachineSide:
    metric, times = _first(part)
    exact = exactness(part.info)
    return MachineSide(
        machine=machine.name,
        rows=part.rows,
        failed=len(part.failures),
        metric=metric,
        p50_ms=times.percentile(50) if times else None,
        p95_ms=times.percentile(95) if times else None,
        requests_per_s=_rate(part),
        loop_lag_p99_ms=lag_of_loops(part.info, "p99"),
        stamp_error_ms=exact.ttft_ms if exact and exact.measured else None,
        cpu_busiest=busiest_cpu_share(part.info),
        offset_ms=machine.offset_ms,
        offset_error_ms=machine.offset_error_ms,
        start_apart_ms=machine.start_apart_ms,
        senders=machine.senders,
        fetched=machine.fetched,
        lost=machine.lost,
    )


def _first(part: Facts) -> tuple[str, Distribution | None]:
    """Return the time that requests are first read for: the same of all machines of a run."""
    run = part.of or part
    metric = headline_metric("ttft_ms" if run.streaming else "latency_ms", run.load)
    return metric, describe(part.values(metric))


def _rate(part: Facts) -> float | None:
    found = window_throughput(part, part.window)
    if found is not None:
        return found.requests_per_s
    return len(part.succeeded) / part.span_s if part.span_s else None
