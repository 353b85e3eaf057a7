"""How every picture looks: colours, line styles, axes, titles. No pyplot, no global state."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from .cells import short
from .foreign import printable

# Okabe and Ito (2008), told apart with any colour vision; their yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#555555"
RED = "#B00020"
LINE_LENGTH = 88  # characters of a subtitle that fit the picture's width
FONT = "DejaVu Sans"  # comes with matplotlib

STYLE = {
    "font.family": FONT,
    "font.size": 13,
    "axes.titlesize": 11,
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "lines.markersize": 8,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "#cccccc",
    "legend.fontsize": 12,
    "text.parse_math": False,  # a $ in a model's name is a $
    "text.usetex": False,
    "figure.dpi": 150,
    "figure.facecolor": "white",
}


@contextmanager
def in_style() -> Iterator[None]:
    """Draw in the house's style, whatever the machine's matplotlibrc says."""
    with matplotlib.style.context(["default", STYLE]):
        yield


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands over a picture: its title, what was measured, and whether to believe it."""

    title: str
    setup: str
    verdict: str

    @property
    def subtitle(self) -> str:
        """The small lines under the title."""
        setup = textwrap.wrap(drawable(self.setup), LINE_LENGTH)[:3]
        return "\n".join([*setup, *textwrap.wrap(drawable(self.verdict), LINE_LENGTH)[:2]])


def new_figure(heading: Heading, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of `rows` panels over each other, its heading on the left."""
    figure = Figure(
        figsize=(8.4, 5.6 if rows == 1 else 2.8 * rows + 1.6),
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1),
    )
    title = textwrap.shorten(drawable(heading.title), 70, placeholder="…")
    figure.suptitle(title, x=0.015, ha="left", fontsize=16, fontweight="bold")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()
    colour = RED if "INVALID" in heading.verdict else GREY
    axes[0].set_title(heading.subtitle, loc="left", color=colour, pad=10)
    return figure, axes


def legend_below(figure: Figure, axes: Axes, *, columns: int) -> None:
    """Put the legend under the picture, where no curve can run."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def drawable(text: str) -> str:
    """Return foreign text with a question mark for each character that the font lacks."""
    return "".join(c if _font_has(c) else "?" for c in printable(text))


@cache
def _font_has(character: str) -> bool:
    found: Any = font_manager.get_font(font_manager.findfont(FONT))
    return bool(found.get_char_index(ord(character)))


def time_axis(axes: Axes, values: Sequence[float], *, which: str = "x") -> None:
    """Scale an axis in ms: logarithmic where the values span more than a decade, else from 0."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = min(values), max(values)
    if low > 0 and high / low > 10:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        # 1, 2, 5 run into each other over more than three decades.
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 1000 else (1,)))
        axis.set_minor_locator(NullLocator())
    else:
        set_limit = axes.set_xlim if which == "x" else axes.set_ylim
        set_limit(0, high * 1.08 or 1)
    axis.set_major_formatter(plain_numbers())


def level_axis(axes: Axes, levels: Mapping[float, str]) -> None:
    """Put the x axis' ticks at the levels that were measured, each with its label."""
    if min(levels) > 0 and max(levels) / min(levels) >= 4:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([float(level) for level in levels]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: levels.get(value, "")))
    axes.xaxis.set_minor_locator(NullLocator())


def plain_numbers() -> FuncFormatter:
    """Return a formatter that writes 0.5, 20 and 1,500, never powers."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}")


def ms(value: float) -> str:
    """Return a time for a legend."""
    return f"{short(value)} ms"


def save(figure: Figure, path: Path) -> None:
    """Write the figure beside its name and rename it. Raises OSError."""
    beside = path.with_name(path.name + ".tmp")
    figure.savefig(beside, format="png", dpi="figure")
    beside.replace(path)
