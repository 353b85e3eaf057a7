"""A scenario's levels for the report: TTFT, TPOT and latency against load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..figures.metrics import DOCS, TITLES
from ..figures.objectives import Objective
from ..figures.statistics import Interval
from ..summary.levels import Series
from .against_load import LoadLine, LoadPoint, Times, times_against_load
from .pen_plotly import P_LOOKS, axis, load_axis, times_scale
from .report_text import capital, rounded

PERCENTILES = (50.0, 95.0, 99.0)
WITHIN = "95 % within the run (optimistic: requests wait for each other)"


def times_charts(series: Series) -> list[dict[str, Any]]:
    """Return a chart against load for each of the times that a level has."""
    charts = (_times_chart(series, times) for times in times_against_load(series, PERCENTILES))
    return [chart for chart in charts if chart]


def _times_chart(series: Series, times: Times) -> dict[str, Any] | None:
    values = [p.centre for line in times.lines.values() for p in line.points]
    if not values:
        return None
    traces: list[dict[str, Any]] = []
    for percentile, line in times.lines.items():
        if line.points:
            traces += line_traces(line, f"p{percentile:g}", "ms", P_LOOKS[percentile])
    traces += [_limit_line(series, limit) for limit in times.limits]
    values += [o.limit_ms for o in times.limits if o.limit_ms is not None]
    return {
        "title": f"{capital(TITLES[times.metric])} against load",
        "doc": DOCS[times.metric],
        "note": _interval_note(series),
        "data": traces,
        "layout": {
            "xaxis": levels_axis(series),
            "yaxis": {**axis(f"{TITLES[times.metric]} (ms)"), **times_scale(values)},
        },
    }


def line_traces(
    line: LoadLine, name: str, unit: str, look: tuple[str, str]
) -> Iterator[dict[str, Any]]:
    """Return a line through its points, and a ring for each of the runs that they repeat."""
    yield _level_line(line.points, name, unit, look)
    if line.runs:
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "legendgroup": name,
            "showlegend": False,
            "x": [at for at, _ in line.runs],
            "y": rounded(value for _, value in line.runs),
            "marker": {"color": "@muted", "size": 5, "symbol": "circle-open"},
            "hovertemplate": f"one run's {name} at %{{x}}: %{{y:,.4~g}} {unit}<extra></extra>",
        }


def _level_line(
    points: Sequence[LoadPoint], name: str, unit: str, look: tuple[str, str]
) -> dict[str, Any]:
    """Return the line itself; a level that isn't VALID has a hollow mark."""
    colour, symbol = look
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "x": [p.load for p in points],
        "y": rounded(p.centre for p in points),
        "line": {"color": colour, "width": 2},
        "marker": {
            "color": colour,
            "size": 8,
            "symbol": [symbol + "-open" * (p.level.verdict != "VALID") for p in points],
        },
        "customdata": [[_interval_words(p, unit), _doubt(p)] for p in points],
        "hovertemplate": f"{name} at %{{x}}: <b>%{{y:,.4~g}} {unit}</b>%{{customdata[0]}}"
        "%{customdata[1]}<extra></extra>",
    }
    if any(p.interval for p in points):
        ends = [(p.centre, p.interval or Interval(p.centre, p.centre)) for p in points]
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": rounded(max(0.0, i.high - v) for v, i in ends),
            "arrayminus": rounded(max(0.0, v - i.low) for v, i in ends),
            "color": colour,
            "thickness": 1.2,
            "width": 4,
        }
    return trace


def _interval_words(point: LoadPoint, unit: str) -> str:
    if point.interval is None:
        return ""
    low, high = (f"{x:,.4g}" for x in (point.interval.low, point.interval.high))
    basis = f"95 % over {len(point.level.runs)} runs" if point.over_repeats else WITHIN
    return f"<br>{low} to {high} {unit}, {basis}"


def _doubt(point: LoadPoint) -> str:
    verdict = point.level.verdict
    return "" if verdict == "VALID" else f"<br>{verdict}: see the verdict"


def _limit_line(series: Series, objective: Objective) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"objective: {objective.words}",
        "x": [level.load.value for level in series.levels],
        "y": [objective.limit_ms] * len(series.levels),
        "line": {"color": "@bad", "width": 1.5, "dash": "dash"},
        "hovertemplate": f"objective: {objective.words}<extra></extra>",
    }


def _interval_note(series: Series) -> str:
    repeated = any(len(level.runs) > 1 for level in series.levels)
    return (
        "Line: geometric mean of a level's runs; bars: 95 % over them, from three on; small rings: "
        "each run. Hollow mark: not VALID."
        if repeated
        else "Bars: 95 % within the run, optimistic near saturation. Hollow mark: not VALID."
    )


def levels_axis(series: Series) -> dict[str, Any]:
    """Return the axis of a scenario's levels."""
    labels = {level.load.value: level.load.number for level in series.levels}
    return load_axis(labels, series.levels[0].load.axis_words)
