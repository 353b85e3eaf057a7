"""Draws a chart as a picture, light or dark. No pyplot, no global figure."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from ..records.safe_file import replacing
from ..stats.batches import Values
from .chart import CROSSES, DASHES, LINE_ROWS, MANY, MARKS, Band, Chart, Heading, Line, Panel, Rule
from .picture.axes import legend_below, legend_next_to, scale
from .picture.style import colour_of, in_style
from .picture.words import TITLE_SIZE, drawable, subtitle_lines, title_lines

Format = Literal["png", "svg", "pdf"]

WIDTH_IN, WIDE_IN = 8.4, 11.0
ROW_NAMES_IN = 1.0
MOST_BESIDE = 36  # characters right of a row in one line
ABOVE_ROWS = 20  # points: of the words over a panel with words beside its rows
FEW = 60  # samples that can be seen one by one
BAR_HEIGHT = 0.8  # of a row: leaves a space between bars

# Where a label stands beside its point: points to the right and up, and which part is there.
SIDES = {
    "right": ((10, 2), "left"),
    "left": ((-10, 2), "right"),
    "above": ((0, 9), "center"),
    "below": ((0, -19), "center"),
}


def save(figure: Figure, path: Path, kind: Format = "png") -> None:
    """Write the figure to a temporary file and rename it; the same figure gives the same bytes.

    Raises OSError.
    """
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    drawn = io.BytesIO()
    with in_style():
        figure.savefig(drawn, format=kind, dpi="figure", metadata=undated)
    with replacing(path) as unfinished:
        if kind == "png":
            _with_a_palette(drawn).save(unfinished, format="png")
        else:
            unfinished.write_bytes(drawn.getvalue())


def _with_a_palette(png: io.BytesIO) -> Image.Image:
    """Return a picture with the 256 colours that are most of it: a third of the bytes."""
    found = Image.open(png).convert("RGB")
    return found.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def draw(chart: Chart, heading: Heading) -> Figure:
    """Return the picture of a chart, its heading on the left, its legend outside the panels."""
    with in_style():
        figure, rows = _paper(chart, heading)
        split_legend = chart.wide and len(rows) > 1
        named: set[str] = set()  # names that a legend above explains
        for axes, panel in zip(rows, chart.panels, strict=True):
            _draw_panel(axes, panel, chart)
            if split_legend:
                legend_next_to(axes, named)
        for rule in (rule for panel in chart.panels for rule in panel.rules if rule.upright):
            for axes in rows:  # through all panels
                axes.axvline(rule.at, color=colour_of("error"), linewidth=1.4, label=rule.name)
        scale(rows[-1], "x", chart.x, chart.reach, MANY)
        figure.align_ylabels(rows)
        legend_below(figure, [] if split_legend else rows, chart.note)
    return figure


def _paper(chart: Chart, heading: Heading) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with its heading, and its panels from top to bottom."""
    width_in, count = WIDE_IN if chart.wide else WIDTH_IN, len(chart.panels)
    # Names of rows are wider than the numbers that others have on the left.
    names_in = ROW_NAMES_IN if chart.panels[0].beside else 0.0
    title = title_lines(heading.title, width_in)
    subtitle = subtitle_lines(heading, width_in - names_in)
    head_in = 0.3 * title.count("\n") + 0.17 * subtitle.count("\n")
    height_in = (chart.panel_in or (4.0 if count == 1 else 2.8)) * count + 1.4 + head_in
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    figure.suptitle(title, x=0.015, ha="left", fontsize=TITLE_SIZE, fontweight="bold")
    many = [len(panel.beside) or LINE_ROWS for panel in chart.panels]
    found = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=many)
    rows: list[Axes] = found[:, 0].tolist()
    colour = colour_of("error" if "INVALID" in heading.verdict else "quiet")
    pad = 10 + (ABOVE_ROWS if chart.panels[0].beside else 0)
    rows[0].set_title(subtitle, loc="left", color=colour, pad=pad)
    return figure, rows


# ---- what a panel shows ----


def _draw_panel(axes: Axes, panel: Panel, chart: Chart) -> None:
    for band in panel.bands:
        _draw_band(axes, band)
    for place, line in enumerate(panel.lines):
        _draw_line(axes, line, 1.6 if chart.wide else 2.2)
        if chart.wide and place == 0 and line.role == "steps":
            # Only the first: two backgrounds over each other would mix to a third colour.
            ground: dict[str, Any] = {"alpha": 0.15, "linewidth": 0, "step": "post"}
            axes.fill_between(line.x, line.y, color=colour_of(line.colour), **ground)
    for rule in (rule for rule in panel.rules if not rule.upright):
        _draw_objective(axes, rule)
    _draw_beside(axes, panel)
    y = replace(panel.y, words="") if panel.beside else panel.y
    scale(axes, "y", y, panel.heights, 20 if chart.wide else MANY)
    if chart.wide or panel.beside:
        axes.yaxis.label.set_fontsize(11)
        axes.tick_params(labelsize=11)


def _draw_beside(axes: Axes, panel: Panel) -> None:
    """Write the words right of each row; then the axis' own stand over the panel."""
    offset: dict[str, Any] = {"textcoords": "offset points", "fontsize": 11}
    right = {**offset, "xytext": (8, 0), "xycoords": ("axes fraction", "data"), "va": "center"}
    for height, words in panel.beside:
        in_one = drawable(words).replace("\n", "  ")
        shown = in_one if len(in_one) <= MOST_BESIDE else drawable(words)
        axes.annotate(shown, (1, height), **right)
    if panel.beside:
        above = {**offset, "xytext": (0, 6), "xycoords": "axes fraction", "weight": "bold"}
        axes.annotate(drawable(panel.y.words), (0, 1), **above)


