"""The table of the machines that sent runs together: a row for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...figures.digits import allowed, short
from ...figures.machines.machine import LONGEST_NAME
from ...figures.machines.side import MachineSide
from ...figures.metrics import TITLES
from ...records.text import ABSENT, printable
from ...summary.levels import Series
from ...summary.summary import RunSummary

MOST_ROWS = 16  # of a run; summary.json has all


def _came(side: MachineSide) -> str:
    return f"{side.rows} ({side.fetched} later)" if side.fetched else str(side.rows)


def _percentile(side: MachineSide, value: float | None, percentile: float) -> str:
    """Return a percentile for a cell, or how many successes it takes."""
    return allowed(value, percentile) if side.rows else ABSENT


def number(value: float | None) -> str:
    """Return a figure for a cell."""
    return ABSENT if value is None else short(value)


def lost(side: MachineSide) -> str:
    """Return how a machine was lost, for a cell."""
    return ABSENT if side.lost is None else printable(side.lost or "yes", 60)


Figure = tuple[str, Callable[[MachineSide], str]]
FIGURES: tuple[Figure, ...] = (
    ("rows", _came),
    ("failed", lambda side: str(side.failed)),
    ("p50", lambda side: _percentile(side, side.p50_ms, 50)),
    ("p95", lambda side: _percentile(side, side.p95_ms, 95)),
    ("req/s", lambda side: number(side.requests_per_s)),
    ("loop lag p99", lambda side: number(side.loop_lag_p99_ms)),
    ("stamp error", lambda side: number(side.stamp_error_ms)),
    ("clock ±", lambda side: number(side.offset_error_ms)),
    ("lost", lost),
)


def machine_rows(series: Series) -> list[list[str]]:
    """Return a row for each machine, headings first; none where each run was sent by one alone.

    Without columns that would be empty.

    Of a run of very many those that differ most from the others in what they are first read for.
    """
    runs = [(words, run) for words, run in series.run_words if run.machines]
    if not runs:
        return []
    metrics = dict.fromkeys(TITLES[side.metric] for _, run in runs for side in run.machines)
    times = " or ".join(metrics)
    headings = [f"{times} {name}" if name in ("p50", "p95") else name for name, _ in FIGURES]
    rows = [_row(words, side) for words, run in runs for side in shown(run)]
    columns = zip(["", *headings], *rows, strict=True)
    there = [column for column in columns if {*column[1:]} != {ABSENT}]
    return [list(row) for row in zip(*there, strict=True)]


def machine_lines(series: Series) -> list[str]:
    """Return what the figures are, and how many machines are left out; none, as `machine_rows`."""
    if not any(run.machines for run in series.runs):
        return []
    return [
        *left_out(series),
        "times in ms; p50, p95 and req/s: of the requests that figures are of; clock ±: how well "
        "it is known how far a machine's clock is from the head's",
    ]


def left_out(series: Series) -> list[str]:
    """Return how many machines of each run are left out, where there are very many."""
    return [
        f"{words}: {len(run.machines) - MOST_ROWS} more machines, which differ less: "
        "summary.json has all"
        for words, run in series.run_words
        if len(run.machines) > MOST_ROWS
    ]


def shown(run: RunSummary) -> Sequence[MachineSide]:
    """Return the machines of a run that are shown, in their order."""
    if len(run.machines) <= MOST_ROWS:
        return run.machines
    known = sorted(side.p50_ms for side in run.machines if side.p50_ms is not None)
    middle = known[len(known) // 2] if known else 0.0

    def oddness(side: MachineSide) -> tuple[bool, int, float, float]:
        apart = abs(side.p50_ms - middle) if side.p50_ms is not None else float("inf")
        return side.lost is not None, side.failed, apart, side.loop_lag_p99_ms or 0.0

    odd = sorted(run.machines, key=oddness, reverse=True)[:MOST_ROWS]
    return [side for side in run.machines if side in odd]


def _row(words: str, side: MachineSide) -> list[str]:
    name = printable(side.machine, LONGEST_NAME)
    return [f"{words}: {name}", *(figure(side) for _, figure in FIGURES)]
