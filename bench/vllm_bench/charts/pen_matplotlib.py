"""Draws a chart as a picture, light or dark. No pyplot, no global figure."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator
from PIL import Image

from ..records.safe_file import replacing
from ..records.text import printable
from ..stats.batches import Values
from .chart import (
    CROSSES,
    DASHES,
    FONT,
    LIGHT,
    LINE_ROWS,
    MANY,
    MARKS,
    OTHER_FONTS,
    Axis,
    Band,
    Chart,
    Heading,
    Line,
    Panel,
    Rule,
    Theme,
    few_decades,
)

Format = Literal["png", "svg", "pdf"]

WIDTH_IN, WIDE_IN = 8.4, 11.0
TITLE_SIZE = 16
# Characters per inch.
SUBTITLE_PER_IN, NOTE_PER_IN = 10.4, 11.5
MOST_TITLE_LINES, MOST_NOTE_LINES = 3, 5
LEGEND_CHARACTER_IN, LEGEND_HANDLE_IN = 0.095, 0.75
MOST_COLUMNS = 4
MOST_LINES_NEXT_TO = 7  # of words next to a panel
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

STYLE = {
    "font.size": 13,
    "axes.titlesize": 11,
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "lines.markersize": 8,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "text.parse_math": False,  # a $ in a model's name is a $
    "text.usetex": False,
    "figure.dpi": 150,
    "pdf.fonttype": 42,  # text that can be searched
    "svg.hashsalt": "vllm-bench",  # without it the names inside an SVG are random
}
COLOURED = {
    "paper": ("figure.facecolor", "axes.facecolor", "savefig.facecolor"),
    "ink": ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
    "grid": ("grid.color",),
}

_theme: ContextVar[Theme] = ContextVar("theme", default=LIGHT)


@contextmanager
def in_style(theme: Theme | None = None) -> Iterator[None]:
    """Draw in the project's style; the machine's matplotlibrc has no effect.

    `theme` is used for all that is drawn inside the block; None keeps the current one.
    """
    colours = theme or _theme.get()
    before = _theme.set(colours)
    own = {key: colours[name] for name, keys in COLOURED.items() for key in keys}
    try:
        with matplotlib.style.context(["default", {**STYLE, **own, "font.family": fonts()}]):
            yield
    finally:
        _theme.reset(before)


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
                _legend_next_to(axes, named)
        for rule in (rule for panel in chart.panels for rule in panel.rules if rule.upright):
            for axes in rows:  # through all panels
                axes.axvline(rule.at, color=_colour("error"), linewidth=1.4, label=rule.name)
        _scale(rows[-1], "x", chart.x, chart.reach, MANY)
        figure.align_ylabels(rows)
        _legend_below(figure, [] if split_legend else rows, chart.note)
    return figure


def _colour(name: str) -> str:
    return _theme.get()[name]


def _paper(chart: Chart, heading: Heading) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with its heading, and its panels from top to bottom."""
    width_in, count = WIDE_IN if chart.wide else WIDTH_IN, len(chart.panels)
    # Names of rows are wider than the numbers that others have on the left.
    names_in = ROW_NAMES_IN if chart.panels[0].beside else 0.0
    title, subtitle = _title(heading.title, width_in), _subtitle(heading, width_in - names_in)
    head_in = 0.3 * title.count("\n") + 0.17 * subtitle.count("\n")
    height_in = (chart.panel_in or (4.0 if count == 1 else 2.8)) * count + 1.4 + head_in
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    figure.suptitle(title, x=0.015, ha="left", fontsize=TITLE_SIZE, fontweight="bold")
    many = [len(panel.beside) or LINE_ROWS for panel in chart.panels]
    found = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=many)
    rows: list[Axes] = found[:, 0].tolist()
    colour = _colour("error" if "INVALID" in heading.verdict else "quiet")
    pad = 10 + (ABOVE_ROWS if chart.panels[0].beside else 0)
    rows[0].set_title(subtitle, loc="left", color=colour, pad=pad)
    return figure, rows


# ---- words ----


