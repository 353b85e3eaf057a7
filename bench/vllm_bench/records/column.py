"""A column of a table: its name, its meaning, and where its value comes from; tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .row import cell_text

Value = str | int | float | None
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """`get` is a path of attributes and keys, such as `window.length_s`, or a function."""

    name: str
    doc: str
    get: str | Callable[[Row], Value]

    def value(self, row: Row) -> Value:
        """Return the row's value; None where it doesn't exist, or is an empty text."""
        found = follow(row, self.get) if isinstance(self.get, str) else self.get(row)
        return None if found == "" else found


def follow(found: Any, path: str) -> Value:
    """Return the value at the end of a path; None where the path ends early. 99 is the key 99.0."""
    for name in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(float(name) if name.isdecimal() else name)
        elif found is not None:
            found = getattr(found, name)
    # Settings come from a file, and may be anything.
    return found if found is None or isinstance(found, str | int | float) else str(found)


def in_file(value: Value, digits: int | None = 4) -> str:
    """Return a value as text; digits beyond a microsecond or a ten-thousandth are left out."""
    if value is None:
        return ""
    if isinstance(value, str):
        return cell_text(value)
    exact = digits is None or not isinstance(value, float)
    return str(value) if exact else f"{value:.{digits}f}"


def to_csv(columns: Sequence[Column[Row]], rows: Iterable[Row], digits: int | None = 4) -> bytes:
    """Return a header and a line for each row. A value that doesn't exist is an empty cell.

    `digits` is the number of decimals; None: all of them.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.name for column in columns)
    writer.writerows([in_file(c.value(row), digits) for c in columns] for row in rows)
    return out.getvalue().encode()
