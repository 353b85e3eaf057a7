"""How much longer a class waits with the others than without them: the same requests, twice.

S_c = TTFT of class c in the mix / TTFT of c alone, with the same arrivals and seed; of sessions the
time of a job without its waits, where enough of them ended. Worst over best, max S_c / min S_c, is
1 where nobody is favoured. An interval is that of a ratio of two independent figures, from the
interval of each (Zou and Donner, Statistics in Medicine 27 (2008)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

from ..figures.digits import needs
from ..figures.metrics import IN_A_CELL, TITLES, headline_metric
from ..stats.batches import Interval
from ..stats.repeated import Repeated
from ..summary.levels import Level
from ..summary.summary import RunSummary

PERCENTILES = (50.0, 95.0)
SERVED = "job_served_s"
NOT_MADE = "no run of it alone (bench.py --alone)"


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A class's figure in the mix and alone; `absent` says why there is no ratio."""

    class_name: str
    figure: str  # what is compared: TTFT, TTFT from schedule
    percentile: float
    mixed_ms: float | None
    alone_ms: float | None
    ratio: float | None
    interval: Interval | None  # 95 %; None: one of both has none
    absent: str | None
    run_ids: tuple[str, ...]  # of the class alone


@dataclass(frozen=True, slots=True)
class Apart:
    """The classes that were slowed most and least, and by what factor they differ."""

    percentile: float
    worst: str
    best: str
    ratio: float  # worst over best, at least 1
    told_apart: bool | None  # whether their intervals don't overlap; None: one has none


Pairs = Sequence[tuple[RunSummary, RunSummary]]  # a class in the mix, and alone


def slowdowns(level: Level, alone: Sequence[RunSummary]) -> tuple[Slowdown, ...]:
    """Return the slowdown of each class of a level of mixed runs; `alone`: runs of one class."""
    found = {name: _pairs(level, name, alone) for name in level.classes}
    why = NOT_MADE if level.figures_of else f"{level.invalid or 'no run counts'} in the mix"
    return tuple(_slowdown(n, pairs, q, why) for q in PERCENTILES for n, pairs in found.items())


def _pairs(level: Level, name: str, alone: Sequence[RunSummary]) -> Pairs:
    """Return the level's runs of a class that have a run of the same requests alone."""
    found = []
    for run in level.figures_of:
        partners = [one for one in alone if _same(run, run.classes[name], one)]
        if partners:  # two levels may have the same requests of a class
            partner = min(partners, key=partial(_seconds_apart, run))
            found.append((run.classes[name], partner))
    return found


def _same(run: RunSummary, part: RunSummary, alone: RunSummary) -> bool:
    """Whether a run alone has the session, the repeat and the requests of a class of a run."""
    if run.info is None or alone.info is None or run.folder != alone.folder:
        return False
    sent = part.plan("sha256")
    return (
        sent is not None
        and sent == alone.plan("sha256")
        and alone.plan("alone") == part.class_
        and run.info.session is not None
        and run.info.session == alone.info.session
        and run.info.repeat == alone.info.repeat
    )


def _seconds_apart(run: RunSummary, other: RunSummary) -> float:
    if run.info is None or other.info is None:
        return math.inf
    return abs(run.info.clock_start.wall_s - other.info.clock_start.wall_s)


def _slowdown(name: str, pairs: Pairs, percentile: float, unpaired: str) -> Slowdown:
    if not pairs:
        return Slowdown(name, TITLES["ttft_ms"], percentile, None, None, None, None, unpaired, ())
    mixed, alone = (Level(tuple(pair[side] for pair in pairs)) for side in (0, 1))
    metric, unit = headline_metric("ttft_ms", alone.load), 1
    if all(level.over_rows(SERVED, percentile) for level in (mixed, alone)):
        metric, unit = SERVED, 1000  # a session's waits are its own, and its turns one job
    both = mixed.over_rows(metric, percentile), alone.over_rows(metric, percentile)
    mixed_ms, alone_ms = (unit * one.centre if one else None for one in both)
    found = _ratio(*both)
    absent = None if found else _why_not((mixed, alone), metric, percentile)
    ids = tuple(run.run_id for run in alone.runs)
    ratio, interval = found or (None, None)
    figure = TITLES[metric]
    return Slowdown(name, figure, percentile, mixed_ms, alone_ms, ratio, interval, absent, ids)


def _why_not(levels: Iterable[Level], metric: str, percentile: float) -> str:
    for level, where in zip(levels, ("in the mix", "alone"), strict=True):
        if level.invalid is not None and not level.figures_of:
            return f"{level.invalid} {where}"
        for run in level.figures_of:
            if metric in run.absent:
                return f"{IN_A_CELL.get(run.absent[metric], run.absent[metric])} {where}"
    return needs(percentile)


def _ratio(mixed: Repeated | None, alone: Repeated | None) -> tuple[float, Interval | None] | None:
    if mixed is None or alone is None or min(mixed.centre, alone.centre) <= 0:
        return None
    found = mixed.centre / alone.centre
    if mixed.interval is None or alone.interval is None:
        return found, None
    return found, ratio_interval(mixed.centre, mixed.interval, alone.centre, alone.interval)


def ratio_interval(over: float, its: Interval, under: float, theirs: Interval) -> Interval:
    """Return the interval of over / under, two independent figures with intervals.

    On logarithms: each end is as far from the ratio as the root of the sum of the squared distances
    of the two ends that push it there.
    """
    down = math.hypot(_apart(its.low, over), _apart(under, theirs.high))
    up = math.hypot(_apart(over, its.high), _apart(theirs.low, under))
    found = over / under
    return Interval(found * math.exp(-down), found * math.exp(up) if up < 700 else math.inf)


def _apart(low: float, high: float) -> float:
    """Return how far two figures are apart on a logarithmic scale."""
    return math.inf if low <= 0 or math.isinf(high) else max(math.log(high / low), 0.0)


def apart(found: Sequence[Slowdown], percentile: float) -> Apart | None:
    """Return worst over best at a percentile; None where fewer than two classes have a slowdown."""
    known = [(s.ratio, s) for s in found if s.percentile == percentile and s.ratio is not None]
    if len(known) < 2:
        return None
    first = itemgetter(0)
    (high, worst), (low, best) = max(known, key=first), min(known, key=first)
    return Apart(percentile, worst.class_name, best.class_name, high / low, told_apart(worst, best))


def told_apart(more: Slowdown, less: Slowdown) -> bool | None:
    """Whether one was slowed more than another beyond chance; None: one has no interval."""
    if more.interval is None or less.interval is None:
        return None
    return more.interval.low > less.interval.high
