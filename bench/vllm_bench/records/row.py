"""Rows of CSV files as dataclasses: each field is a column, with its meaning."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def doc(text: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field with the meaning of its column."""
    return dataclasses.field(default=default, metadata={"description": text})


def columns(kind: type[Any]) -> tuple[str, ...]:
    """Return the columns of a kind of row."""
    return tuple(f.name for f in dataclasses.fields(kind))


def column_types(kind: type[Any]) -> dict[str, tuple[type, bool]]:
    """Return each column's type (int, float or str), and whether its cells may be empty."""
    found: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(kind).items():
        kinds = typing.get_args(hint) or (hint,)
        found[name] = (float if float in kinds else int if int in kinds else str), len(kinds) > 1
    return found


def column_docs(kind: type[Any]) -> list[tuple[str, str]]:
    """Return (column, meaning) of the fields made with `doc`, in their order."""
    fields = dataclasses.fields(kind)
    return [(f.name, f.metadata["description"]) for f in fields if "description" in f.metadata]


def csv_lines(rows: Iterable[Any]) -> str:
    """Return rows of one kind as CSV without a header: one line per row, None as an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names: tuple[str, ...] = ()
    for row in rows:
        names = names or columns(type(row))
        writer.writerow([_cell(getattr(row, name)) for name in names])
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    # No clock here resolves microseconds; repr would print meaningless digits.
    if isinstance(value, float):
        return f"{value:.6f}"
    text = str(value)
    if text.isprintable():
        return text
    # Without line breaks, so that an incomplete row can be recognised.
    return " ".join(text.splitlines()).replace("\0", "\N{REPLACEMENT CHARACTER}")


def complete_lines(data: bytes) -> bytes:
    """Return a file's content without the last line if a kill cut that off."""
    return data[: data.rfind(b"\n") + 1]


def bad_row(lines: bytes) -> str | None:
    """Return what is wrong with the first row whose number of cells isn't the header's, if any.

    Of a row that is cut short or shifted, cells would be taken for those of other columns.
    """
    header, *rows = lines.split(b"\n")[:-1] or [b""]
    wanted = header.count(b",") + 1
    for number, row in enumerate(rows, start=2):
        parts = row.split(b'"')  # every other part stands outside quotes
        cells = 1 + sum(part.count(b",") for part in parts[::2])
        if len(parts) % 2 == 0:
            return f"line {number} has a quote that isn't closed"
        if cells != wanted:
            return f"line {number} has {cells} cells, not {wanted}"
    return None


MOST = 2.0**53  # whole numbers above it aren't exact as floats
AT_ONCE = 4096  # lines: cells as texts take several times the memory of the numbers in them


class Rows:
    """Rows by their columns, one value per row each.

    A column of numbers that each row has is of their type; else of floats, NaN where a cell is
    empty. A column of texts has None there.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Take columns of equal lengths, at least one."""
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def of(self, which: NDArray[np.bool_] | NDArray[np.integer[Any]] | slice) -> Rows:
        """Return some rows: those marked, those at these places, or a part."""
        return Rows({name: values[which] for name, values in self.columns.items()})

    def has(self, column: str) -> NDArray[np.bool_]:
        """Return which rows have a value in a column."""
        import numpy as np

        values = self.columns[column]
        if values.dtype == object:
            return np.array([value is not None for value in values], dtype=bool)
        there: NDArray[np.bool_] = ~np.isnan(values)
        return there

    def by(self, column: str) -> Iterator[tuple[Any, Rows]]:
        """Yield each value of a column, in rising order, and its rows; empty cells are left out."""
        values = self.columns[column]
        for value in sorted(set(values[self.has(column)].tolist())):
            yield value, self.of(values == value)


def rows_of(lines: bytes, types: Mapping[str, tuple[type, bool]]) -> Rows:
    """Return the columns for which there is a type (see `column_types`), as CSV lines have them.

    Raises ValueError, OverflowError where a column is missing or a cell isn't of its type.
    """
    import numpy as np

    reader = csv.reader(io.StringIO(lines.decode(), newline=""))
    places = {name: place for place, name in enumerate(next(reader, []))}
    missing = [name for name in types if name not in places]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    parts: dict[str, list[NDArray[Any]]] = {
        name: [_column(name, (), *kind)] for name, kind in types.items()
    }
    while some := list(itertools.islice(reader, AT_ONCE)):
        cells = list(zip(*some, strict=True))
        for name, kind in types.items():
            parts[name].append(_column(name, cells[places[name]], *kind))
    return Rows({name: np.concatenate(arrays) for name, arrays in parts.items()})


def _column(name: str, cells: Sequence[str], kind: type[Any], may_be_empty: bool) -> NDArray[Any]:
    """Return a column of cells. Raises ValueError, OverflowError where one isn't of its type."""
    import numpy as np

    if kind is str:
        return np.array([cell or None for cell in cells], dtype=object)
    try:
        if kind is int and not may_be_empty:
            return np.array(list(map(int, cells)), dtype=np.int64)
        numbers = [float(kind(cell)) if cell else math.nan for cell in cells]
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from e
    found = np.array(numbers, dtype=np.float64)
    if (np.abs(found) > MOST).any() or np.isnan(found).sum() > cells.count(""):
        raise ValueError(f"{name}: not a number, or too large a one")
    return found