def _draw_band(axes: Axes, band: Band) -> None:
    hatched: dict[str, Any] = {"facecolor": "none", "linewidth": 0}
    styles: dict[str, dict[str, Any]] = {
        "window": {"facecolor": colour_of("window")},
        "aside": {"facecolor": colour_of("aside")},
        "outside": {**hatched, "edgecolor": colour_of("grid"), "hatch": "xxx"},
        # With an edge, so that the shortest is visible.
        "throttled": {**hatched, "edgecolor": colour_of("error"), "hatch": "////", "linewidth": 1},
    }
    style = styles[band.role] | ({"zorder": 0.5, "alpha": 0.45} if band.role == "throttled" else {})
    for begin, end in band.spans:
        axes.axvspan(begin, end, label=drawable(band.name), **{"zorder": 0, **style})


def _draw_line(axes: Axes, line: Line, width: float) -> None:
    """Draw a line with its intervals, its labels next to it."""
    label = None if line.label is None else drawable(line.label)
    if line.until is not None:
        _draw_bars(axes, line, line.until, label)
        return
    style = {"linewidth": width, **_look(line)}
    axes.plot(line.x, line.y, label=label, **{"zorder": 3, **style})
    if line.role == "drops":
        axes.vlines(line.x, 0, line.y, color=style["color"], linestyle=":", linewidth=1.5)
    _draw_intervals(axes, line)
    for x, y, words in zip(line.x, line.y, line.labels, strict=False):
        offset, ha = SIDES[line.side]
        axes.annotate(words, (x, y), xytext=offset, ha=ha, textcoords="offset points")


def _draw_intervals(axes: Axes, line: Line) -> None:
    """Draw each point's interval; an arrow where it has no end, or leaves the picture."""
    if line.low is None or line.high is None:
        return
    centre, colour = line.x if line.flat else line.y, colour_of(line.colour)
    known = ~np.isnan(line.low)
    ends = [
        np.where(np.isinf(end), 0, part)[known].clip(0)
        for end, part in ((line.low, centre - line.low), (line.high, line.high - centre))
    ]
    bars: dict[str, Any] = {"fmt": "none", "ecolor": colour, "capsize": 5, "zorder": 2.8}
    bars |= {"xerr" if line.flat else "yerr": ends, "elinewidth": 1.5}
    axes.errorbar(line.x[known], line.y[known], **bars)
    above: dict[str, Any] = {"xytext": (0, 26), "textcoords": "offset points"}
    arrow: dict[str, Any] = {"arrowstyle": "<-", "color": colour, "linewidth": 1.5}
    for side, of_side in ((0, line.low), (1, line.high)) if line.flat else ((1, line.high),):
        endless = np.isinf(of_side)
        for x, y in zip(line.x[endless], line.y[endless], strict=True):
            edge: dict[str, Any] = {"xytext": (side, y), "textcoords": ("axes fraction", "data")}
            axes.annotate("", (x, y), arrowprops=arrow, **(edge if line.flat else above))


def _draw_bars(axes: Axes, bars: Line, until: Values, label: str | None) -> None:
    """Draw them all at once: a thousand bars are slow one by one."""
    style: dict[str, Any] = {"color": colour_of(bars.colour), "height": BAR_HEIGHT, "label": label}
    if bars.role == "hatched":
        style |= {"hatch": "////", "edgecolor": colour_of("paper"), "linewidth": 0}
    axes.barh(bars.y, until - bars.x, left=bars.x, **style)
    axes.set_yticks([])


def _look(line: Line) -> dict[str, Any]:
    """Return how matplotlib draws a line of this role, place and colour."""
    mark, paper = MARKS[line.place % len(MARKS)][0], colour_of("paper")
    marked = {"marker": mark if line.x.size else ""}
    alone = {**marked, "linestyle": "none", "markersize": 8 if line.flat else 10}
    steps = {"drawstyle": "steps-post"}
    small: dict[str, Any] = {"linestyle": "none", "marker": "o"}
    cross = {"marker": CROSSES[line.place % len(CROSSES)][0], "markeredgewidth": 1.8}
    roles: dict[str, dict[str, Any]] = {
        "marked": marked,
        "line": {},
        "steps": steps,
        "thin": {**steps, "linewidth": 0.9, "zorder": 1.9},
        "samples": {"marker": "." if line.x.size < FEW else "", "markersize": 5},
        "points": alone,
        "drops": {**alone, "markersize": 11, "markeredgecolor": paper, "zorder": 5},
        "dots": {**small, "markersize": 4.0 if line.x.size < 500 else 2.5, "markeredgewidth": 0},
        "repeats": {**small, "markersize": 5, "alpha": 0.5, "markeredgewidth": 0, "zorder": 2.9},
        "hollow": {**alone, "markerfacecolor": paper, "zorder": 3.5},
        "crosses": {**cross, "linestyle": "none", "clip_on": False, "zorder": 5},
    }
    dash: Any = DASHES[line.place % len(DASHES)][0]
    return {"color": colour_of(line.colour), "linestyle": dash, **roles[line.role]}


def _draw_objective(axes: Axes, rule: Rule) -> None:
    """Draw an objective with its name on the line: there may be several."""
    colour = colour_of("error")
    axes.axhline(rule.at, color=colour, linestyle=(0, (1, 1)), linewidth=1.6, zorder=2)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(rule.name, (0.01, rule.at), xytext=(0, 3), color=colour, fontsize=10, **place)
