"""The table of planted cases, for a terminal and for docs/METHOD.md."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.digits import markdown_table
from ..records.text import ABSENT
from .play import Judged
from .situation import Situation

HEADINGS = ("case", "what was planted", "truth", "furthest off", "verdict", "right")


def listing(situations: Sequence[Situation]) -> str:
    """Return one line for each case: its name, and what was planted."""
    width = max((len(s.name) for s in situations), default=0)
    return "\n".join(f"{s.name:{width}}  {s.planted}" for s in situations)


def markdown(cases: Sequence[Judged]) -> str:
    """Return the table in two halves, the healthy cases first."""
    return "\n\n".join(
        f"{title}:\n\n{_half([case for case in cases if case.situation.healthy is healthy])}"
        for title, healthy in (("Healthy in an ordinary way", True), ("Something is wrong", False))
    )


def _half(cases: Sequence[Judged]) -> str:
    return markdown_table([HEADINGS, ["---"] * len(HEADINGS), *map(_cells, cases)])


def plain(cases: Sequence[Judged]) -> str:
    """Return the table for a terminal."""
    rows = [(c[0], *c[3:]) for c in (HEADINGS, *map(_cells, cases))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cells(case: Judged) -> tuple[str, ...]:
    situation = case.situation
    return (
        situation.name,
        situation.planted,
        situation.truth,
        str(case.off or ABSENT),
        case.verdict,
        "yes" if case.right else "**no**",
    )
