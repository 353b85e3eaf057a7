"""The Pareto picture: a server's tokens a second by GPU against each user's, a point a level."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..summary.levels import Series
from ..summary.pareto import ParetoPoint, gpu_count, pareto_points
from .figures import heading
from .pen_matplotlib import legend_below, new_figure, plain_numbers
from .style import in_style, look

# Parts of the largest values within which two labels would run into each other.
NEAR_X, NEAR_Y = 0.25, 0.06
AXES_IN, CHARACTER_IN = 6.7, 0.1  # the axes' width, and that of a character of a label


def pareto_figure(series: Series) -> Figure:
    """Return the picture; the series must have a point."""
    gpus, points = gpu_count(series.runs), pareto_points(series)
    with in_style():
        title = f"Throughput against a user's speed: {series.scenario}"
        figure, (axes,) = new_figure(heading(title, series.runs))
        _draw_frontier(axes, points)
        _draw_points(axes, points)
        _label(axes, points)
        axes.set_xlabel("output tokens/s for a user (1000 / TPOT p50)")
        axes.set_ylabel(_per_words(gpus))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(plain_numbers())
        legend_below(figure, axes, columns=2)
    return figure


def _per_words(gpus: int | None) -> str:
    if gpus is None:
        return "output tokens/s of the server\n(its GPUs were not counted)"
    return f"output tokens/s by GPU (of {gpus})"


def _draw_frontier(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    on = sorted((p.per_user, p.per_gpu) for p in points if p.on_frontier)
    if len(on) > 1:
        x, y = zip(*on, strict=True)
        label = "frontier: more of one costs some of the other"
        axes.plot(x, y, color=look().series[0], linestyle="--", linewidth=1.6, label=label)


def _draw_points(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    beaten = [p for p in points if not p.on_frontier and p.verdict != "INVALID"]
    kinds = (
        ("on the frontier", [p for p in points if p.on_frontier], look().series[0], "o"),
        ("beaten by another level", beaten, look().quiet, "s"),
        ("INVALID", [p for p in points if p.verdict == "INVALID"], look().error, "X"),
    )
    for label, of_kind, colour, marker in kinds:
        if of_kind:
            axes.plot(
                [p.per_user for p in of_kind],
                [p.per_gpu for p in of_kind],
                linestyle="none",
                marker=marker,
                markersize=10,
                color=colour,
                markerfacecolor=look().paper if label == "INVALID" else colour,
                zorder=4,
                label=label,
            )


def _label(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    """Write each point's load beside it, where no level is better; make room for the words."""
    groups = _together(points)
    axes.set_xlim(0, max(_right_end(group) for group in groups))
    axes.set_ylim(0, 1.12 * max(p.per_gpu for p in points))
    for group in groups:
        head = max(group, key=lambda p: p.per_user)
        at = (head.per_user, head.per_gpu)
        axes.annotate(_loads(group), at, xytext=(10, 2), textcoords="offset points")


def _right_end(group: Sequence[ParetoPoint]) -> float:
    """Return the end of an axis on which a group's label has room."""
    room = 1 - (CHARACTER_IN * len(_loads(group)) + 0.25) / AXES_IN
    return max(p.per_user for p in group) / max(room, 0.4)


def _together(points: Sequence[ParetoPoint]) -> list[list[ParetoPoint]]:
    """Return the points in groups, of which each is too near together for two labels."""
    right, top = max(p.per_user for p in points), max(p.per_gpu for p in points)
    groups: list[list[ParetoPoint]] = []
    for point in points:
        for group in groups:
            near_x = abs(group[0].per_user - point.per_user) < NEAR_X * right
            if near_x and abs(group[0].per_gpu - point.per_gpu) < NEAR_Y * top:
                group.append(point)
                break
        else:
            groups.append([point])
    return groups


def _loads(group: Sequence[ParetoPoint]) -> str:
    if len(group) == 1:
        return group[0].load.words
    *first, last = [p.load.number for p in group]
    return f"{', '.join(first)} and {last} {group[0].load.unit}"
