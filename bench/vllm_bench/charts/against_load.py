"""A scenario against load, one point per level: TTFT, TPOT, latency and throughput.

A level's times are percentiles of the rows of all its runs together, its throughput is the
geometric mean of its runs. Intervals of times are by batch means, those of throughput over the
runs (t on the logarithms), from three on. Runs that are INVALID, or that disagree, are in no line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..answers.side import interval
from ..figures.digits import counted
from ..figures.metrics import DOCS, TITLES, headline_metric, that_apply
from ..figures.objectives import Objective, RateObjective
from ..scenario.load import Load
from ..stats.batches import Interval
from ..stats.distribution import min_samples
from ..stats.repeated import Repeated
from ..summary.calibration import Calibration
from ..summary.levels import Figure, Level, Series, output_tokens_per_s
from ..summary.stability import find_knee
from ..summary.summary import RunSummary
from ..tables.group import MARKS
from ..tables.level_lines import hit_rates
from .chart import Axis, Chart, Line, Panel, Rule, log_loads, series_colour, times_panel

TIMES = ("ttft_ms", "ttfa_ms", "tpot_ms", "latency_ms")
PERCENTILES = (50.0, 95.0, 99.0)  # and those that objectives name
PLACES = {50.0: 0, 95.0: 1, 99.0: 2, 99.9: 3, 90.0: 4}  # each looks the same in all panels
THROUGHPUT = 5
NO_PART = "no part of a line:\nINVALID, or disagrees"

TTFT_ERRORS = (("TTFT mean", "ttft_error_mean_ms"), ("TTFT p99", "ttft_error_p99_ms"))
STAMPS = (("token p50", "stamp_p50_ms"), ("token p99", "stamp_p99_ms"))


def load_charts(series: Series) -> list[Chart]:
    """Return a chart of each of the times, and one of throughput; what has no value is left out."""
    times = (_times_chart(series, metric) for metric in times_of(series.runs))
    found = (*times, _throughput_chart(series), _answers_chart(series))
    return [chart for chart in found if chart.lines]


def times_of(runs: Iterable[RunSummary]) -> list[str]:
    """Return the times that are drawn of runs."""
    return that_apply(TIMES, thought=any(run.thinking for run in runs))


def against_load(series: Series) -> Chart | None:
    """Return them as panels over each other; None where there is none."""
    charts = load_charts(series)
    if not charts:
        return None
    notes = dict.fromkeys(sentence for chart in charts for sentence in chart.note.split(". "))
    panels = [panel for chart in charts for panel in chart.panels]
    return replace(charts[0], title="Against load", note=". ".join(notes), panels=panels)


def _times_chart(series: Series, name: str) -> Chart:
    metric = headline_metric(name, series.levels[0].load)
    asked = [o for o in objectives_of(series) if o.metric == metric]
    limits = [o for o in asked if isinstance(o, Objective) and o.limit]
    wanted = sorted({*PERCENTILES, *(round(100 * o.share, 6) for o in limits)})
    of_each = {
        q: list(percentile_lines(series.levels, f"p{q:g}", PLACES[q], metric, q)) for q in wanted
    }
    lines = [line for found in of_each.values() for line in found]
    rules = [Rule(f"objective: {o.words}", o.limit or 0.0) for o in limits]
    points = {
        q: sum(int(np.isfinite(t.y).sum()) for t in found if t.low is not None)
        for q, found in of_each.items()
    }
    rare = [q for q in wanted if points[q] < max(points.values())]
    missing = [f"p{q:g} needs {min_samples(q):,} successes at a level" for q in rare]
    return Chart(
        title=f"{TITLES[metric][:1].upper()}{TITLES[metric][1:]} against load",
        doc=DOCS[metric],
        note=". ".join([_how_to_read(series), *missing]),
        x=levels_axis(series.levels),
        panels=[times_panel(TITLES[metric], lines, rules)],
    )


def percentile_lines(
    levels: Sequence[Level], name: str, place: int, metric: str, percentile: float
) -> Iterator[Line]:
    """Return the lines of a percentile of a metric, over all rows of each level."""

    def of_level(level: Level) -> Repeated | None:
        return level.over_rows(metric, percentile)

    def of_run(run: RunSummary) -> float | None:
        return run.percentile(metric, percentile)

    return level_lines(levels, name, place, of_level, of_run)


def _throughput_chart(series: Series) -> Chart:
    knee, name = find_knee(series.levels), "output tokens/s"
    lines = throughput_lines(series.levels, name, THROUGHPUT)
    asked = [o for o in objectives_of(series) if o.metric == "output_tokens_per_s"]
    rules = [Rule(f"objective: {o.words}", o.least) for o in asked if isinstance(o, RateObjective)]
    if knee:
        words = f"knee: {knee.load.words} ({knee.next_load.words}: {100 * knee.gain:+.1f} %)"
        rules.append(Rule(words, knee.load.value, upright=True, words=knee.words))
    return Chart(
        title="Throughput against load",
        doc="generated tokens per second in the steady window, of requests that succeeded",
        note=knee.words.capitalize() if knee else "Throughput rose up to the highest level tried",
        x=levels_axis(series.levels),
        # Saturation shows as a line that goes flat, and only on a linear scale.
        panels=[Panel(y=Axis(words=name, unit="tokens/s"), lines=list(lines), rules=rules)],
    )


def _answers_chart(series: Series) -> Chart:
    """The share of right answers, and that of the questions alone as a rule."""
    sides = [run.answers for run in series.runs if run.answers is not None]
    alone = next((side.against.alone_match for side in sides if side.against), None)
    rules = [] if alone is None else [Rule("asked alone", 100 * alone)]

    def of_level(level: Level) -> Repeated | None:
        known = [run.answers for run in level.figures_of if run.answers and run.answers.n]
        right, n = sum(side.right for side in known), sum(side.n for side in known)
        if not n:
            return None
        low, high = interval(right, n)
        values = tuple(100 * side.right / side.n for side in known)
        return Repeated(values, 100 * right / n, Interval(100 * low, 100 * high))

    def of_run(run: RunSummary) -> float | None:
        return 100 * run.answers.match if run.answers and run.answers.match is not None else None

    lines = list(level_lines(series.levels, "exact match", PLACES[50.0], of_level, of_run))
    return Chart(
        title="Exact match against load",
        doc="answers that are the set's, of those that came whole (docs/QUALITY.md)",
        note="Lost answers are judged in pairs: see the verdict",
        x=levels_axis(series.levels),
        panels=[Panel(y=Axis(words="right answers (%)", unit="%"), lines=lines, rules=rules)],
    )


def throughput_lines(levels: Sequence[Level], name: str, place: int) -> Iterator[Line]:
    """Return the lines of output tokens/s."""
    rate = output_tokens_per_s
    return level_lines(levels, name, place, lambda level: level.over_repeats(rate), rate)


def level_lines(
    levels: Sequence[Level],
    name: str,
    place: int,
    of_level: Callable[[Level], Repeated | None],
    of_run: Figure,
) -> Iterator[Line]:
    """Return a line through the levels, a dot per repeat, a hollow mark per run that is no part.

    The line has a gap at a level whose runs are INVALID or disagree.
    """
    look: dict[str, Any] = {"place": place, "colour": series_colour(place)}
    found = [(level, of_level(level)) for level in levels]
    points = [(level, over) for level, over in found if over or not level.figures_of]
    if any(over for _, over in points):
        intervals = [over.interval if over else None for _, over in points]
        yield Line(
            name=name,
            x=np.array([level.load.value for level, _ in points]),
            y=np.array([over.centre if over else np.nan for _, over in points]),
            low=np.array([i.low if i else np.nan for i in intervals]),
            high=np.array([i.high if i else np.nan for i in intervals]),
            words=[_words(level, i) for (level, _), i in zip(points, intervals, strict=True)],
            **look,
        )
    group = {**look, "group": name}
    repeats = [run for level in levels if len(level.figures_of) > 1 for run in level.figures_of]
    one = {"name": f"one run's {name}", "role": "repeats", "legend": None}
    yield from _marks(repeats, of_run, **one, **group)
    others = [run for level in levels for run in level.runs if run not in level.figures_of]
    yield from _marks(others, of_run, name=NO_PART, role="hollow", **group)


def _marks(runs: Sequence[RunSummary], figure: Figure, **look: Any) -> Iterator[Line]:
    """Return a mark for each of these runs that has the figure, in no line."""
    known = [(run.load.value, value) for run in runs if (value := figure(run)) is not None]
    if known:
        x, y = np.array(known).T
        yield Line(x=x, y=y, **look)


def _words(level: Level, interval: Interval | None) -> str:
    """Describe a level's point: its interval, and whether to doubt it."""
    found = []
    if interval is not None:
        runs = counted(len(level.figures_of), "run")
        upper = f"to {interval.high:,.4g}" if interval.bounded else "without an upper bound"
        found.append(f"{interval.low:,.4g} {upper}: 95 %, of {runs}")
    if level.verdict != "VALID":
        found.append(f"{level.verdict}: see the verdict")
    return "\n".join(found)


