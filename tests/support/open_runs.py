"""Open loops made up for tests: schedules, and what a server of so many slots makes of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from vllm_bench.figures.facts import Facts
from vllm_bench.plan.arrivals import arrival_times
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.scenario.load_keys import Arrivals, ArrivalShape
from vllm_bench.verdict.finding import Finding
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import as_read, frame_of, made_info, made_record


def due_times(
    shape: ArrivalShape, rate: float, count: int, *, seed: int = 0, **how: Any
) -> list[float]:
    """When requests of a seeded schedule are meant to go."""
    return list(arrival_times(Arrivals(shape, rate, **how), seed=seed, count=count))


def served(
    due_s: Sequence[float],
    rate: float,
    *,
    slots: int,
    service_s: float,
    cap: int | None = None,
    **changes: Any,
) -> Iterator[RequestRecord]:
    """Requests that a server with `slots` places answers one by one, each in `service_s`.

    With a cap the client holds back what is beyond it, first come, first served.
    """
    free = [0.0] * slots  # when each place comes free
    ends: list[float] = []  # of what is in flight
    for index, due in enumerate(due_s):
        sent = due
        while ends and ends[0] <= sent:
            heapq.heappop(ends)
        if cap is not None and len(ends) >= cap:
            sent = heapq.heappop(ends)
        end = max(heapq.heappop(free), sent) + service_s
        heapq.heappush(free, end)
        heapq.heappush(ends, end)
        timing = {
            "t_scheduled_s": due,
            "t_sent_s": sent,
            "send_lag_ms": 1000 * (sent - due),
            "ttft_ms": 1000 * (end - sent - 0.9 * service_s),
            "latency_ms": 1000 * (end - sent),
        }
        yield made_record(index, request_rate=rate, **{**timing, **changes})


def stalled(rate: float, count: int, *, from_s: float, to_s: float) -> list[RequestRecord]:
    """Requests of an even rate, each served in a second, of a client that stood still for a while.

    Nothing is sent in that time; all that was due then goes at its end.
    """
    records = []
    for index in range(count):
        due = index / rate
        sent = to_s if from_s <= due < to_s else due
        lag_ms = 1000 * (sent - due)
        records.append(made_record(index, request_rate=rate, t_scheduled_s=due, send_lag_ms=lag_ms))
    return records


def facts_of(folder: Any, records: Sequence[RequestRecord], **changes: Any) -> Facts:
    """Return the facts of records; `changes` are those of the info."""
    info = as_read(folder, made_info(records, **changes))
    return Facts(frame_of(folder, records), info)


def finding_of(facts: Facts, code: str) -> Finding | None:
    """Return what the verdict says under a code."""
    return next((f for f in judge(facts).findings if f.code == code), None)


def rising(slow: float, fast: float, seconds: float) -> list[float]:
    """Arrivals at an even rate, and from half-way on at another."""
    half = seconds / 2
    first = [i / slow for i in range(round(slow * half))]
    return [*first, *(half + i / fast for i in range(round(fast * half)))]
