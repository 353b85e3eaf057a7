"""A run's waterfall, drawn: a row a request, its waits and its tokens in colours of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures.statistics import Values
from ..summary.summary import RunSummary
from .figures import heading
from .pen_matplotlib import WIDE_IN, legend_below, new_figure
from .style import in_style, look
from .waterfall import Waterfall

LEAST_SEEN = 0.0005  # of the picture's width: half a dot
HEIGHT = 0.8  # of a row, so that neighbours stay apart


def waterfall_figure(summary: RunSummary, rows: Waterfall) -> Figure:
    """Return the picture of single requests."""
    title = f"Requests: {summary.scenario}, {summary.load.words}"
    note = f"Rows: {rows.words}. The server's queue and its prefill can't be told apart by request"
    height_in = min(7.5, 2.2 + 0.035 * rows.end.size + 0.06 * min(rows.end.size, 60))
    with in_style():
        over = heading(title, [summary])
        figure, (axes,) = new_figure(over, row_in=height_in, width_in=WIDE_IN)
        _draw(axes, rows)
        axes.set_xlabel("seconds from the run's start")
        axes.set_ylabel("requests, by schedule")
        axes.set_ylim(rows.end.size - 0.3, -0.7)  # the first on top
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.01)
        axes.set_yticks([])
        legend_below(figure, axes, columns=3, note=note)
    return figure


def _draw(axes: Axes, rows: Waterfall) -> None:
    """Draw each kind of part at once: a thousand bars are slow one by one."""
    colours = look()
    ok = ~rows.failed
    until_first = np.where(np.isnan(rows.first_token), rows.end, rows.first_token)
    sent = np.where(np.isnan(rows.sent), rows.end, rows.sent)
    one_piece = np.isnan(rows.first_token).all()
    words = "until the reply, which came in one piece" if one_piece else "until first token"
    waiting: dict[str, Any] = {"color": colours.quiet, "hatch": "////"}
    seen = ok & (sent - rows.scheduled > LEAST_SEEN * (rows.shown[1] - rows.shown[0]))
    _bars(axes, rows.scheduled, sent, seen, "the client's own wait", **waiting)
    queue = f"{words} (queue and prefill)" if not one_piece else words
    _bars(axes, sent, until_first, ok, queue, color=colours.wait)
    _bars(axes, until_first, rows.end, ok, "decode", color=colours.decode)
    if rows.gaps and rows.gap_limit_ms:
        row, begin, end = (np.array(part) for part in zip(*rows.gaps, strict=True))
        label = f"no token for over {rows.gap_limit_ms:.0f} ms (5 x ITL p50)"
        axes.barh(row, end - begin, left=begin, height=HEIGHT, color=colours.pause, label=label)
    _bars(axes, rows.scheduled, rows.end, rows.failed, "failed", color=colours.error)
    crosses = np.flatnonzero(rows.failed)
    if crosses.size:  # the refused are done in no time
        style: dict[str, Any] = {
            "marker": "x",
            "markeredgewidth": 1.8,
            "markersize": 6,
            "linestyle": "none",
        }
        axes.plot(rows.end[crosses], crosses, color=colours.error, **style)


def _bars(
    axes: Axes, begin: Values, end: Values, kept: np.ndarray[Any, Any], label: str, **style: Any
) -> None:
    places = np.flatnonzero(kept & (end > begin))
    if places.size:
        width = (end - begin)[places]
        hatched: dict[str, Any] = (
            {"edgecolor": look().paper, "linewidth": 0} if "hatch" in style else {}
        )
        axes.barh(places, width, left=begin[places], height=HEIGHT, label=label, **hatched, **style)
