"""The client's own health in a run; parts of it may be absent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..records.run_info import RunInfo
from ..stats.distribution import min_samples


def workers(info: RunInfo | None) -> list[dict[str, Any]]:
    """Return what each sending process noted about itself."""
    return (info.client_health.get("workers") or []) if info else []


def lost_workers(info: RunInfo | None) -> list[dict[str, Any]]:
    """Return the sending processes that died before the end."""
    return [worker for worker in workers(info) if worker.get("lost")]


def busiest_cpu_share(info: RunInfo | None) -> float | None:
    """Return the share of a core that a sending process took in its busiest second."""
    shares = [worker.get("cpu_share_per_second") or [] for worker in workers(info)]
    return max((float(n) for of_one in shares for n in of_one), default=None)


def trip_ms(info: RunInfo | None) -> float | None:
    """Return how many ms a packet and its answer take to the server and back; None: not told."""
    told = [worker["trip_ms"] for worker in workers(info) if worker.get("trip_ms") is not None]
    return sum(told) / len(told) if told else None


def lag_of_loops(info: RunInfo | None, key: Literal["p99", "ticks"]) -> float | None:
    """Return the p99 of the sending loops' lag in ms, or the number of ticks behind it."""
    return _number(info.client_health.get("loop_lag_ms") if info else None, key)


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long after the kernel's stamp reads were made, in ms."""

    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Reads:
    """How a run's tokens were stamped and read.

    Shares are of reads that brought tokens. One that brought several events tells when the last of
    them came: those before it may have come earlier, which no clock can tell.
    """

    clock: str  # "kernel", "process" (its own, as it read), "kernel until a step at … s"
    error_ms: float | None  # of the kernel's stamps: how far the two clocks' pairs differed
    ttft: Lateness | None  # of reads with a first token; None: not stamped by the kernel
    gaps: Lateness | None  # of reads after it
    merged: float | None  # brought several events
    first_merged: float | None  # of first reads alone


def reads_of(info: RunInfo | None) -> Reads | None:
    """Return how a run was stamped; None where its JSON doesn't say."""
    health = info.client_health if info else {}
    if health.get("clock") is None:
        return None
    late = health.get("lateness_ms") or {}
    return Reads(
        clock=health["clock"],
        error_ms=_number(health, "clock_error_ms"),
        ttft=_lateness(late.get("ttft")),
        gaps=_lateness(late.get("gaps")),
        merged=_share(health, "merged_reads", "token_reads"),
        first_merged=_share(health, "merged_first_reads", "first_reads"),
    )


def _lateness(found: dict[str, Any] | None) -> Lateness | None:
    values = [_number(found, name) for name in ("p50", "p99", "max")]
    p50_ms, p99_ms, max_ms = values
    if p50_ms is None or p99_ms is None or max_ms is None:
        return None
    return Lateness(p50_ms, p99_ms, max_ms)


def _share(health: dict[str, Any], part: str, whole: str) -> float | None:
    parts, of = _number(health, part), _number(health, whole)
    return parts / of if parts is not None and of else None


def _number(found: dict[str, Any] | None, key: str) -> float | None:
    value = (found or {}).get(key)
    return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Exactness:
    """How wrong stamps can be, in ms at p99: of first tokens, and of tokens after others."""

    ttft_ms: float
    gaps_ms: float
    measured: bool  # by a clock outside of the sending loop; else the loop's own lag stands in


def exactness(info: RunInfo | None) -> Exactness | None:
    """Return how exact a run's stamps were; None where nothing is known of it.

    A late read doesn't falsify a stamp of the kernel's; a step left the others to the process.
    """
    reads = reads_of(info)
    if reads is not None and reads.clock == "kernel" and reads.error_ms is not None:
        return Exactness(reads.error_ms, reads.error_ms, measured=True)
    if reads is not None and reads.ttft is not None and reads.clock != "process":
        gaps = reads.gaps or reads.ttft
        return Exactness(reads.ttft.p99_ms, gaps.p99_ms, measured=True)
    lag_ms, ticks = lag_of_loops(info, "p99"), lag_of_loops(info, "ticks")
    if lag_ms is None or (ticks is not None and ticks < min_samples(99)):
        return None  # the p99 of one second's ticks is the worst tick
    return Exactness(lag_ms, lag_ms, measured=False)


def lateness_p99_ms(info: RunInfo | None) -> float | None:
    """Return how late tokens were read, at p99: by the kernel's stamps, else by the loop's lag."""
    reads = reads_of(info)
    if reads is not None and reads.gaps is not None:
        return reads.gaps.p99_ms
    return lag_of_loops(info, "p99")
