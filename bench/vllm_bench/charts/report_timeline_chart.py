"""The timeline's chart: panels over each other on one axis of time, the window shaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..figures.metrics import FROM_SCHEDULE, TITLES
from .pen_plotly import axis, level_look, times_scale
from .report_text import chart_text, hover_lines, rounded
from .timeline import Timeline
from .tracks import Dots, Failure, Held, Panel, Track

PANEL_PX, MARGIN_PX = 118, 90  # of a panel with its gap; of the axis and the legend
WORDS_PX = 18  # of a line of words
GAP = 0.18  # of a panel's height
BESIDE = 0.01  # of the time shown, on either side: half a mark at the end is no mark
COLOURS = {
    "arrivals": ("@c0", "@c2"),
    "in_flight": ("@c0", "@c2", "@c1"),
    "tokens": ("@c3",),
    "kv": ("@c4",),
}
UNITS = {
    "arrivals": "/s",
    "in_flight": "",
    "tokens": " tokens/s",
    "kv": " %",
    "utilization": " %",
    "power": " W",
    "temperature": " °C",
}


def timeline_chart(found: Timeline) -> dict[str, Any]:
    """Return a run's timeline; a panel without anything to draw is left out."""
    gpus = 1 + max((t.place or 0 for p in found.panels for t in p.tracks), default=0)
    drawn = [(panel, traces) for panel in found.panels if (traces := list(_traces(panel, gpus)))]
    share = 1 / max(len(drawn), 1)
    layout: dict[str, Any] = {
        "height": PANEL_PX * len(drawn) + MARGIN_PX,
        "legend": {"y": 1 + share * WORDS_PX / PANEL_PX},  # above the window's name
        "xaxis": {**_time_axis(found), "anchor": _name("y", len(drawn) - 1)},
        **_window(found),
    }
    data, named = [], set()
    for place, (panel, traces) in enumerate(drawn):
        top = 1 - place * share
        domain = [max(0.0, top - share * (1 - GAP)), top]
        layout[_name("yaxis", place)] = {**_value_axis(panel), "domain": domain, "nticks": 4}
        for trace in traces:
            shown = trace["name"] not in named  # else a panel further up has it in the legend
            data.append({**trace, "yaxis": _name("y", place), "showlegend": shown})
            named.add(trace["name"])
    return {"data": data, "layout": layout, "note": _note(found)}


def _name(kind: str, place: int) -> str:
    return kind if place == 0 else f"{kind}{place + 1}"


def _time_axis(found: Timeline) -> dict[str, Any]:
    first, last = found.shown
    beside = BESIDE * (last - first)
    return {
        **axis("seconds from the run's start"),
        "range": rounded([first - beside, last + beside]),
    }


def _value_axis(panel: Panel) -> dict[str, Any]:
    title = axis(panel.label.replace("\n", "<br>"))
    if panel.dots is not None:
        values = panel.dots.values
        return {**title, **(times_scale([values.min(), values.max()]) if values.size else {})}
    return {**title, "rangemode": "tozero", "tickformat": ",~r"}


def _traces(panel: Panel, gpus: int) -> Iterator[dict[str, Any]]:
    for place, track in enumerate(panel.tracks):
        yield _line(track, _colour(panel, place, gpus), UNITS[panel.key])
        if track.lost:
            yield _lost(track)
    if panel.dots is not None and panel.dots.times.size:
        yield _dots(panel.dots)
    if panel.dots is not None and panel.dots.first_failures:
        yield _failures(panel.dots)
    top = max((float(np.nanmax(t.values)) for t in panel.tracks), default=0.0)
    for held in panel.held:
        yield _held(held, 1.08 * top)  # clear of the line


def _colour(panel: Panel, place: int, gpus: int) -> str:
    """Return a line's colour: a GPU's is the same in all panels."""
    colours, gpu = COLOURS.get(panel.key, ()), panel.tracks[place].place
    if gpu is not None:
        return level_look(gpu, gpus)["color"]
    several = len(panel.tracks)
    return colours[place] if several <= len(colours) else level_look(place, several)["color"]