def _title(words: str, width_in: float) -> str:
    """Return a title in as many lines as it needs, cut if these are too many."""
    words = drawable(words)
    each_in = max(_title_width_in(part) / len(part) for part in textwrap.wrap(words, 40))
    lines = textwrap.wrap(words, max(1, int((width_in - 0.3) / each_in)))
    if len(lines) > MOST_TITLE_LINES:
        lines = [*lines[: MOST_TITLE_LINES - 1], lines[MOST_TITLE_LINES - 1][:-1] + "…"]
    return "\n".join(lines)


def _title_width_in(line: str) -> float:
    font: Any = font_manager.get_font(font_manager.findfont(f"{FONT}:bold"))
    font.set_size(TITLE_SIZE, 72)
    font.set_text(line)
    return float(font.get_width_height()[0]) / 64 / 72


def _subtitle(heading: Heading, width_in: float) -> str:
    length = int(SUBTITLE_PER_IN * width_in)
    setup = textwrap.wrap(drawable(heading.setup), length)[:3]
    verdict = textwrap.wrap(drawable(heading.verdict, 500), length, max_lines=4, placeholder=" …")
    return "\n".join([*setup, *verdict])


def drawable(text: str, limit: int = 300) -> str:
    """Return untrusted text, its lines kept, with a question mark where no font has a glyph."""
    lines = (printable(line, limit) for line in text.split("\n"))
    return "\n".join("".join(c if _font_has(c) else "?" for c in line) for line in lines)


@cache
def _font_has(character: str) -> bool:
    return any(_face(name).get_char_index(ord(character)) for name in fonts())


@cache
def fonts() -> list[str]:
    """Return the fonts to draw with: matplotlib's own, then what the machine has for other text."""
    there = {entry.name for entry in font_manager.fontManager.ttflist}
    return [FONT, *(name for name in OTHER_FONTS if name in there)]


@cache
def _face(name: str) -> Any:
    return font_manager.get_font(font_manager.findfont(name))


# ---- what a panel shows ----


def _draw_panel(axes: Axes, panel: Panel, chart: Chart) -> None:
    for band in panel.bands:
        _draw_band(axes, band)
    for place, line in enumerate(panel.lines):
        _draw_line(axes, line, 1.6 if chart.wide else 2.2)
        if chart.wide and place == 0 and line.role == "steps":
            # Only the first: two backgrounds over each other would mix to a third colour.
            ground: dict[str, Any] = {"color": _colour(line.colour), "alpha": 0.15, "linewidth": 0}
            axes.fill_between(line.x, line.y, step="post", **ground)
    for rule in (rule for rule in panel.rules if not rule.upright):
        _draw_objective(axes, rule)
    _draw_beside(axes, panel)
    y = replace(panel.y, words="") if panel.beside else panel.y
    _scale(axes, "y", y, panel.heights, 20 if chart.wide else MANY)
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
        "window": {"facecolor": _colour("window")},
        "aside": {"facecolor": _colour("aside")},
        "outside": {**hatched, "edgecolor": _colour("grid"), "hatch": "xxx"},
        # With an edge, so that the shortest is visible.
        "throttled": {**hatched, "edgecolor": _colour("error"), "hatch": "////", "linewidth": 1},
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
    centre, colour = line.x if line.flat else line.y, _colour(line.colour)
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
    style: dict[str, Any] = {"color": _colour(bars.colour), "height": BAR_HEIGHT, "label": label}
    if bars.role == "hatched":
        style |= {"hatch": "////", "edgecolor": _colour("paper"), "linewidth": 0}
    axes.barh(bars.y, until - bars.x, left=bars.x, **style)
    axes.set_yticks([])


def _look(line: Line) -> dict[str, Any]:
    """Return how matplotlib draws a line of this role, place and colour."""
    mark, paper = MARKS[line.place % len(MARKS)][0], _colour("paper")
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
    return {"color": _colour(line.colour), "linestyle": dash, **roles[line.role]}


