"""The timeline's chart: panels over each other on one axis of time, the window shaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .metrics import TITLES
from .report_look import axis, level_look, times_scale
from .report_text import chart_text, hover_lines, rounded
from .report_timeline import Failure, Timeline, Track

PANEL_PX, MARGIN_PX = 118, 90  # of a panel with its gap; of the axis and the legend
WORDS_PX = 18  # of a line of words
GAP = 0.18  # of a panel's height
SENSORS = {
    "utilization_percent": ("GPU %", "%"),
    "power_w": ("power (W)", "W"),
    "temperature_c": ("temp. (°C)", "°C"),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One row of the timeline: its axis' title and what is drawn in it."""

    title: str
    traces: Sequence[dict[str, Any]]
    scale: dict[str, Any] = field(
        default_factory=lambda: {"rangemode": "tozero", "tickformat": ",~r"}
    )


def timeline_chart(found: Timeline) -> dict[str, Any]:
    """Return a run's timeline; panels that nobody measured are left out."""
    panels = [panel for panel in _panels(found) if panel.traces]
    layout: dict[str, Any] = {
        "height": PANEL_PX * len(panels) + MARGIN_PX,
        # Above the window's name.
        "legend": {"y": 1 + WORDS_PX / (PANEL_PX * max(len(panels), 1))},
        "xaxis": {**axis("seconds from the run's start"), "anchor": _name("y", len(panels) - 1)},
        **_window(found),
    }
    share = 1 / max(len(panels), 1)
    traces = []
    for place, panel in enumerate(panels):
        top = 1 - place * share
        layout[_name("yaxis", place)] = {
            **axis(panel.title),
            **panel.scale,
            "domain": [max(0.0, top - share * (1 - GAP)), top],
            "nticks": 4,
        }
        traces += [{**trace, "yaxis": _name("y", place)} for trace in panel.traces]
    return {"data": traces, "layout": layout, "note": _note(found)}


def _name(kind: str, place: int) -> str:
    return kind if place == 0 else f"{kind}{place + 1}"


def _panels(found: Timeline) -> list[Panel]:
    title = TITLES[found.dots_metric].partition(" from")[0]
    dots = [p for p in (_dots(found), _failures(found)) if p]
    values = found.dots.values if found.dots else None
    return [
        Panel("requests/s", _lines(((found.arrivals, "@c0"), (found.ended, "@c2")), "/s", "hvh")),
        Panel(
            "requests",
            _lines(
                ((found.in_flight, "@c0"), (found.running, "@c2"), (found.waiting, "@c1")), "", "hv"
            ),
        ),
        Panel(f"{title} (ms)", dots, {} if values is None else times_scale(list(values))),
        Panel("tokens/s", _lines(((found.output_tokens, "@c3"),), " tokens/s", "hvh")),
        Panel("KV cache %", _lines(((found.kv_percent, "@c4"),), " %", "hv")),
        *(
            Panel(title, [*_gpus(found, key, unit), *_throttled(found, key)])
            for key, (title, unit) in SENSORS.items()
        ),
    ]


def _lines(
    tracks: Sequence[tuple[Track | None, str]], unit: str, shape: str
) -> list[dict[str, Any]]:
    return [_line(track, colour, unit, shape) for track, colour in tracks if track is not None]


def _line(track: Track, colour: str, unit: str, shape: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": track.name,
        "legendgroup": track.name,
        "x": rounded(track.times_s),
        "y": rounded(track.values),
        "line": {"color": colour, "width": 1.6, "shape": shape},
        "hovertemplate": f"{track.name} %{{y:,.4~g}}{unit}<br>at %{{x:.2f}} s<extra></extra>",
    }


def _dots(found: Timeline) -> dict[str, Any] | None:
    track = found.dots
    if track is None:
        return None
    since = "due" if "schedule" in found.dots_metric else "sent"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": track.name,
        "x": rounded(track.times_s),
        "y": rounded(track.values),
        "marker": {"color": "@c0", "size": 4, "opacity": 0.55},
        "customdata": found.dots_requests.tolist(),
        "hovertemplate": f"request %{{customdata}}<br>{since} at %{{x:.2f}} s<br>"
        f"{TITLES[found.dots_metric]} %{{y:,.4~g}} ms<extra></extra>",
    }


def _failures(found: Timeline) -> dict[str, Any] | None:
    """Return the failures as crosses at the panel's top: they have no TTFT to stand at."""
    if not found.failures:
        return None
    track = found.dots
    top = float(track.values.max()) if track is not None else 1.0
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "failed",
        "x": rounded(f.at_s for f in found.failures),
        "y": rounded([top] * len(found.failures)),
        "marker": {"color": "@bad", "size": 9, "symbol": "x-thin", "line": _cross()},
        "hovertext": [_failure_words(f) for f in found.failures],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _cross() -> dict[str, Any]:
    return {"color": "@bad", "width": 2}


def _failure_words(failure: Failure) -> str:
    return (
        f"request {failure.request_index} failed at {failure.at_s:.2f} s: "
        f"{chart_text(failure.kind)}<br>{hover_lines(failure.words)}"
    )


def _gpus(found: Timeline, sensor: str, unit: str) -> list[dict[str, Any]]:
    """Return a line a GPU; the legend names it in the first panel that has one."""
    tracks = found.gpu.get(sensor, ())
    first = sensor == next(iter(found.gpu), None)
    return [
        {
            **_line(track, level_look(place, len(tracks))["color"], f" {unit}", "linear"),
            "showlegend": first,
        }
        for place, track in enumerate(tracks)
    ]


def _throttled(found: Timeline, sensor: str) -> list[dict[str, Any]]:
    if sensor != "utilization_percent":
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "throttled",
            "legendgroup": "throttled",
            "showlegend": place == 0,
            "x": rounded(track.times_s),
            "y": rounded(track.values),
            "marker": {"color": "@bad", "size": 4, "symbol": "diamond"},
            "hovertemplate": f"{track.name}: clocks held down<br>at %{{x:.2f}} s<extra></extra>",
        }
        for place, track in enumerate(found.throttled)
    ]


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
    said = [f"Rates are counts over {found.slice_s:g} s."]
    tracks = [found.dots, found.in_flight, found.running, *sum(found.gpu.values(), ())]
    if any(track is not None and track.of > track.times_s.size for track in tracks):
        said.append("Of every slice of time the lowest and the highest points are drawn, not all.")
    if found.failed > len(found.failures):
        said.append(f"The first {len(found.failures)} of {found.failed:,} failures are marked.")
    if found.window is None:
        said.append("The load was never held, so there is no steady window.")
    return " ".join(said)
