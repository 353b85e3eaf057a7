"""Is the server fair to its classes of users? Two figures of each level of mixed runs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..figures.absent import Why
from ..figures.digits import short
from ..records.text import printable
from ..scenario.load import Load
from ..stats.batches import Interval
from ..summary.levels import Level, Series
from ..summary.series_names import named_series
from ..summary.summary import RunSummary
from .jain import Jain, index_of
from .slowdown import NOT_MADE, PERCENTILES, Apart, Slowdown, apart, slowdowns


@dataclass(frozen=True, slots=True)
class Fairness:
    """How one level's classes fared against each other."""

    scenario: str  # the series' name
    load: Load
    run_ids: tuple[str, ...]
    slowdowns: tuple[Slowdown, ...]  # of each class at each percentile
    apart: tuple[Apart, ...]  # worst over best at each percentile that has one
    jain: Jain | None
    no_jain: str | None  # why there is no index
    priorities: tuple[tuple[str, float], ...]  # of classes that differ in it; the lowest goes first

    def of(self, percentile: float) -> list[Slowdown]:
        return [one for one in self.slowdowns if one.percentile == percentile]


def fairness(series: Sequence[Series]) -> list[Fairness]:
    """Return the fairness at each level of several classes; runs alone are among all series."""
    alone = [run for one in series for run in one.runs if run.plan("alone") is not None]
    return [
        _of_level(name, level, alone)
        for name, one in named_series(series)
        for level in one.levels
        if len(level.classes) > 1
    ]


def _of_level(name: str, level: Level, alone: Sequence[RunSummary]) -> Fairness:
    found, index = slowdowns(level, alone), index_of(level)
    spreads = (apart(found, q) for q in PERCENTILES)
    return Fairness(
        scenario=name,
        load=level.load,
        run_ids=tuple(run.run_id for run in level.runs),
        slowdowns=found,
        apart=tuple(one for one in spreads if one is not None),
        jain=None if isinstance(index, Why) else index,
        no_jain=str(index) if isinstance(index, Why) else None,
        priorities=_priorities(level),
    )


def _priorities(level: Level) -> tuple[tuple[str, float], ...]:
    """Return each class's priority, the one that goes first before; none where all are alike."""
    asked = {name: _priority(part.runs[0]) for name, part in level.classes.items()}
    if len(set(asked.values())) < 2:
        return ()
    return tuple(sorted(asked.items(), key=lambda one: one[1]))


def _priority(run: RunSummary) -> float:
    """Return what a class asks for, as vLLM reads it: a lower number goes first, 0 where unset."""
    own, body = run.setting("priority"), run.setting("extra_body") or {}
    found = own if own is not None else body.get("priority")
    return float(found) if isinstance(found, int | float) else 0.0


# ---- in words ----


def fairness_lines(found: Fairness) -> Iterator[str]:
    """Yield the two figures of a level for people: `fairness: mix, 20 requests/s: …`."""
    head = f"fairness: {printable(found.scenario)}, {found.load.words}"
    if all(one.absent == NOT_MADE for one in found.slowdowns):
        yield f"{head}: no slowdown: no runs of each class alone (bench.py --alone)"
    else:
        for q in PERCENTILES:
            yield f"{head}: {_slowed(found, q)}"
    if found.jain is None:
        yield f"{head}: no index of service: {found.no_jain}"
        return
    each = ", ".join(f"{printable(n, 32)} {x:.2f}" for n, x in found.jain.normalised.items())
    yield (
        f"{head}: index of service {found.jain.index:.3f} (1: each got what it was promised; "
        f"{1 / len(found.jain.normalised):.2f}: one took all), by class: {each}"
    )


def _slowed(found: Fairness, percentile: float) -> str:
    """Return the slowdowns at a percentile, and worst over best: who it is, who paid."""
    some = found.of(percentile)
    each = ", ".join(f"{printable(one.class_name, 32)} {_words(one)}" for one in some)
    spread = next((one for one in found.apart if one.percentile == percentile), None)
    figure = next((one.figure for one in some if one.ratio is not None), some[0].figure)
    head = f"{figure} p{percentile:g}, mixed ÷ alone: {each}"
    return head if spread is None else f"{head}; {_spread(spread)}{_paid(found, percentile)}"


def _words(one: Slowdown) -> str:
    if one.ratio is None:
        return str(one.absent)
    return f"{one.ratio:.2f}{_interval(one.interval)}"


def _interval(found: Interval | None) -> str:
    if found is None or (found.low <= 0 and not found.bounded):
        return " (no interval)"
    if found.low <= 0:
        return f" (≤ {short(found.high)})"
    if not found.bounded:
        return f" (≥ {short(found.low)})"
    return f" ({short(found.low)} to {short(found.high)})"


def _spread(found: Apart) -> str:
    told = {None: "", True: "", False: ", within chance"}[found.told_apart]
    names = f"{printable(found.worst, 32)} ÷ {printable(found.best, 32)}"
    return f"worst ÷ best {found.ratio:.2f} ({names}{told})"


def _paid(found: Fairness, percentile: float) -> str:
    """Return what priorities did: the class that goes last over the one that goes first."""
    ratios = {one.class_name: one.ratio for one in found.of(percentile)}
    known = [(name, ratio) for name, _ in found.priorities if (ratio := ratios.get(name))]
    if len(known) < 2:
        return ""
    (first, fast), (last, slow) = known[0], known[-1]
    names = printable(last, 32), printable(first, 32)
    if slow <= fast:
        return f"; {names[0]} goes last by its priority, and didn't pay for {names[1]}"
    return f"; {names[0]} paid for {names[1]}, which goes first by its priority: as wanted"
