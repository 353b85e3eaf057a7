"""Draws a chart for the report's page, as plotly's JSON.

Colours are names, `@…`, of variables in the page's style: the page puts the theme's colour in
their place, and another one when the theme changes.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..records.text import printable
from ..stats.batches import Values
from .chart import CROSSES, DASHES, MANY, MARKS, Axis, Band, Chart, Line, Panel, Rule, few_decades

DIGITS = 5  # more is never visible, and a page of ten runs has to stay small
NUMBER = f":,.{DIGITS}~g"
MOST_TEXT, MOST_HOVER = 200, 300  # characters of a name, and of a line of a hover label
LINE_LENGTH = 60  # of a hover label, which plotly doesn't fold
PANEL_PX, MARGIN_PX = 118, 90  # of a panel with its gap; of the axis and the legend
SIDES = {
    "right": "top right",
    "left": "middle left",
    "above": "top center",
    "below": "bottom center",
}
GAP_PX = 21
ROW_PX, CHARACTER_PX = 34, 6.4  # of a row with words beside it, and of a character of these
MARGIN = 0.01  # of the x axis, added on both sides: marks at the ends stay complete


def for_page(chart: Chart) -> dict[str, Any]:
    """Return a chart as plotly and the report's template want it."""
    count = len(chart.panels)
    layout: dict[str, Any] = {
        "xaxis": {**_axis(chart.x, chart.reach), "anchor": _nth("y", count - 1)},
        "shapes": list(_shapes(chart)),
    }
    if chart.x.span:
        low, high = np.log10(chart.x.span) if chart.x.log else chart.x.span
        margin = MARGIN * (high - low)
        layout["xaxis"]["range"] = rounded([low - margin, high + margin])
    rows = max(len(panel.beside) for panel in chart.panels)
    panel_px = max(PANEL_PX, ROW_PX * rows)
    if count > 1 or rows:
        layout["height"] = panel_px * count + MARGIN_PX
    if rows:
        layout |= _words_beside(chart)
    data = []
    for place, panel in enumerate(chart.panels):
        top = 1 - place / count
        bottom = max(0.0, top - (1 - GAP_PX / panel_px) / count) if count > 1 else 0.0
        axis = _axis(panel.y, panel.heights, low=count > 2)
        layout[_nth("yaxis", place)] = {**axis, "domain": [bottom, top]}
        of_panel = {"yaxis": _nth("y", place)}
        if chart.wide:  # its legend stands beside it
            of_panel["legend"] = _nth("legend", place)
            layout[_nth("legend", place)] = {"y": top}
        data += [{**trace, **of_panel} for trace in _traces(chart, panel)]
    _name_once(data)
    return {
        "title": chart.title,
        "doc": chart.doc,
        "note": chart.note and f"{chart.note}.",
        "data": data,
        "layout": layout,
    }


def _words_beside(chart: Chart) -> dict[str, Any]:
    """Return the words right of each panel, and a margin with room for them."""
    lines = [
        (place, at, [chart_text(line) for line in words.split("\n")])
        for place, panel in enumerate(chart.panels)
        for at, words in panel.beside
    ]
    longest = max(len(part) for _, _, parts in lines for part in parts)
    look = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6, "align": "left"}
    look |= {"showarrow": False, "font": {"size": 11}}
    return {
        "margin": {"l": 44, "r": round(CHARACTER_PX * longest) + 10, "t": 8, "b": 40},
        "annotations": [
            {**look, "yref": _nth("y", place), "y": at, "text": "<br>".join(parts)}
            for place, at, parts in lines
        ],
    }


def _nth(kind: str, place: int) -> str:
    return kind if place == 0 else f"{kind}{place + 1}"


def _name_once(traces: Iterable[dict[str, Any]]) -> None:
    """Leave out of the legend what it already has."""
    named = set()
    for trace in traces:
        trace["showlegend"] = trace.get("showlegend", True) and trace["name"] not in named
        if trace["showlegend"]:
            named.add(trace["name"])


# ---- text ----


def chart_text(text: object) -> str:
    """Return untrusted text so that plotly draws it unchanged: no tag, template or formula.

    Plotly turns entities back into characters after it has looked for tags and templates.
    """
    safe = html.escape(printable(text, MOST_TEXT), quote=False)
    for character in "{}$":
        safe = safe.replace(character, f"&#{ord(character)};")
    return safe


def _lines(text: str) -> str:
    return "<br>".join(chart_text(line) for line in text.split("\n"))


def hover_lines(text: str) -> str:
    """Return untrusted text, its lines kept and folded, for a hover label."""
    lines = (
        textwrap.wrap(printable(line, MOST_HOVER), LINE_LENGTH) or [""] for line in text.split("\n")
    )
    return "<br>".join(chart_text(part) for folded in lines for part in folded)


