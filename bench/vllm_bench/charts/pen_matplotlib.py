"""A picture's paper: panels over each other under a heading, and axes that people can read."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..figures.digits import short
from ..records.text import printable
from .scales import MANY, log_loads, log_times
from .style import FONT, look

WIDTH_IN = 8.4
WIDE_IN = 11.0
TITLE_SIZE = 16
TITLE_PER_IN = 6.5  # characters of ordinary text that fit an inch
SUBTITLE_PER_IN = 10.4
NOTE_PER_IN = 11.5
LEGEND_CHARACTER_IN, LEGEND_HANDLE_IN = 0.095, 0.75
MOST_TITLE_LINES = 3
MARKS = {"SUSPECT": "?", "INVALID": "\N{BALLOT X}"}
MOST_NOTE_LINES = 5


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands over a picture: its title, what was measured, and whether to believe it."""

    title: str
    setup: str
    verdict: str

    def title_lines(self, width_in: float) -> str:
        """Return the title in as many lines as it needs; cut where it needs too many."""
        length = int(TITLE_PER_IN * width_in)
        lines = textwrap.wrap(drawable(self.title), length)
        while length > 1 and max(map(_title_width_in, lines)) > width_in - 0.3:
            length -= 1  # capitals are wide
            lines = textwrap.wrap(drawable(self.title), length)
        if len(lines) > MOST_TITLE_LINES:
            lines = [*lines[: MOST_TITLE_LINES - 1], lines[MOST_TITLE_LINES - 1][:-1] + "…"]
        return "\n".join(lines)

    def subtitle(self, width_in: float) -> str:
        """Return the small lines under the title."""
        length = int(SUBTITLE_PER_IN * width_in)
        setup = textwrap.wrap(drawable(self.setup), length)[:3]
        return "\n".join([*setup, *textwrap.wrap(drawable(self.verdict), length)[:2]])


def new_figure(
    heading: Heading,
    rows: int = 1,
    *,
    row_in: float | None = None,
    width_in: float = WIDTH_IN,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `rows` panels over each other, its heading on the left."""
    title, subtitle = heading.title_lines(width_in), heading.subtitle(width_in)
    head_in = 0.3 * title.count("\n") + 0.17 * subtitle.count("\n")
    height_in = (row_in or (4.0 if rows == 1 else 2.8)) * rows + 1.4 + head_in
    figure = Figure(
        figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    )
    figure.suptitle(title, x=0.015, ha="left", fontsize=TITLE_SIZE, fontweight="bold")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()
    colour = look().error if "INVALID" in heading.verdict else look().quiet
    axes[0].set_title(subtitle, loc="left", color=colour, pad=10)
    return figure, axes


def legend_below(
    figure: Figure, axes: Axes | Sequence[Axes], *, columns: int, note: str = ""
) -> None:
    """Put the legend of these panels under the picture, where no curve can run.

    `note` stands over it: what the picture leaves out, and why.
    """
    shown: dict[str, Any] = {}
    for one in axes if isinstance(axes, Sequence) else [axes]:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    small: dict[str, Any] = {}
    if note:
        length = int(NOTE_PER_IN * figure.get_figwidth())
        lines = textwrap.wrap(drawable(note, 600), length)[:MOST_NOTE_LINES]
        small = {"title": "\n".join(lines), "title_fontsize": 10, "alignment": "left"}
    longest = max((len(line) for label in shown for line in label.split("\n")), default=1)
    fit = int(figure.get_figwidth() / (LEGEND_CHARACTER_IN * longest + LEGEND_HANDLE_IN))
    small["ncols"] = max(1, min(columns, fit))
    legend = figure.legend(shown.values(), shown.keys(), loc="outside lower left", **small)
    legend.get_title().set_color(look().quiet)


def drawable(text: str, limit: int = 300) -> str:
    """Return foreign text with a question mark for each character that the font lacks."""
    return "".join(c if _font_has(c) else "?" for c in printable(text, limit))


def _title_width_in(line: str) -> float:
    font: Any = font_manager.get_font(font_manager.findfont(f"{FONT}:bold"))
    font.set_size(TITLE_SIZE, 72)
    font.set_text(line)
    return float(font.get_width_height()[0]) / 64 / 72


@cache
def _font_has(character: str) -> bool:
    found: Any = font_manager.get_font(font_manager.findfont(FONT))
    return bool(found.get_char_index(ord(character)))


def time_axis(axes: Axes, values: Sequence[float], *, which: str = "x", roomy: bool = True) -> None:
    """Scale an axis in ms: logarithmic where the values span more than a decade, else from 0.

    Not `roomy`: there is place for a tick a decade.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = min(values), max(values)
    if log_times(values):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        dense = high / low < (MANY if roomy else 20)
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if dense else (1,)))
        axis.set_minor_locator(NullLocator())
    else:
        set_limit = axes.set_xlim if which == "x" else axes.set_ylim
        set_limit(0, high * 1.08 or 1)
    axis.set_major_formatter(plain_numbers())


def level_axis(axes: Axes, levels: Sequence[tuple[float, str]]) -> str:
    """Put the x axis' ticks at the levels that were measured, each with its label.

    Where labels would run into each other verdicts become marks, which the words that this
    returns explain; and labels without room are left out, but for the last: their ticks stay.
    """
    places = [value for value, _ in levels]
    if log_loads(places):
        axes.set_xscale("log", base=2)
    labels, explained = _apart(axes, levels), ""
    if "" in labels:
        labels = _apart(axes, [(value, _marked(label)) for value, label in levels])
        used = [word for word in MARKS if any(f"\n{word}" in label for _, label in levels)]
        explained = "".join(f"   {MARKS[word]} {word}" for word in used)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    axes.xaxis.set_minor_locator(NullLocator())
    return explained


def _marked(label: str) -> str:
    for word, mark in MARKS.items():
        label = label.replace(f"\n{word}", f"\n{mark}")
    return label


def _apart(axes: Axes, levels: Sequence[tuple[float, str]]) -> list[str]:
    """Return the labels, empty where there is no room for one."""
    across = axes.transData.transform([(value, 0) for value, _ in levels])[:, 0]
    # A character of the axis' font, in the figure's own dots.
    character = 0.62 * 13 * axes.figure.dpi / 72
    kept = [""] * len(levels)
    taken = float("inf")
    for place in reversed(range(len(levels))):
        label = levels[place][1]
        half = character * (max(len(line) for line in label.split("\n")) + 1) / 2
        if across[place] + half <= taken:
            kept[place], taken = label, across[place] - half
    return kept


def plain_numbers() -> FuncFormatter:
    """Return a formatter that writes 0.5, 20 and 1,500, never powers."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}")


def ms(value: float) -> str:
    """Return a time for a legend."""
    return f"{short(value)} ms"
