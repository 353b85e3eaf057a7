"""Doubts about the client: sending processes that died or were late, and its clock."""

from __future__ import annotations

from ..figures.client import busiest_cpu_share, lag_of_loops, lost_workers, workers
from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.statistics import min_samples
from .finding import Doubt, check

LOOP_LAG_FLOOR_MS = 2.0  # a loop that is sometimes this late shifts no percentile noticeably
MORE_CLIENT = (
    "give the client more CPU: stop other work, move it off the server's machine, or use more "
    "--workers"
)


@check("the requests that it still had to send are missing", invalid="any")
def worker_lost(facts: Facts) -> Doubt | None:
    """A sending process died, so its requests are missing."""
    lost = lost_workers(facts.info)
    if not lost:
        return None
    lanes = sum(w.get("streams", 0) for w in lost)
    what = "connections" if facts.load.is_open else "streams"
    return Doubt(
        f"{len(lost)} of {len(workers(facts.info))} sending processes died; {lanes} {what} were "
        f"lost, and {counted(facts.planned - facts.rows, 'request')} without a row",
        "look for what killed it (memory?) in the system's log, and run again",
    )


@check(
    "p99 of the sending loop's lag / the median gap between tokens (TTFT where there is none): "
    "stamps can be this late, and above a fifth of a gap the gaps are the client's as much as the "
    "server's",
    suspect=0.05,
    invalid=0.20,
    only=f", and > {LOOP_LAG_FLOOR_MS:g} ms, over {min_samples(99)} ticks or more",
)
def loop_lag(facts: Facts) -> Doubt | None:
    """The sending loop was late, so stamps were."""
    lag_ms, ticks = lag_of_loops(facts.info, "p99"), lag_of_loops(facts.info, "ticks")
    base_ms = facts.token_gap_p50_ms or facts.ttft_p50_ms
    if lag_ms is None or not base_ms or lag_ms <= LOOP_LAG_FLOOR_MS:
        return None
    if ticks is not None and ticks < min_samples(99):
        return (
            None  # the p99 of one second's ticks is the worst tick; such a run is too short anyway
        )
    return Doubt(
        f"the sending loop's lag is {lag_ms:.1f} ms at p99, {lag_ms / base_ms:.0%} of "
        f"{base_ms:.1f} ms, the median gap between tokens",
        MORE_CLIENT,
        lag_ms / base_ms,
    )


@check(
    "share of a core that a sending process used in its busiest second: queues form well before 1",
    suspect=0.70,
    invalid=0.90,
)
def client_cpu(facts: Facts) -> Doubt | None:
    """A sending process used nearly all of a core."""
    busiest = busiest_cpu_share(facts.info)
    if busiest is None:
        return None
    figures = f"a sending process used {busiest:.0%} of a core in its busiest second"
    return Doubt(figures, MORE_CLIENT, busiest)


@check(
    "ms by which wall clock and monotonic clock moved apart during the run: samples and logs of "
    "other machines are placed by the wall clock; 5 ms is a gap between tokens, 50 ms a TTFT",
    suspect=5,
    invalid=50,
    unit="ms",
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
