"""All that a server said of itself during a run: `server_metrics/<run_id>.csv`, read back.

A file has only what changed (see `SaidRow`). Files of before have a row per engine and reading
(`ServerRow`), which is a view of this one.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..request_record import MOST_S
from ..row import bad_row, columns, complete_lines, text_of
from .labels import labels_of
from .samples import SaidRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

OWN = ("reading_wall_s", "reading_fetch_ms", "reading_server")  # series 0 to 2
HEADER = ",".join(columns(SaidRow)).encode()


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A series: its name, and each of its rows."""

    engine: str | None
    name: str
    labels: Mapping[str, str]
    at: NDArray[np.int64]  # the reading of each row
    values: Floats
    there: NDArray[np.bool_]  # False: from this reading on there is no such series

    def over(self, readings: int) -> Floats:
        """Return the value at each reading, NaN where there is none."""
        import numpy as np

        row = np.searchsorted(self.at, np.arange(readings), side="right") - 1
        found: Floats = np.where((row >= 0) & self.there[row], self.values[row], np.nan)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a server said at each reading, in the order of time."""

    t_s: Floats
    wall_s: Floats
    fetch_ms: Floats
    server: Floats  # which one answered, from 1
    series: Sequence[Series]
    rows: int  # in the file


class _Rows:
    """The rows of one series as they are read."""

    def __init__(self, cells: Sequence[str]) -> None:
        if not cells[1]:
            raise ValueError("a series' first row has no name")
        self.engine = text_of(cells[0]) if cells[0] else None
        self.name, self.labels = text_of(cells[1]), labels_of(text_of(cells[2]))
        self.at, self.values, self.there = array("q"), array("d"), array("b")

    def take(self, reading: int, cell: str) -> None:
        self.at.append(reading)
        self.values.append(float(text_of(cell)) if cell else 0.0)
        self.there.append(bool(cell))

    def series(self) -> Series:
        import numpy as np

        at, values = np.array(self.at, dtype=np.int64), np.array(self.values, dtype=np.float64)
        there = np.array(self.there, dtype=bool)
        return Series(self.engine, self.name, self.labels, at, values, there)


def said_of(text: bytes) -> Said:
    """Return what a file says; a last line that a kill cut off is left out.

    A reading whose rows the kill cut off isn't known from a whole one: what is lost of it is as it
    was before. Raises ValueError, OverflowError where the file is damaged.
    """
    whole = complete_lines(text)
    if problem := bad_row(whole):
        raise ValueError(problem)
    t_s, found = array("d"), dict[int, _Rows]()
    try:
        # Decoded piece by piece: a text of the whole takes five times a day's gigabyte.
        cells = csv.reader(io.TextIOWrapper(io.BytesIO(whole), encoding="utf-8", newline=""))
        next(cells)
        for when, number, value, *name in cells:
            _take(t_s, found, (when, int(number), value), name)
    except csv.Error as e:
        raise ValueError(str(e)) from e
    return _said(t_s, found)


def _take(
    t_s: array[float], found: dict[int, _Rows], row: tuple[str, int, str], name: Sequence[str]
) -> None:
    """Take one row: its time, its series' number and its value. Raises ValueError."""
    when, number, value = row
    if number == 0:
        t_s.append(float(when))
        if not abs(t_s[-1]) <= MOST_S or (len(t_s) > 1 and t_s[-1] < t_s[-2]):
            raise ValueError(f"t_s {when}: beyond {MOST_S:g} s, or before the reading before")
    if not t_s or t_s[-1] != float(when):
        raise ValueError(f"t_s {when}: rows that belong to no reading")
    rows = found.get(number)
    if rows is None:
        rows = found[number] = _Rows(name)
    rows.take(len(t_s) - 1, value)


def _said(t_s: array[float], found: Mapping[int, _Rows]) -> Said:
    """Return what was read. Raises ValueError where the reading's own series aren't there."""
    import numpy as np

    own = [found.get(number) for number in range(len(OWN))]
    names = [None if rows is None else rows.name for rows in own]
    if found and names != list(OWN):
        raise ValueError(f"series 0 to 2 aren't {', '.join(OWN)}")
    wall_s, fetch_ms, server = (
        rows.series().over(len(t_s)) if rows else np.zeros(0) for rows in own
    )
    return Said(
        t_s=np.array(t_s, dtype=np.float64),
        wall_s=wall_s,
        fetch_ms=fetch_ms,
        server=server,
        series=tuple(rows.series() for number, rows in found.items() if number >= len(OWN)),
        rows=sum(len(one.at) for one in found.values()),
    )
