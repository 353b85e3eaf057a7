"""Distributions for the report: a chart a metric, a curve a run, its percentiles marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..figures.metrics import DOCS, TITLES, headline_metric
from ..summary.summary import RunSummary
from .distributions import COUNTED, DRAWN, Curve
from .pen_plotly import axis, level_look, run_names, times_scale
from .report_text import capital, rounded

MARKED = (50.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve of a run, how it looks, and whether the legend names it (a level's first does)."""

    summary: RunSummary
    curve: Curve
    look: dict[str, str]
    words: str
    named: bool


def curve_charts(runs: Sequence[tuple[RunSummary, Mapping[str, Curve]]]) -> list[dict[str, Any]]:
    """Return a chart a metric, a trace a run; a metric that no run has is left out."""
    levels = sorted({summary.load for summary, _ in runs})
    charts = []
    load = runs[0][0].load
    for metric in (headline_metric(name, load) for name in DRAWN):
        drawn: list[Drawn] = []
        having = [(summary, c[metric]) for summary, c in runs if metric in c]
        names = run_names([summary for summary, _ in having])
        for (summary, curve), name in zip(having, names, strict=True):
            look = level_look(levels.index(summary.load), len(levels))
            doubt = "" if summary.verdict.level == "VALID" else f" · {summary.verdict.level}"
            named = all(one.summary.load != summary.load for one in drawn)
            drawn.append(Drawn(summary, curve, look, name + doubt, named))
        if drawn:
            charts.append(_chart(metric, drawn))
    return charts


def _traces(metric: str, drawn: Drawn) -> Iterable[dict[str, Any]]:
    """Return a run's curve from 0 % on, and the marks of its percentiles."""
    level, curve = drawn.summary.load.words, drawn.curve
    common = {"type": "scatter", "legendgroup": level, "name": level}
    yield {
        **common,
        "x": rounded([curve.values[0], *curve.values]),
        "y": rounded([0, *curve.shares]),
        "mode": "lines",
        "line": {**drawn.look, "shape": "hv", "width": 2},
        "showlegend": drawn.named,
        "hovertemplate": f"{drawn.words}<br>%{{y:.2f}} % of {COUNTED.get(metric, 'requests')} "
        "≤ %{x:,.4~g} ms<extra></extra>",
    }
    marks = [(q, v) for q in MARKED if (v := drawn.summary.percentile(metric, q)) is not None]
    if marks:
        marker = {"color": drawn.look["color"], "size": 8, "line": {"width": 1, "color": "@card"}}
        yield {
            **common,
            "x": rounded(v for _, v in marks),
            "y": [q for q, _ in marks],
            "mode": "markers",
            "marker": marker,
            "showlegend": False,
            "hovertemplate": f"{drawn.words}<br>p%{{y}} = %{{x:,.4~g}} ms<extra></extra>",
        }


def _chart(metric: str, drawn: Sequence[Drawn]) -> dict[str, Any]:
    curves = [one.curve for one in drawn]
    values = [float(c.values[place]) for c in curves for place in (0, -1)]
    return {
        "title": f"{capital(TITLES[metric])} distribution",
        "doc": DOCS[metric],
        "note": _note(curves),
        "group": "levels",
        "data": [trace for one in drawn for trace in _traces(metric, one)],
        "layout": {
            "xaxis": {**axis(f"{TITLES[metric]} (ms)"), **times_scale(values)},
            "yaxis": {
                **axis(f"% of {COUNTED.get(metric, 'requests')}"),
                "range": [0, 102],
                "tickvals": [0, 25, 50, 75, 95],
            },
        },
    }


def _note(curves: Sequence[Curve]) -> str:
    marks = "Marks: p50, p95, p99, where there are samples enough."
    if all(curve.of == len(curve.values) for curve in curves):
        return marks
    most = max(curve.of for curve in curves)
    return (
        f"{marks} Drawn with fewer points than the {most:,} there are at most; each is a measured "
        "value, smallest and largest are kept."
    )