def rounded(values: Iterable[float]) -> list[float | None]:
    """Return values with the digits that a chart can show; NaN and infinity are gaps."""
    return [float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for v in map(float, values)]


# ---- what a panel shows ----


def _traces(chart: Chart, panel: Panel) -> Iterator[dict[str, Any]]:
    yield from (_line(line, chart, panel) for line in panel.lines if line.until is None)
    yield from (_bars(line, line.until) for line in panel.lines if line.until is not None)
    yield from (trace for line in panel.lines for trace in _arrows(line, chart.x))
    yield from (trace for line in panel.lines for trace in _endless(line))
    yield from (_rule(rule, panel) for rule in panel.rules)
    yield from (_throttled(band, panel) for band in panel.bands if band.role == "throttled")


def _scatter(name: str, x: Iterable[float], y: Iterable[float], hover: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": chart_text(name),
        "legendgroup": chart_text(name),
        "x": rounded(x),
        "y": rounded(y),
        "hovertemplate": f"{hover}<extra></extra>",
        "connectgaps": False,
    }


def _line(line: Line, chart: Chart, panel: Panel) -> dict[str, Any]:
    trace = {
        **_scatter(line.label or line.name, line.x, line.y, _hover(line, chart, panel)),
        **_look(line),
        "legendgroup": chart_text(line.group or line.name),
        "showlegend": line.label is not None,
    }
    if line.words:
        trace["hovertext"] = [hover_lines(words) for words in line.words]
    if any(line.labels):
        trace["mode"] += "+text"
        trace |= {"textposition": SIDES[line.side], "cliponaxis": False}
        trace["text"] = [chart_text(label) for label in line.labels]
    if line.low is not None and line.high is not None and not np.isnan(line.low).all():
        trace["error_x" if line.flat else "error_y"] = _interval(line, line.low, line.high)
    return trace


def _interval(line: Line, low: Values, high: Values) -> dict[str, Any]:
    """Return each point's interval; of an end that is infinite an arrow or the words tell."""
    centre = line.x if line.flat else line.y
    up, down = ((high - centre).clip(0), (centre - low).clip(0))
    bars = {"type": "data", "symmetric": False, "thickness": 1.2, "width": 4}
    ends = (np.where(np.isfinite(part), part, 0.0) for part in (up, down))
    array, minus = (rounded(part) for part in ends)
    return {**bars, "array": array, "arrayminus": minus, "color": f"@{line.colour}"}


def _arrows(line: Line, x: Axis) -> Iterator[dict[str, Any]]:
    """Return the arrows of flat intervals, from the point to the edge that they leave by."""
    if not line.flat or line.low is None or line.high is None or x.span is None:
        return
    for edge, ends, symbol in zip(x.span, (line.low, line.high), ("left", "right"), strict=True):
        for at, height in zip(*(part[np.isinf(ends)] for part in (line.x, line.y)), strict=True):
            yield {
                **_scatter(line.name, [at, edge], [height] * 2, ""),
                **{"mode": "lines+markers", "hoverinfo": "skip", "showlegend": False},
                "legendgroup": chart_text(line.group or line.name),
                "line": {"color": f"@{line.colour}", "width": 1.2},
                "marker": {
                    "color": f"@{line.colour}",
                    "symbol": ["circle", f"arrow-{symbol}"],
                    "size": [0, 9],
                    "line": {"width": 0},
                },
            }


def _endless(line: Line) -> Iterator[dict[str, Any]]:
    """Return an arrow over each point of a line whose interval has no upper end."""
    if line.flat or line.high is None or not np.isinf(line.high).any():
        return
    at = np.isinf(line.high)
    yield {
        **_scatter(line.name, line.x[at], line.y[at], ""),
        **{"mode": "text", "hoverinfo": "skip", "showlegend": False, "cliponaxis": False},
        **{"text": ["\N{UPWARDS ARROW}"] * int(at.sum()), "textposition": "top center"},
        "legendgroup": chart_text(line.group or line.name),
        "textfont": {"color": f"@{line.colour}", "size": 16},
    }


def _bars(line: Line, until: Values) -> dict[str, Any]:
    """Return horizontal bars, behind the lines."""
    return {
        **{"type": "bar", "orientation": "h", "name": chart_text(line.label or line.name)},
        **{"legendgroup": chart_text(line.group or line.name), "hoverinfo": "skip"},
        **{"base": rounded(line.x), "x": rounded(until - line.x), "y": rounded(line.y)},
        **{"width": 0.8, "marker": {"color": f"@{line.colour}", "line": {"width": 0}}},
        "showlegend": line.label is not None,
    }


