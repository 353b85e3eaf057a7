"""The axes of a picture, and its legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from ...stats.batches import Values
from ..chart import Axis, few_decades
from .style import colour_of
from .words import drawable, wrapped

NOTE_PER_IN = 11.5  # characters
MOST_NOTE_LINES = 5
LEGEND_CHARACTER_IN, LEGEND_HANDLE_IN = 0.095, 0.75
MOST_COLUMNS = 4
MOST_LINES_NEXT_TO = 7  # of words next to a panel


def scale(axes: Axes, which: Literal["x", "y"], axis: Axis, values: Values, many: float) -> None:
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


def legend_below(figure: Figure, rows: Sequence[Axes], note: str) -> None:
    """Put the legend of these panels under the picture, and over it the note."""
    shown: dict[str, Any] = {}
    for axes in rows:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    if not shown and not note:
        return
    width_in = figure.get_figwidth()
    lines = wrapped(drawable(note, 600), int(NOTE_PER_IN * width_in))[:MOST_NOTE_LINES]
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
    legend.get_title().set_color(colour_of("quiet"))


def legend_next_to(axes: Axes, named: set[str]) -> None:
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
