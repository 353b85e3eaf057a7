"""A run's timeline, drawn: panels over each other on one clock, the steady window shaded."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures.statistics import Values
from ..summary.summary import RunSummary
from .figures import heading
from .pen_matplotlib import WIDE_IN, legend_below, new_figure, plain_numbers, time_axis
from .style import LINES, in_style, look
from .thin import line_places
from .timeline import Timeline
from .tracks import Dots, Held, Panel, Span, Track

ROW_IN = 1.3
CROSSES = ("x", "+", "1", "2", "3", "4")  # of failures, a look a kind
FEW = 60  # samples that can be told apart
LEAST_SEEN = 0.02  # of the picture's width: what is narrower needs no name
NARROW = 26  # characters beside a panel
MOST_LINES = 8  # of words beside a panel


def timeline_figure(summary: RunSummary, line: Timeline) -> Figure:
    """Return the picture of a run's timeline."""
    title = f"Timeline: {summary.scenario}, {summary.load.words}"
    with in_style():
        over = heading(title, [summary])
        figure, rows = new_figure(over, len(line.panels), row_in=ROW_IN, width_in=WIDE_IN)
        named: set[str] = set()  # what a legend further up explains
        for axes, panel in zip(rows, line.panels, strict=True):
            _shade(axes, line)
            _draw_panel(axes, panel)
            _legend(axes, named)
        rows[-1].set_xlim(*line.shown)
        rows[-1].set_xlabel("seconds from the run's start")
        figure.align_ylabels(rows)
        if line.note:
            legend_below(figure, (), columns=1, note=line.note)
    return figure


def _shade(axes: Axes, line: Timeline) -> None:
    """Lay a ground under the steady window, and another under what lies beside it."""
    window, (begin, end) = line.window, line.span
    if window is None:
        axes.axvspan(begin, end, facecolor=look().aside, label="no steady window", zorder=0)
    else:
        ground: dict[str, Any] = {"facecolor": look().window, "label": "steady window", "zorder": 0}
        axes.axvspan(window.start_s, window.end_s, **ground)
        for low, high in ((begin, window.start_s), (window.end_s, end)):
            ground = {"facecolor": look().aside, "label": "start-up and drain", "zorder": 0}
            axes.axvspan(low, high, **ground)
    first, last = line.shown
    for low, high in ((first, 0.0), (end, last)):  # warm-up, and what no row tells of
        if high - low > LEAST_SEEN * (last - first):
            lines: dict[str, Any] = {
                "facecolor": "none",
                "edgecolor": look().grid,
                "hatch": "xxx",
                "linewidth": 0,
            }
            axes.axvspan(low, high, label="before and after the run", zorder=0, **lines)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    dotted = all(t.times.size < FEW for t in panel.tracks if not t.steps)
    for place, track in enumerate(panel.tracks):
        _draw_track(axes, place if track.place is None else track.place, track, dotted=dotted)
    if panel.dots:
        _draw_dots(axes, panel.dots)
    _hatch(axes, panel.held)
    _scale(axes, panel)
    axes.set_ylabel(panel.label, fontsize=11)
    axes.tick_params(labelsize=11)


def _hatch(axes: Axes, held: Sequence[Held]) -> None:
    """Hatch the time in which clocks were held down, of all GPUs together, and say of which."""
    gpus_of: dict[str, list[str]] = {}
    for one in held:
        gpus_of.setdefault(one.why, []).append(one.gpu.removeprefix("GPU "))
    which = "; ".join(f"GPU {', '.join(gpus)} ({why})" for why, gpus in gpus_of.items())
    words = "\n".join(["clocks held down", *textwrap.wrap(which, NARROW)])
    # With an edge, so that the shortest is seen.
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": look().error, "hatch": "////"}
    for begin, end in _merged([span for one in held for span in one.spans]):
        axes.axvspan(begin, end, label=words, zorder=0.5, alpha=0.45, **style)


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Return stretches in order, those that touch as one."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def _draw_track(axes: Axes, place: int, track: Track, *, dotted: bool) -> None:
    style: dict[str, Any] = {
        "color": look().series[place % len(look().series)],
        "linestyle": LINES[place % len(LINES)],
        "linewidth": 1.6,
        "label": track.name,
    }
    if track.steps:
        axes.step(track.times, track.values, where="post", **style)
        ground: dict[str, Any] = {
            "step": "post",
            "color": style["color"],
            "alpha": 0.15,
            "linewidth": 0,
        }
        if place == 0:  # two grounds over each other would be a third colour
            axes.fill_between(track.times, track.values, **ground)
        return
    axes.plot(track.times, track.values, marker="." if dotted else "", markersize=5, **style)
    if track.lost:
        lost: Mapping[str, Any] = {"marker": "X", "color": look().error, "markersize": 9}
        label = f"{track.name}: no more readings"
        axes.plot(track.times[-1:], track.values[-1:], linestyle="none", label=label, **lost)


def _draw_dots(axes: Axes, dots: Dots) -> None:
    size = 4.0 if dots.times.size < 500 else 2.5
    style: dict[str, Any] = {
        "marker": "o",
        "markersize": size,
        "markeredgewidth": 0,
        "linestyle": "none",
    }
    if dots.times.size:
        label = f"succeeded: {dots.of:,}"
        axes.plot(dots.times, dots.values, color=look().series[0], alpha=0.7, label=label, **style)
    for place, (kind, times) in enumerate(dots.failures.items()):
        # In a strip along the top: a failure need not have a time to first token.
        at = _apart(times)
        axes.plot(
            at,
            np.full(at.size, 0.95),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker=CROSSES[place % len(CROSSES)],
            markersize=8,
            markeredgewidth=1.8,
            color=look().error,
            label=f"{kind}: {times.size:,}",
            clip_on=False,
            zorder=5,
        )


def _apart(times: Values) -> Values:
    """Return moments without those that would fall on the same dot of the picture."""
    ordered: Values = np.sort(times)
    kept: Values = ordered[line_places(ordered, ordered)]
    return kept


def _scale(axes: Axes, panel: Panel) -> None:
    if panel.dots is not None:
        if panel.dots.values.size:
            ends = [float(panel.dots.values.min()), float(panel.dots.values.max())]
            time_axis(axes, ends, which="y", roomy=False)
            if panel.dots.failures:  # they have a strip along the top
                low, high = axes.get_ylim()
                logarithmic = axes.get_yscale() == "log"
                axes.set_ylim(low, high * (high / low) ** 0.15 if logarithmic else 1.2 * high)
        else:
            axes.set_yticks([])
        return
    top = panel.most or 1.1 * max((float(np.nanmax(t.values)) for t in panel.tracks), default=1.0)
    axes.set_ylim(0, top * 1.04 if panel.most else top or 1.0)
    axes.yaxis.set_major_formatter(plain_numbers())


def _legend(axes: Axes, named: set[str]) -> None:
    """Explain beside a panel what none further up has explained, as far as there is room.

    The rest waits for the next panel: those of GPUs show the same lines.
    """
    shown: dict[str, Any] = {}
    free = MOST_LINES
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        if label not in named and label not in shown:
            free -= 1 + label.count("\n")
            if free < 0 and shown:
                break
            shown[label] = handle
    named.update(shown)
    if shown:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.005, 1.08)}
        small: dict[str, Any] = {"fontsize": 9.5, "labelspacing": 0.3, "handlelength": 1.8}
        axes.legend(shown.values(), shown.keys(), borderaxespad=0.0, **place, **small)
