"""How the report's charts look. Colours are names, `@…`, of variables in report/style.css: the
page puts the theme's colour in their place, and another one when the theme changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..summary.summary import RunSummary
from .scales import MANY, log_loads, log_times

LEVEL_COLOURS = 8  # @s0 to @s7, from cool to warm: load has an order
DASHES = ("solid", "8px,2px", "2px,2px", "8px,2px,2px,2px")
P_LOOKS = {
    50.0: ("@c0", "circle"),
    90.0: ("@c4", "diamond"),
    95.0: ("@c1", "square"),
    99.0: ("@c2", "triangle-up"),
    99.9: ("@c3", "cross"),
}


def level_look(place: int, levels: int) -> dict[str, str]:
    """Return colour and dash of a level; more levels than colours differ in their dash too."""
    if levels <= LEVEL_COLOURS:
        colour = round(place * (LEVEL_COLOURS - 1) / max(levels - 1, 1))
        return {"color": f"@s{colour}", "dash": DASHES[place % 2]}
    dash = DASHES[place // LEVEL_COLOURS % len(DASHES)]
    return {"color": f"@s{place % LEVEL_COLOURS}", "dash": dash}


def run_names(summaries: Sequence[RunSummary]) -> list[str]:
    """Return a name a run: its load, and which of the runs at this load where there are several."""
    keys = [(summary.scenario, summary.load) for summary in summaries]
    return [
        summary.load.words + (f", run {keys[:place].count(key) + 1}" if keys.count(key) > 1 else "")
        for place, (summary, key) in enumerate(zip(summaries, keys, strict=True))
    ]


def axis(title: str) -> dict[str, Any]:
    """Return an axis with its title; the page adds what the theme says."""
    return {"title": {"text": title}, "automargin": True}


def times_scale(values: Sequence[float]) -> dict[str, Any]:
    """Return the scale of an axis in ms."""
    if log_times(values):
        dense = max(values) / min(values) < MANY
        return {"type": "log", "dtick": "D2" if dense else 1, "tickformat": ",~r"}
    return {"rangemode": "tozero", "tickformat": ",~r"}


def load_axis(labels: Mapping[float, str], title: str) -> dict[str, Any]:
    """Return the axis of load, with a tick at each level that was measured."""
    found: dict[str, Any] = {
        **axis(title),
        "tickvals": list(labels),
        "ticktext": list(labels.values()),
    }
    if log_loads(list(labels)):
        found["type"] = "log"
    return found
