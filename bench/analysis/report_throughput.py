"""Throughput for the report: against load with its knee, and against what a user gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .knee import Knee, find_knee, output_tokens_per_s
from .levels import Figure, Level, Series
from .pareto import per_user
from .report_load import Point, each_run, level_line, levels_axis
from .report_look import axis
from .report_text import rounded
from .summary import RunSummary


def throughput_chart(series: Series) -> dict[str, Any] | None:
    """Return output tokens a second against load; None where no level has a rate."""
    found = _figure_points(series.levels, output_tokens_per_s)
    if not found:
        return None
    unit = "tokens/s"
    traces = [
        level_line(found, "output tokens/s", "@c3", "circle", unit),
        *each_run(series, output_tokens_per_s, "output tokens/s", unit),
    ]
    knee = find_knee(series.levels)
    layout = {
        "xaxis": levels_axis(series),
        "yaxis": {**axis("output tokens/s"), "rangemode": "tozero", "tickformat": ",~r"},
    }
    if knee is not None:
        traces.append(_knee_line(knee, max(p.value for p in found)))
    return {
        "title": "Throughput against load",
        "doc": "generated tokens a second in the steady window, of requests that succeeded",
        "note": knee.words.capitalize() + "." if knee else "It rose up to the highest level tried.",
        "data": traces,
        "layout": layout,
    }


def _figure_points(levels: Sequence[Level], figure: Figure) -> list[Point]:
    found = []
    for level in levels:
        over = level.over_repeats(figure)
        if over is not None:
            basis = f"95 % over {len(level.runs)} runs"
            found.append(Point(level.load.value, over.centre, over.interval, basis, level.verdict))
    return found


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
    by_gpu = all(level.centre(_by_gpu) is not None for level in series.levels)
    figure, whose = (_by_gpu, "per GPU") if by_gpu else (output_tokens_per_s, "of the server")
    found = [
        (level, user, rate)
        for level in series.levels
        if (user := level.centre(per_user)) and (rate := level.centre(figure))
    ]
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


def _by_gpu(run: RunSummary) -> float | None:
    return run.cost.output_tokens_per_s_per_gpu


def _pareto_line(found: Sequence[tuple[Level, float, float]], whose: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers+text",
        "showlegend": False,
        "x": rounded(user for _, user, _ in found),
        "y": rounded(rate for _, _, rate in found),
        "text": [f"{level.load.value:g}" for level, _, _ in found],
        "textposition": "top right",
        "cliponaxis": False,
        "line": {"color": "@c4", "width": 2},
        "marker": {
            "color": "@c4",
            "size": 9,
            "symbol": ["circle" + "-open" * (v.verdict != "VALID") for v, _, _ in found],
        },
        "hovertext": [level.load.words for level, _, _ in found],
        "hovertemplate": "%{hovertext}<br>%{x:,.4~g} tokens/s each user<br>"
        f"%{{y:,.4~g}} tokens/s {whose}<extra></extra>",
    }