def levels_axis(levels: Sequence[Level]) -> Axis:
    """Return the axis of load, one tick per level, marked where the level is not VALID."""
    load, used = levels[0].load, {level.verdict for level in levels}
    marks = "".join(f"   {mark} {verdict}" for verdict, mark in MARKS.items() if verdict in used)
    return Axis(
        words=load.axis_words,
        key=marks,
        unit=load.unit,
        ticks=[
            (lv.load.value, f"{_in_lines(lv.load)}\n{MARKS.get(lv.verdict, '')}".rstrip())
            for lv in levels
        ],
        log=log_loads(np.array([level.load.value for level in levels])),
    )


def _in_lines(load: Load) -> str:
    """Return a level's number, the speed of a trace under it: beside it there is no room."""
    return load.number.replace(" (", "\n(")


def _how_to_read(series: Series) -> str:
    bars = "Bars: 95 % intervals; with an arrow: no upper bound"
    parts = [bars, "Hollow mark: INVALID, or its runs disagree: no part of a line"]
    if any(len(level.figures_of) > 1 for level in series.levels):
        parts = ["Line: of the rows of all a level's runs; small dots: each run", *parts]
    hits = hit_rates(series)
    return ". ".join([*parts, *([hits] if hits else [])])


def objectives_of(series: Series) -> tuple[Objective | RateObjective, ...]:
    """Return the objectives of any of the runs, each once."""
    found = (run.attainment.outcomes for run in series.runs if run.attainment)
    return tuple(dict.fromkeys(outcome.objective for outcomes in found for outcome in outcomes))


def calibration_chart(rows: Sequence[Calibration]) -> Chart:
    """Return the client's own error against the number of streams: of TTFT, and of a token."""
    return Chart(
        title="The client's own error",
        doc="against the simulator's own record",
        x=Axis(
            words="concurrent streams",
            unit="streams",
            ticks=[(row.streams, str(row.streams)) for row in rows],
            log=log_loads(np.array([row.streams for row in rows])),
        ),
        panels=[
            Panel(
                y=Axis(words=f"{what}\nerror (ms)", unit="ms"),
                lines=[_error_line(rows, *part, place) for place, part in enumerate(parts, first)],
            )
            for what, parts, first in (("TTFT", TTFT_ERRORS, 0), ("a token's stamp", STAMPS, 2))
        ],
    )


def _error_line(rows: Sequence[Calibration], name: str, field: str, place: int) -> Line:
    known = [(row.streams, value) for row in rows if (value := getattr(row, field)) is not None]
    x, y = np.array(known, dtype="float64").reshape(-1, 2).T
    return Line(name=name, x=x, y=y, place=place, colour=series_colour(place))
