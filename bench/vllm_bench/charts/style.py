"""The look of all charts, in pictures and on the page, light or dark: colours, dashes, scales."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..stats.batches import Values

Theme = Mapping[str, str]


def _numbered(letter: str, colours: str) -> Theme:
    return {f"{letter}{place}": colour for place, colour in enumerate(colours.split())}


# c0 to c6: Okabe and Ito (2008), distinct with any colour vision; their yellow is too pale for a
# line on white, and black can't be seen on black. s0 to s7: levels of load, from cool to warm.
# Lines that differ in colour differ in dashes and marks as well.
LIGHT: Theme = {
    **_numbered("c", "#0072B2 #D55E00 #009E73 #000000 #56B4E9 #CC79A7 #E69F00"),
    **_numbered("s", "#3F66CF #0F86AD #0B8D6F #648713 #AB7D00 #D1630F #C9364F #8D3F95"),
    "ink": "#1A1A1A",
    "paper": "#FFFFFF",
    "quiet": "#555555",  # less important: subtitles, other runs
    "pale": "#9DB7C9",  # requests that figures are not of
    "grid": "#DDDDDD",
    "error": "#B00020",
    "wait": "#E69F00",  # of a bar: before its first token; these three differ in grey as well
    "decode": "#0072B2",
    "pause": "#C3E0F4",  # between two tokens that stood out
    "window": "#E3F0FA",  # background of the steady window
    "aside": "#DADADA",  # background of the time outside it
}
DARK: Theme = {
    **_numbered("c", "#56B4E9 #E69F00 #1FC493 #F2F2F2 #F0E442 #E08FBF #FF8A50"),
    **_numbered("s", "#8AA6FF #52BFE3 #45C9A6 #A6C34C #E0B63A #F79A50 #F77F93 #D393DA"),
    "ink": "#E8E8E8",
    "paper": "#14171C",
    "quiet": "#A8ADB5",
    "pale": "#5A7183",
    "grid": "#343A44",
    "error": "#FF6B6B",
    "wait": "#F0B840",
    "decode": "#3388C4",
    "pause": "#1D425C",
    "window": "#1A344E",
    "aside": "#24282F",
}
SERIES, LEVELS = 7, 8
# The names in matplotlib, and those in plotly.
DASHES = (
    ("-", "solid"),
    ("--", "dash"),
    ("-.", "dashdot"),
    (":", "dot"),
    ((0, (5, 1, 1, 1, 1, 1)), "longdashdot"),
)
MARKS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
)
CROSSES = (
    ("x", "x-thin"),
    ("+", "cross-thin"),
    ("1", "y-down"),
    ("2", "y-up"),
    ("3", "y-left"),
    ("4", "y-right"),
)
FONT = "DejaVu Sans"  # comes with matplotlib
# For names in Chinese, Japanese and Korean: those that systems bring along, in this order.
OTHER_FONTS = (
    *(f"Noto Sans CJK {country}" for country in ("SC", "JP", "KR", "TC")),
    *("Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "Source Han Sans"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei", "Unifont"),
)
MANY = 1000  # ticks at 1, 2, 5 overlap over more than three decades


def series_colour(place: int) -> str:
    """Return the colour of one of several lines."""
    return f"c{place % SERIES}"


def level_colour(place: int, levels: int) -> str:
    """Return the colour of a level of load; the fewer there are, the further apart they are."""
    if levels > LEVELS:
        return f"s{place % LEVELS}"
    return f"s{round(place * (LEVELS - 1) / max(levels - 1, 1))}"


def css(theme: Theme) -> str:
    """Return the colours as variables for the page, each by its own name."""
    return " ".join(f"--{name}: {colour};" for name, colour in theme.items())


def log_times(values: Values) -> bool:
    """Return whether times span more than a decade; else their axis begins at 0."""
    return values.size > 0 and bool(np.min(values) > 0 and np.max(values) / np.min(values) > 10)


def few_decades(values: Values, many: float) -> bool:
    """Return whether a logarithmic axis has room, or need, for ticks at 2 and 5 too.

    Values that span less than a factor of `many` leave room; without two powers of ten among them
    their axis would have one tick, or none.
    """
    low, high = np.log10(np.min(values)), np.log10(np.max(values))
    return bool(high - low < np.log10(many) or np.floor(high) - np.ceil(low) < 1)


def log_loads(values: Values) -> bool:
    """Return whether levels of load are mostly multiples of each other."""
    return bool(np.min(values) > 0 and np.max(values) / np.min(values) >= 4)