def _line(track: Track, colour: str, unit: str) -> dict[str, Any]:
    name = track.name.replace("\n", " ")
    return {
        **_marks(name, track.times, track.values),
        "mode": "lines",
        "line": {"color": colour, "width": 1.6, "shape": "hv" if track.steps else "linear"},
        "hovertemplate": f"{name} %{{y:,.4~g}}{unit}<br>at %{{x:.2f}} s<extra></extra>",
    }


def _lost(track: Track) -> dict[str, Any]:
    return {
        **_marks("no more readings", track.times[-1:], track.values[-1:]),
        "marker": {"color": "@bad", "size": 5, "symbol": "x"},
        "hovertemplate": f"{track.name}: no more readings from %{{x:.2f}} s on<extra></extra>",
    }


def _held(held: Held, top: float) -> dict[str, Any]:
    """Return a bar along the panel's top for each stretch in which a GPU's clocks were held."""
    times = [t for begin, end in held.spans for t in (begin, end, float("nan"))]
    return {
        **_marks("throttled", times, [top] * len(times)),
        "mode": "lines+markers",
        "line": {"color": "@bad", "width": 4},
        "marker": {"color": "@bad", "size": 5, "symbol": "diamond"},
        "hovertemplate": f"{held.gpu}: clocks held down ({chart_text(held.why)})<br>"
        "at %{x:.2f} s<extra></extra>",
    }


def _dots(dots: Dots) -> dict[str, Any]:
    title = TITLES[dots.metric]
    since = "due" if dots.metric in FROM_SCHEDULE.values() else "sent"
    return {
        **_marks(title, dots.times, dots.values),
        "marker": {"color": "@c0", "size": 4, "opacity": 0.55},
        "customdata": dots.requests.tolist(),
        "hovertemplate": f"request %{{customdata}}<br>{since} at %{{x:.2f}} s<br>"
        f"{title} %{{y:,.4~g}} ms<extra></extra>",
    }


def _failures(dots: Dots) -> dict[str, Any]:
    """Return the failures as crosses at the panel's top: they have no TTFT to stand at."""
    told = dots.first_failures
    top = float(dots.values.max()) if dots.values.size else 1.0
    cross = {"color": "@bad", "size": 9, "symbol": "x-thin", "line": {"color": "@bad", "width": 2}}
    return {
        **_marks("failed", [failure.at_s for failure in told], [top] * len(told)),
        "marker": cross,
        "hovertext": [_failure_words(failure) for failure in told],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _marks(name: str, times: Iterable[float], values: Iterable[float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "x": rounded(times),
        "y": rounded(values),
    }


def _failure_words(failure: Failure) -> str:
    return (
        f"request {failure.request_index}, begun at {failure.at_s:.2f} s, failed at "
        f"{failure.end_s:.2f} s: {chart_text(failure.kind)}<br>{hover_lines(failure.words)}"
    )


def _window(found: Timeline) -> dict[str, Any]:
    """Return the shade behind the steady window, and its name."""
    if found.window is None:
        return {}
    start, end = rounded([found.window.start_s, found.window.end_s])
    box = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    name = {"xref": "x", "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    return {
        "shapes": [{**box, "x0": start, "x1": end, "fillcolor": "@shade", "line": {"width": 0}}],
        "annotations": [{**name, "x": start, "xanchor": "left", "text": "steady window"}],
    }


def _note(found: Timeline) -> str:
    """Say what the picture leaves out."""
    said = [found.note] if found.note else []
    for dots in (panel.dots for panel in found.panels if panel.dots):
        told, failed = len(dots.first_failures), sum(t.size for t in dots.failures.values())
        if failed > told:
            said.append(f"The first {told} of {failed:,} failures are marked")
    if found.window is None:
        said.append("The load was never held, so there is no steady window")
    return "".join(f"{sentence}. " for sentence in said).strip()