def _draw_objective(axes: Axes, rule: Rule) -> None:
    """Draw an objective with its name on the line: there may be several."""
    colour = _colour("error")
    axes.axhline(rule.at, color=colour, linestyle=(0, (1, 1)), linewidth=1.6, zorder=2)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(rule.name, (0.01, rule.at), xytext=(0, 3), color=colour, fontsize=10, **place)


# ---- axes ----


def _scale(axes: Axes, which: Literal["x", "y"], axis: Axis, values: Values, many: float) -> None:
    """Name an axis, and scale it: as given, logarithmic, or from 0.

    Values that span less than a factor of `many` have ticks at 1, 2 and 5 of each decade.
    """
    one, limits = (axes.xaxis, axes.set_xlim) if which == "x" else (axes.yaxis, axes.set_ylim)
    words = drawable(axis.words)
    if axis.log:
        axes.set(**{f"{which}scale": "log"})
        one.set_minor_locator(NullLocator())
    one.set_major_formatter(plain_numbers())
    if axis.ticks:
        one.set_major_locator(FixedLocator([at for at, _ in axis.ticks]))
        labels = _apart(axes, axis.ticks) if which == "x" else [label for _, label in axis.ticks]
        one.set_major_formatter(FixedFormatter(labels))
    elif axis.log:
        dense = few_decades(values, many)
        one.set_major_locator(LogLocator(10, subs=(1, 2, 5) if dense else (1,)))
        (axes.set_xmargin if which == "x" else axes.set_ymargin)(0.08)
    if axis.log:
        words += ", log scale" if which == "x" else "\nlog scale"
    if axis.span:
        limits(*axis.span)
    elif not axis.log and not axis.ticks:
        limits(0, 1.1 * max(values, default=0.0) or 1)
    one.set_label_text(words + axis.key)


def _apart(axes: Axes, ticks: Sequence[tuple[float, str]]) -> list[str]:
    """Return the labels, empty where there is no room for one; the last always has."""
    across = axes.transData.transform([(value, 0) for value, _ in ticks])[:, 0]
    # A character of the axis' font, in the figure's own dots.
    character = 0.62 * 13 * axes.figure.dpi / 72
    kept = [""] * len(ticks)
    taken = float("inf")
    for place in reversed(range(len(ticks))):
        label = ticks[place][1]
        half = character * (max(len(line) for line in label.split("\n")) + 1) / 2
        if across[place] + half <= taken:
            kept[place], taken = label, across[place] - half
    return kept


def plain_numbers() -> FuncFormatter:
    """Return a formatter that writes 0.5, 12.5, 20 and 1,500, never powers."""

    def plain(value: float, _: object = None) -> str:
        whole = abs(value - round(value)) <= 1e-6 * abs(value)
        return f"{value:,.0f}" if whole else f"{value:,.6g}"

    return FuncFormatter(plain)


# ---- legends ----


def _legend_below(figure: Figure, rows: Sequence[Axes], note: str) -> None:
    """Put the legend of these panels under the picture, and over it the note."""
    shown: dict[str, Any] = {}
    for axes in rows:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    if not shown and not note:
        return
    width_in = figure.get_figwidth()
    lines = textwrap.wrap(drawable(note, 600), int(NOTE_PER_IN * width_in))[:MOST_NOTE_LINES]
    longest = max((len(line) for label in shown for line in label.split("\n")), default=1)
    fit = int(width_in / (LEGEND_CHARACTER_IN * longest + LEGEND_HANDLE_IN))
    small: dict[str, Any] = {"title_fontsize": 10, "alignment": "left", "loc": "outside lower left"}
    legend = figure.legend(
        shown.values(),
        shown.keys(),
        title="\n".join(lines),
        ncols=max(1, min(MOST_COLUMNS, fit)),
        **small,
    )
    legend.get_title().set_color(_colour("quiet"))


def _legend_next_to(axes: Axes, named: set[str]) -> None:
    """Explain next to a panel what no panel above has explained, as far as there is room.

    The rest goes to the next panel: the panels of GPUs show the same lines.
    """
    shown: dict[str, Any] = {}
    free = MOST_LINES_NEXT_TO
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
