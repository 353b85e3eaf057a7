"""Fairness between classes: each one's slowdown against the same arrivals alone, with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from ...classes.fairness import Fairness
from ...classes.slowdown import PERCENTILES, Slowdown
from ...records.text import printable
from ..chart import Axis, Chart, Line, Panel, Span, series_colour, upright_line

ROW_IN, HEAD_IN = 0.55, 0.7
SHORT = 24  # characters of a line beside a row
WIDEST = 200.0  # a slowdown, or 1 / it, beyond which a mark is at the edge
FINE = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0)  # ticks of a narrow axis, and of others
WIDE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
NARROW = 3.0  # from its lowest ratio to its highest


def fairness_chart(levels: Sequence[Fairness]) -> Chart | None:
    """Return a panel for each level of one scenario; None where no class has a slowdown."""
    shown = [one for one in levels if any(s.ratio is not None for s in one.slowdowns)]
    if not shown:
        return None
    span = _span([s for one in shown for s in one.slowdowns])
    rows = max(len(one.of(PERCENTILES[0])) for one in shown)
    return Chart(
        title="Fairness",
        doc="each class's TTFT (of sessions the time of a job without its waits, where a mark says "
        "so) in the mix over the same alone, with the same arrivals",
        note=". ".join([f"{_compared(shown)}; 1: as if alone", *map(_note, shown)]),
        x=Axis(words="in the mix ÷ alone", ticks=_ticks(span), log=True, span=span),
        panels=[_panel(one, span) for one in shown],
        panel_in=ROW_IN * rows + HEAD_IN,
    )


def _compared(levels: Sequence[Fairness]) -> str:
    """Return what is compared of the classes: of sessions it may be another time than TTFT."""
    known = [s.figure for one in levels for s in one.slowdowns if s.ratio is not None]
    return " or ".join(dict.fromkeys("TTFT" if "TTFT" in figure else figure for figure in known))


def _ticks(span: Span) -> list[tuple[float, str]]:
    places = FINE if span[1] / span[0] <= NARROW else WIDE
    return [(at, f"{at:g}") for at in places if span[0] <= at <= span[1]]


def _note(one: Fairness) -> str:
    """Return worst over best of a level, and its index of service."""
    parts = [
        f"p{a.percentile:g} worst ÷ best {a.ratio:.2f} ({printable(a.worst, 32)} ÷ "
        f"{printable(a.best, 32)}{', within chance' if a.told_apart is False else ''})"
        for a in one.apart
    ]
    no_index = f"no index of service: {one.no_jain}"
    index = no_index if one.jain is None else f"index of service {one.jain.index:.2f}"
    return f"{one.load.words}: {'; '.join([*parts, index])}"


def _span(found: Sequence[Slowdown]) -> Span:
    """Return from where to where ratios are drawn, 1 among them."""
    known = [s for s in found if s.ratio is not None]
    ends = [s.ratio for s in known if s.ratio]
    ends += [e for s in known if s.interval for e in (s.interval.low, s.interval.high)]
    inside = [e for e in ends if 1 / WIDEST <= e <= WIDEST]
    return min([0.9, *inside]) / 1.05, max([1.2, *inside]) * 1.05


def _panel(one: Fairness, span: Span) -> Panel:
    names = [s.class_name for s in one.of(PERCENTILES[0])]
    heights = np.arange(len(names), dtype=np.float64)
    ends = (-0.5, len(names) - 0.5)
    return Panel(
        y=Axis(
            words=one.load.words,
            ticks=[(at, printable(n, 32)) for at, n in zip(heights, names, strict=True)],
            span=ends[::-1],  # the first on top
        ),
        lines=[upright_line("as alone", ends), *_marks(one, span)],
        beside=[(at, _words(one, n)) for at, n in zip(heights, names, strict=True)],
    )


def _words(one: Fairness, name: str) -> str:
    """Return what stands right of a class's row; a reason of all its figures once, in short lines.

    Words take their room from the marks.
    """
    own = [s for s in one.slowdowns if s.class_name == name]
    reasons = {s.absent for s in own}
    if len(reasons) > 1 or None in reasons:
        return "\n".join(f"p{s.percentile:g} {_digits(s)}" for s in own)
    return "\n".join(textwrap.wrap(str(reasons.pop()), SHORT))


def _marks(one: Fairness, span: Span) -> Iterator[Line]:
    """Return the marks of each percentile, side by side."""
    for place, q in enumerate(PERCENTILES):
        found = [(at, s) for at, s in enumerate(one.of(q)) if s.ratio is not None]
        if not found:
            continue
        off = 0.17 * (2 * place - 1)
        ends = [_ends(s, span) for _, s in found]
        yield Line(
            name=f"p{q:g}",
            x=np.array([min(max(s.ratio or 1.0, span[0]), span[1]) for _, s in found]),
            y=np.array([at + off for at, _ in found]),
            low=np.array([low for low, _ in ends]),
            high=np.array([high for _, high in ends]),
            flat=True,
            role="points",
            place=place,
            colour=series_colour(place),
            words=[
                f"{printable(s.class_name, 32)}, {s.figure} p{q:g}: {s.ratio:.3g}" for _, s in found
            ],
            hover="{words}",
        )


def _ends(found: Slowdown, span: Span) -> Span:
    """Return an interval for the pen: NaN where there is none, endless where it leaves the span."""
    if found.interval is None:
        return np.nan, np.nan
    low, high = found.interval.low, found.interval.high
    return (low if low > span[0] else -np.inf), (high if high < span[1] else np.inf)


def _digits(found: Slowdown) -> str:
    if found.ratio is None:
        return str(found.absent)
    of_jobs = "" if "TTFT" in found.figure else " (job)"
    return f"{found.ratio:.2f}{of_jobs}"