def _hover(line: Line, chart: Chart, panel: Panel) -> str:
    """Return a point's text on hovering: the line's own, or everything known."""
    plain = f"{{name}}: {{y}} {panel.y.unit}\nat {{x}} {chart.x.unit}"
    if line.words:
        plain += "\n{words}"
    parts = {"x": f"%{{x{NUMBER}}}", "y": f"%{{y{NUMBER}}}", "words": "%{hovertext}"}
    found = (line.hover or plain).format(name=hover_lines(line.name), **parts)
    return found.replace("\n", "<br>")


def _look(line: Line) -> dict[str, Any]:
    """Return how plotly draws a line of this role, place and colour."""
    colour, mark = f"@{line.colour}", MARKS[line.place % len(MARKS)][1]
    dash = DASHES[line.place % len(DASHES)][1]
    joined = {"color": colour, "width": 1.6, "dash": dash}
    steps = {"mode": "lines", "line": {**joined, "shape": "hv"}}
    marker: dict[str, Any] = {"color": colour, "size": 8, "symbol": mark}
    cross = {"symbol": CROSSES[line.place % len(CROSSES)][1], "line": {"color": colour, "width": 2}}
    roles: dict[str, dict[str, Any]] = {
        "marked": {"mode": "lines+markers", "line": {**joined, "width": 2}, "marker": marker},
        "line": {"mode": "lines", "line": joined},
        "steps": steps,
        "thin": {"mode": "lines", "line": {**joined, "width": 1, "shape": "hv"}},
        "samples": {"mode": "lines", "line": joined},
        "points": {"mode": "markers", "marker": marker},
        "drops": {"mode": "markers", "marker": marker},
        "dots": {"mode": "markers", "marker": {"color": colour, "size": 4, "opacity": 0.55}},
        "repeats": {"mode": "markers", "marker": {**marker, "size": 5, "opacity": 0.5}},
        "hollow": {"mode": "markers", "marker": {**marker, "symbol": f"{mark}-open"}},
        "crosses": {"mode": "markers", "marker": {**marker, **cross}},
    }
    return dict(roles[line.role])


def _rule(rule: Rule, panel: Panel) -> dict[str, Any]:
    """Return a straight line over the reach of the panel's lines."""
    across = np.concatenate([line.x for line in panel.lines])
    x, y = [across.min(), across.max()], [rule.at, rule.at]
    if rule.upright:
        x, y = y, [0.0, panel.heights.max()]
    line = {"color": "@quiet" if rule.upright else "@error", "width": 1.5, "dash": "dash"}
    words = hover_lines(rule.words or rule.name)
    return {**_scatter(rule.name, x, y, words), "mode": "lines", "line": line}


def _throttled(band: Band, panel: Panel) -> dict[str, Any]:
    """Return a bar along the panel's top for each part."""
    x = [at for begin, end in band.spans for at in (begin, end, math.nan)]
    top = 1.08 * panel.heights.max()  # clear of the lines
    words = f"{hover_lines(band.name)}<br>at %{{x{NUMBER}}} s"
    return {
        **_scatter(band.name, x, [top] * len(x), words),
        "mode": "lines+markers",
        "line": {"color": "@error", "width": 4},
        "marker": {"color": "@error", "size": 5, "symbol": "diamond"},
    }


def _shapes(chart: Chart) -> Iterator[dict[str, Any]]:
    """Return the backgrounds of all panels, each kind once in the legend."""
    named = set()
    for band in (band for band in chart.panels[0].bands if band.role in ("window", "aside")):
        for begin, end in band.spans:
            x0, x1 = rounded([begin, end])
            yield {
                "type": "rect",
                "layer": "below",
                "yref": "paper",
                **{"x0": x0, "x1": x1, "y0": 0, "y1": 1, "line": {"width": 0}},
                "fillcolor": f"@{band.role}",
                **{"name": band.name, "legendgroup": band.name},
                "showlegend": band.name not in named,
            }
            named.add(band.name)


# ---- axes ----


def _axis(axis: Axis, values: Values, *, low: bool = False) -> dict[str, Any]:
    """Return an axis; the page adds what the theme says."""
    found: dict[str, Any] = {
        "title": {"text": _lines(axis.words)},
        "automargin": True,
        "tickformat": ",~r",
    }
    if axis.ticks:
        found["tickvals"] = [at for at, _ in axis.ticks]
        found["ticktext"] = [_lines(label) for _, label in axis.ticks]
    if axis.span:
        found["range"] = list(axis.span)
    if axis.log:
        found["type"] = "log"
        found["title"]["text"] += ", log scale"
        if not axis.ticks:  # at 1, 2 and 5 of each decade, or where they would be too many at 1
            found["dtick"] = "D2" if few_decades(values, MANY) else 1
    elif not axis.ticks and not axis.span:
        found["rangemode"] = "tozero"
    found["title"]["text"] += axis.key
    if low:
        found["nticks"] = 4
    return found
