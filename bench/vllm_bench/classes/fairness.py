"""Is the server fair to its classes of users? Two figures of each level of mixed runs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..figures.absent import Why
from ..figures.digits import interval_words, short
from ..records.text import printable
from ..scenario.load import Load
from ..stats.batches import Interval
from ..summary.levels import Level, Series
from ..summary.series_names import named_series
from ..summary.summary import RunSummary
from .jain import Jain, index_of
from .slowdown import NOT_MADE, PERCENTILES, Apart, Slowdown, apart, slowdowns, told_apart


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
    """Return each class's priority, the one that goes first before; none where all are alike.

    None either where the server says that it takes them and ignores them: who paid, paid for else.
    """
    if any(f.code == "priority_ignored" for run in level.runs for f in run.verdict.findings):
        return ()
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
    spread = next((one for one in found.apart if one.percentile == percentile), None)
    figure = next((one.figure for one in some if one.ratio is not None), some[0].figure)
    names = {one.class_name: _named(one, figure) for one in some}
    each = ", ".join(f"{names[one.class_name]} {_words(one)}" for one in some)
    head = f"{figure} p{percentile:g}, mixed ÷ alone: {each}"
    return head if spread is None else f"{head}; {_spread(spread)}{_paid(found, percentile)}"


def _named(one: Slowdown, figure: str) -> str:
    """Return a class's name, with what is compared of it where that isn't what the line is of."""
    other = f" ({one.figure})" if one.ratio is not None and one.figure != figure else ""
    return f"{printable(one.class_name, 32)}{other}"


def _words(one: Slowdown) -> str:
    if one.ratio is None:
        return str(one.absent)
    return f"{one.ratio:.2f}{_interval(one.interval)}"


def _interval(found: Interval | None) -> str:
    if found is None or (found.low <= 0 and not found.bounded):
        return " (no interval)"
    return f" (≤ {short(found.high)})" if found.low <= 0 else f" ({interval_words(found)})"


def _spread(found: Apart) -> str:
    told = {None: "", True: "", False: ", within chance"}[found.told_apart]
    names = f"{printable(found.worst, 32)} ÷ {printable(found.best, 32)}"
    return f"worst ÷ best {found.ratio:.2f} ({names}{told})"


def _paid(found: Fairness, percentile: float) -> str:
    """Return what priorities did: the class that goes behind over the one that goes before it.

    The first and the last of those with a slowdown, which may not be the first and last of all.
    """
    known = {one.class_name: one for one in found.of(percentile) if one.ratio is not None}
    asked = [(known[name], priority) for name, priority in found.priorities if name in known]
    if len(asked) < 2 or asked[0][1] == asked[-1][1]:
        return ""
    (first, _), (last, _) = asked[0], asked[-1]
    names = printable(last.class_name, 32), printable(first.class_name, 32)
    if told_apart(last, first):
        return f"; {names[0]} paid for {names[1]}, which goes before it by its priority: as wanted"
    behind = f"; {names[0]} goes behind {names[1]} by its priority"
    if (last.ratio or 0.0) <= (first.ratio or 0.0) or told_apart(last, first) is False:
        return f"{behind}, and it doesn't show that it paid"
    return f"{behind}, and was slowed more, by how much isn't sure"
