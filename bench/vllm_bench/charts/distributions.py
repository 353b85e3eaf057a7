"""Distributions: of one run with its percentiles, and of all levels of a scenario in one chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..figures.digits import needs, short
from ..figures.facts import Facts
from ..figures.metrics import DOCS, METRICS, TITLES, headline_metric, that_apply
from ..records.text import printable
from ..stats.batches import Values
from ..stats.distribution import Sample, ordered
from ..summary.levels import Level, Series
from ..summary.summary import RunSummary
from ..tables.group import mark
from .chart import Axis, Chart, Line, Panel, Role, level_colour, log_times, series_colour
from .over_time import MOST_OF_A_CURVE

DRAWN = ("ttft_ms", "ttfa_ms", "latency_ms", "itl_ms", "chunk_gap_ms")
COUNTED = {  # what is counted; otherwise requests
    **dict.fromkeys(("ttfa_ms", "ttfa_from_schedule_ms"), "answered requests"),
    "itl_ms": "tokens",
    "chunk_gap_ms": "waits",
}
MARKED = (50.0, 95.0, 99.0)
CURVE = "{name}\n{y} % ≤ {x} ms"


@dataclass(frozen=True, eq=False)
class Curve:
    """An empirical distribution: `shares[i]` % of n samples are at or below `values[i]`."""

    values: Values
    shares: Values
    n: int
    of: int  # how many points it had before some were left out


Curves = Mapping[str, Curve]  # by metric


def curves_of(facts: Facts, most: int = MOST_OF_A_CURVE) -> dict[str, Curve]:
    """Return the curve of each metric that is drawn; a metric without values has none.

    An open loop's times have two: from the send, and from the schedule, which is the main one.
    """
    drawn = that_apply(DRAWN, thought=bool(facts.succeeded.has("thoughts").any()))
    load = (facts.of or facts).load  # a class's times are drawn as those of its run are
    names = {*drawn, *(headline_metric(name, load) for name in drawn)}
    found = {m.name: curve(m.sample(facts), most) for m in METRICS if m.name in names}
    return {name: one for name, one in found.items() if one is not None}


def curve(sample: Sample, most: int = MOST_OF_A_CURVE) -> Curve | None:
    """Return the curve of samples, each counted for its weight; None where there is none.

    Of more than `most` points, half of those kept are spread evenly over the ranks and half over
    the values, so that a steep middle and a long tail both keep their shape; the ends always stay.
    """
    if sample.values.size == 0:
        return None
    found = ordered(sample.values, sample.weights)
    ends = np.arange(1.0, found.values.size + 1) if found.ends is None else found.ends
    kept = _kept(found.values, most)
    return Curve(found.values[kept], 100 * ends[kept] / found.n, round(found.n), found.values.size)


def _kept(values: Values, most: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places, in rising order, of the values that are drawn."""
    last = values.size - 1
    if values.size <= most:
        return np.arange(values.size)
    by_rank = np.linspace(0, last, most // 2).astype(np.intp)
    # On a logarithmic scale where possible, like the axis of values that span a decade.
    span = np.geomspace if values[0] > 0 else np.linspace
    at = span(values[0], values[-1], most // 2)
    by_value = np.clip(np.searchsorted(values, at, side="right") - 1, 0, last)
    return np.unique(np.r_[by_rank, by_value, last])


def distribution(
    run: RunSummary, curves: Curves, metric: str, repeats: Sequence[Curve] = ()
) -> Chart:
    """Return one run's distribution with its percentiles; the metric must have values.

    `repeats` are the same metric's curves of other runs at this level: one thin line each. An open
    loop's times count from the schedule, and a thin line shows them from the send.
    """
    head = headline_metric(metric, run.load)
    own = curves[head]
    others = f"{len(repeats)} other runs" if len(repeats) > 1 else "another run"
    lines = [
        _line(other, "thin", legend=None if place else f"{others} of this level")
        for place, other in enumerate(repeats)
    ]
    named = f"this run, n {own.n:,}" if repeats else f"n {own.n:,}"
    lines.append(_line(own, "steps", legend=named, colour="ink"))
    sent = [curves[metric]] if head != metric and metric in curves else []
    lines += [_line(c, "thin", legend="from the send", colour="c4", place=1) for c in sent]
    return _chart(head, [*lines, *_percentiles(run, head)], [own, *sent, *repeats])


def _line(curve: Curve, role: Role, **look: Any) -> Line:
    """Return a curve from 0 % at its smallest value, so that the first step is visible."""
    x, y = np.r_[curve.values[0], curve.values], np.r_[0.0, curve.shares]
    return Line(x=x, y=y, role=role, of=curve.of, **{"name": "", **look})


def _percentiles(run: RunSummary, metric: str) -> Iterator[Line]:
    """Return one mark per percentile; one without enough samples is only words."""
    for place, q in enumerate(MARKED):
        value = run.percentile(metric, q)
        words = needs(q) if value is None else f"{short(value)} ms"
        yield Line(
            name=f"p{q:g}  {words}",
            x=np.array([] if value is None else [value]),
            y=np.array([] if value is None else [q]),
            role="drops",
            place=place,
            colour=series_colour(place),
        )


def overlay(series: Series, curves: Mapping[int, Curves], metric: str) -> Chart | None:
    """Return a metric's distribution over all levels; None where no run has one.

    Runs that don't count are left out, except of levels that have no others.

    `curves` has them by the `id` of a run's summary. A level hidden in one panel is hidden in all.
    """
    head = headline_metric(metric, series.levels[0].load)
    names = {id(run): words for words, run in series.run_words}
    lines: list[Line] = []
    for place, level in enumerate(series.levels):
        runs = level.figures_of or level.runs  # without any that counts, all are called INVALID
        having = {id(run): curves[id(run)][head] for run in runs if head in curves[id(run)]}
        words = _level_words(level, list(having.values()))
        legend: str | None = words + mark(level.figures_of, head)
        colour = level_colour(place, len(series.levels))
        for run in (run for run in runs if id(run) in having):
            look = {"place": place, "colour": colour, "group": level.load.words}
            look["name"] = f"{names[id(run)]}{_doubt(run.verdict.level)}{mark([run], head)}"
            lines.append(_line(having[id(run)], "steps", legend=legend, hover=CURVE, **look))
            legend = None  # only a level's first run is in the legend
    found = [c[head] for c in curves.values() if head in c]
    return _chart(head, lines, found) if lines else None


def by_class(run: RunSummary, curves: Mapping[str, Curves], metric: str) -> Chart | None:
    """Return a metric's distribution of each of a run's classes; None where none has values."""
    head = headline_metric(metric, run.load)
    found = {name: of[head] for name, of in curves.items() if head in of}
    if not found:
        return None
    lines = []
    for place, (name, one) in enumerate(found.items(), start=1):
        part = run.classes[name]
        words = f"{printable(name, 32)}, n {one.n:,}{_doubt(part.verdict.level)}"
        look = {"place": place, "colour": series_colour(place), "hover": CURVE}
        lines.append(_line(one, "steps", name=words + mark([part], head), **look))
    return _chart(head, lines, list(found.values()))


def _level_words(level: Level, curves: Sequence[Curve]) -> str:
    many = f" in {len(curves)} runs" if len(curves) > 1 else ""
    return f"{level.load.words}, n {sum(c.n for c in curves):,}{many}{_doubt(level.verdict)}"


def _doubt(verdict: str) -> str:
    return "" if verdict == "VALID" else f" {verdict}"


def _chart(metric: str, lines: Sequence[Line], curves: Sequence[Curve]) -> Chart:
    title, counted = TITLES[metric], COUNTED.get(metric, "requests")
    ends = np.array([c.values[place] for c in curves for place in (0, -1)])
    most = max(curves, key=lambda c: c.of)
    thinned = (
        f"{most.values.size:,} of {most.of:,} points are drawn, spread evenly over the ranks and "
        "over the values; each is a measured value, smallest and largest are kept"
    )
    shares = Axis(
        words=f"{counted} at or below (%)",
        unit=f"% of {counted}",
        ticks=[(share, str(share)) for share in (0, 25, 50, 75, 95)],
        span=(0, 103),
    )
    return Chart(
        title=f"{title[:1].upper()}{title[1:]} distribution",
        doc=DOCS[metric],
        note=thinned if most.values.size < most.of else "",
        x=Axis(words=f"{title} (ms)", unit="ms", log=log_times(ends)),
        panels=[Panel(y=shares, lines=lines)],
    )
