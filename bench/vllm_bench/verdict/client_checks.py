"""Doubts about the client: sending processes that died, stamps that were late, and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..figures.client import (
    Exactness,
    busiest_cpu_share,
    exactness,
    lag_of_loops,
    lost_workers,
    workers,
)
from ..figures.facts import Facts
from ..figures.machines.machine import machines_of
from ..stats.distribution import min_samples, quantile
from .advice import MORE_CLIENT
from .finding import Doubt, Family, Severity, check

LAG_SUSPECT_MS, LAG_INVALID_MS = 5.0, 20.0  # shorter lags change no figure that anybody acts on
BUSY_CORE = 0.70  # queues form well before 1


@check("the requests that it still had to send are missing", invalid="any")
def worker_lost(facts: Facts) -> Doubt | None:
    """A sending process died, so its requests are missing."""
    lost = lost_workers(facts.info)
    if not lost or machines_of(facts.info):  # then it is `machine_lost`
        return None
    lanes = sum(w.get("streams", 0) for w in lost)
    what = "connections" if facts.load.is_open else "streams"
    return Doubt(
        f"{len(lost)} of {len(workers(facts.info))} sending processes died; {lanes} {what} were "
        f"lost, and {facts.missing_in_words}",
        "look for what killed it (memory?) in the system's log, and run again",
    )


@dataclass(frozen=True, slots=True)
class _Harm:
    """The error of stamps beside the median of the figure that they enter, both in ms."""

    family: Family
    figure: str
    error_ms: float
    median_ms: float

    @property
    def share(self) -> float:
        return self.error_ms / self.median_ms

    @property
    def words(self) -> str:
        return (
            f"{self.error_ms:.1f} ms at p99, {self.share:.0%} of the median {self.figure} of "
            f"{self.median_ms:.1f} ms"
        )


def _harms(facts: Facts, exact: Exactness) -> Iterator[_Harm]:
    """Yield what the stamps' error can do to each family of figures."""
    ends_ms = max(exact.ttft_ms, exact.gaps_ms)
    of: tuple[tuple[Family, str, float, float | None], ...] = (
        ("TTFT", "TTFT", exact.ttft_ms, facts.ttft_p50_ms),
        ("pace", "time from the first token to the last", ends_ms, _decode_p50_ms(facts)),
        ("gaps", "gap between tokens", exact.gaps_ms, facts.token_gap_p50_ms),
    )
    for family, figure, error_ms, median_ms in of:
        if median_ms:
            yield _Harm(family, figure, error_ms, median_ms)


def _decode_p50_ms(facts: Facts) -> float | None:
    """Return the median time from first token to end; without first tokens, from send to end."""
    latency_ms, ttft_ms = facts.values("latency_ms"), facts.values("ttft_ms")
    whole = ttft_ms.size != latency_ms.size
    return quantile(latency_ms if whole else latency_ms - ttft_ms, 50)


@check(
    "p99 of the stamps' error / the median of the figure that they enter. With the kernel's stamps "
    "it is how far the two clocks' pairs differed; after a step of the wall clock stamps are the "
    "process's own, and it is how late reads were before. 2 % is the smallest effect worth "
    "claiming, and at 10 % the figure is the client's as much as the server's",
    suspect=0.02,
    invalid=0.10,
    about=("TTFT", "pace", "gaps"),
)
def stamp_error(facts: Facts) -> Iterator[Doubt]:
    """Stamps were taken later than the bytes came."""
    exact = exactness(facts.info)
    if exact is None or not exact.measured:
        return
    lag_ms = lag_of_loops(facts.info, "p99")
    cause = "" if lag_ms is None else f"; the sending loop's lag is {lag_ms:.1f} ms at p99"
    for harm in _harms(facts, exact):
        figures = f"stamps were late by {harm.words}{cause}"
        yield Doubt(figures, MORE_CLIENT, harm.share, about=harm.family)


@check(
    "where the stamps' error wasn't measured: p99 of the sending loop's lag / the median of the "
    f"figure that the stamps enter, over {min_samples(99)} ticks or more: stamps can be this late",
    suspect=0.05,
    invalid=0.20,
    only=(f", and > {LAG_SUSPECT_MS:g} ms", f", and > {LAG_INVALID_MS:g} ms"),
    about=("TTFT", "pace", "gaps"),
)
def loop_lag(facts: Facts) -> Iterator[Doubt]:
    """The sending loop was late, so stamps may be."""
    exact = exactness(facts.info)
    if exact is None or exact.measured or exact.ttft_ms <= LAG_SUSPECT_MS:
        return
    grave = exact.ttft_ms > LAG_INVALID_MS
    for harm in _harms(facts, exact):
        yield Doubt(
            f"the sending loop's lag is {harm.words}",
            MORE_CLIENT,
            harm.share,
            at_most=Severity.INVALID if grave else Severity.SUSPECT,
            about=harm.family,
        )


@check(
    f"above {BUSY_CORE:.0%} of a core in its busiest second queues form: this explains late "
    "stamps and late sends, which are judged by themselves"
)
def client_cpu(facts: Facts) -> Doubt | None:
    """A sending process used nearly all of a core."""
    busiest = busiest_cpu_share(facts.info)
    if busiest is None or busiest <= BUSY_CORE:
        return None
    figures = f"a sending process used {busiest:.0%} of a core in its busiest second"
    return Doubt(figures, MORE_CLIENT)


@check(
    "ms by which wall clock and monotonic clock moved apart during the run: samples and logs of "
    "other machines are placed by the wall clock; 5 ms is a gap between tokens, 50 ms a TTFT",
    suspect=5,
    invalid=50,
    unit="ms",
    about=("GPUs",),
)
def clock_drift(facts: Facts) -> Doubt | None:
    """The wall clock was set, or drifted, during the run."""
    start, end = (facts.info.clock_start, facts.info.clock_end) if facts.info else (None, None)
    if start is None or end is None:
        return None
    monotonic_s = (end.monotonic_ns - start.monotonic_ns) / 1e9
    drift_ms = 1000 * (end.wall_s - start.wall_s - monotonic_s)
    return Doubt(
        f"over {monotonic_s:.1f} s the wall clock moved {drift_ms:+.1f} ms against the monotonic "
        "one",
        "latencies are right, but GPU samples and server logs belong to other moments than shown: "
        "let the clock be set before a run, not during it",
        abs(drift_ms),
    )
