"""The style of pictures, light or dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import matplotlib.style

from ..chart import LIGHT, Theme
from .words import fonts

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


def colour_of(name: str) -> str:
    """Return a colour of the theme in use, by its name."""
    return _theme.get()[name]
