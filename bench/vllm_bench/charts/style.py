"""How every picture looks, light or dark: colours, lines, markers. No pyplot, no global figure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.style
from matplotlib.figure import Figure

Format = Literal["png", "svg", "pdf"]


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of a picture. What they tell apart, lines or markers tell apart as well."""

    series: tuple[str, ...]
    ink: str
    paper: str
    quiet: str  # what explains: subtitles, other runs
    grid: str
    error: str
    wait: str  # of a bar: before its first token; these three differ in grey as well
    decode: str
    pause: str  # between two tokens that stood out
    window: str  # the ground of the steady window
    aside: str  # the ground of what lies beside it


# Okabe and Ito (2008), told apart with any colour vision; their yellow is too pale for a line on
# white, and their black for one on black.
LIGHT = Look(
    series=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00"),
    ink="#1A1A1A",
    paper="#FFFFFF",
    quiet="#555555",
    grid="#DDDDDD",
    error="#B00020",
    wait="#E69F00",
    decode="#0072B2",
    pause="#C3E0F4",
    window="#E3F0FA",
    aside="#DADADA",
)
DARK = Look(
    series=("#56B4E9", "#E69F00", "#1FC493", "#E08FBF", "#F2F2F2", "#F0E442", "#FF8A50"),
    ink="#E8E8E8",
    paper="#14171C",
    quiet="#A8ADB5",
    grid="#343A44",
    error="#FF6B6B",
    wait="#F0B840",
    decode="#3388C4",
    pause="#1D425C",
    window="#1A344E",
    aside="#1D2127",
)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
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
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "lines.markersize": 8,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "text.parse_math": False,  # a $ in a model's name is a $
    "text.usetex": False,
    "figure.dpi": 150,
    "pdf.fonttype": 42,  # text that can be searched
    "svg.hashsalt": "vllm-bench",  # without it the names inside an SVG are drawn by lot
}

_current: ContextVar[Look] = ContextVar("look", default=LIGHT)


def look() -> Look:
    """Return the colours that are drawn with just now."""
    return _current.get()


@contextmanager
def in_style(chosen: Look | None = None) -> Iterator[Look]:
    """Draw in the house's style, whatever the machine's matplotlibrc says.

    `chosen` holds for all that is drawn inside; None goes on with the look that is in use.
    """
    colours = chosen or look()
    before = _current.set(colours)
    try:
        with matplotlib.style.context(["default", {**STYLE, **_rc(colours)}]):
            yield colours
    finally:
        _current.reset(before)


def _rc(colours: Look) -> dict[str, str]:
    paper = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "paper")
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "ink"
    )
    return {key: getattr(colours, name) for key, name in {**paper, **ink}.items()} | {
        "grid.color": colours.grid
    }


def save(figure: Figure, path: Path, kind: Format = "png") -> None:
    """Write the figure beside its name and rename it; the same figure gives the same bytes.

    Raises OSError.
    """
    beside = path.with_name(path.name + ".tmp")
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with in_style():
        figure.savefig(beside, format=kind, dpi="figure", metadata=undated)
    beside.replace(path)
