"""Throughput for the report: against load with its knee, and against what a user gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..summary.levels import Series
from ..summary.pareto import ParetoPoint, gpu_count, pareto_points
from ..summary.stability import Knee, find_knee, output_tokens_per_s
from .against_load import load_line
from .pen_plotly import axis
from .report_load import levels_axis, line_traces
from .report_text import rounded


def throughput_chart(series: Series) -> dict[str, Any] | None:
    """Return output tokens a second against load; None where no level has a rate."""
    line = load_line(series.levels, output_tokens_per_s)
    if not line.points:
        return None
    traces = list(line_traces(line, "output tokens/s", "tokens/s", ("@c3", "circle")))
    knee = find_knee(series.levels)
    layout = {
        "xaxis": levels_axis(series),
        "yaxis": {**axis("output tokens/s"), "rangemode": "tozero", "tickformat": ",~r"},
    }
    if knee is not None:
        traces.append(_knee_line(knee, max(p.centre for p in line.points)))
    return {
        "title": "Throughput against load",
        "doc": "generated tokens a second in the steady window, of requests that succeeded",
        "note": knee.words.capitalize() + "." if knee else "It rose up to the highest level tried.",
        "data": traces,
        "layout": layout,
    }


def _knee_line(knee: Knee, top: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"knee: {knee.load.words}",
        "x": [knee.load.value] * 2,
        "y": [0, rounded([top])[0]],
        "line": {"color": "@muted", "width": 1.5, "dash": "dot"},
        "hovertemplate": f"{knee.words}<extra></extra>",
    }


def pareto_chart(series: Series) -> dict[str, Any] | None:
    """Return the server's rate over a user's, by GPU where it is known how many there are."""
    found = pareto_points(series)
    whose = "of the server" if gpu_count(series.runs) is None else "per GPU"
    if len(found) < 2:
        return None
    return {
        "title": "What a user gets, what the server gives",
        "doc": f"output tokens/s {whose} over tokens/s of the median request (1000 / TPOT p50): "
        "up and to the right is better, and load moves a server along the line",
        "note": "Each point is a level of load. Hollow mark: not VALID.",
        "data": [_pareto_line(found, whose)],
        "layout": {
            "xaxis": {**axis("tokens/s each user (median)"), "rangemode": "tozero"},
            "yaxis": {
                **axis(f"output tokens/s {whose}"),
                "rangemode": "tozero",
                "tickformat": ",",
            },
        },
    }


def _pareto_line(found: Sequence[ParetoPoint], whose: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers+text",
        "showlegend": False,
        "x": rounded(p.per_user for p in found),
        "y": rounded(p.per_gpu for p in found),
        "text": [p.load.number for p in found],
        "textposition": "top right",
        "cliponaxis": False,
        "line": {"color": "@c4", "width": 2},
        "marker": {
            "color": "@c4",
            "size": 9,
            "symbol": ["circle" + "-open" * (p.verdict != "VALID") for p in found],
        },
        "hovertext": [p.load.words for p in found],
        "hovertemplate": "%{hovertext}<br>%{x:,.4~g} tokens/s each user<br>"
        f"%{{y:,.4~g}} tokens/s {whose}<extra></extra>",
    }
