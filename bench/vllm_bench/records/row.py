"""Rows of CSV files as dataclasses: each field is a column, with its meaning; and other tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import operator
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


def doc(text: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field with the meaning of its column."""
    return dataclasses.field(default=default, metadata={"description": text})


def columns(kind: type[Any]) -> tuple[str, ...]:
    """Return the columns of a kind of row."""
    return tuple(_column_of(f.name) for f in dataclasses.fields(kind))


def _column_of(field: str) -> str:
    """Return the column of a field: `class_` is `class`, which Python keeps for itself."""
    return field.removesuffix("_")


def column_types(kind: type[Any]) -> dict[str, tuple[type, bool]]:
    """Return each column's type (int, float or str), and whether its cells may be empty."""
    found: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(kind).items():
        kinds = typing.get_args(hint) or (hint,)
        found[_column_of(name)] = (
            (float if float in kinds else int if int in kinds else str),
            len(kinds) > 1,
        )
    return found


def column_docs(kind: type[Any]) -> list[tuple[str, str]]:
    """Return (column, meaning) of the fields made with `doc`, in their order."""
    fields = dataclasses.fields(kind)
    return [
        (_column_of(f.name), f.metadata["description"])
        for f in fields
        if "description" in f.metadata
    ]


def csv_defaults(kind: type[Any]) -> dict[str, str]:
    """Return the cells of the columns that have a default: files without them are older."""
    fields = dataclasses.fields(kind)
    return {
        _column_of(f.name): _cell(f.default) for f in fields if f.default is not dataclasses.MISSING
    }


def csv_lines(rows: Iterable[Any]) -> str:
    """Return rows of one kind as CSV without a header: one line per row, None as an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    values: Callable[[Any], tuple[Any, ...]] | None = None
    for row in rows:
        values = values or _values_of(type(row))  # all are of one kind
        # Whole numbers and None as the writer has them: half of the cells, at no call's cost.
        writer.writerow([v if v is None or type(v) is int else _cell(v) for v in values(row)])
    return out.getvalue()


def _values_of(kind: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what gives the values of a dataclass's fields (two at least), in their order."""
    return operator.attrgetter(*(f.name for f in dataclasses.fields(kind)))


def lightly_pickled(kind: type[T]) -> type[T]:
    """Let a frozen dataclass with slots be pickled in a third of the time that Python's way takes.

    That asks for the list of fields at each value, and sets each by its name.
    """
    row: type[Any] = kind
    values, slots = _values_of(row), [kind.__dict__[f.name] for f in dataclasses.fields(row)]
    puts = [slot.__set__ for slot in slots]

    def state(self: T) -> tuple[Any, ...]:
        return values(self)

    def restored(self: T, state: tuple[Any, ...]) -> None:
        for put, value in zip(puts, state, strict=True):
            put(self, value)

    def copied(self: T) -> T:
        new = object.__new__(type(self))
        restored(new, values(self))
        return new

    kind.__copy__ = copied  # type: ignore[attr-defined]
    kind.__getstate__ = state  # type: ignore[attr-defined]
    kind.__setstate__ = restored  # type: ignore[attr-defined]
    return kind


def replaced(row: T, **changes: Any) -> T:
    """Return a `lightly_pickled` row with other values: `dataclasses.replace`, five times as fast.

    That calls `__init__` with every field, which sets each by its name.
    """
    new = copy(row)
    for name, value in changes.items():
        object.__setattr__(new, name, value)  # what nobody has seen yet isn't frozen
    return new


DECIMALS = 6  # no clock here resolves microseconds; repr would print meaningless digits


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DECIMALS}f}"
    return cell_text(value) if isinstance(value, str) else str(value)


# What a spreadsheet takes for a formula: also in full width, as Japanese ones do.
FORMULA = re.compile(r"['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = r"(?:-|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
NUMBERS = re.compile(rf"{_NUMBER}(?: {_NUMBER})*")  # or a dash in place of one


def cell_text(text: str) -> str:
    """Return a text as a cell: on one line, and neither a formula nor an escape sequence.

    A spreadsheet would run `=cmd|…`, and a terminal obeys ESC. See `text_of` for the way back.
    """
    if not text.isprintable():
        # Without line breaks, so that an incomplete row can be recognised.
        text = "".join(map(_spelled_out, " ".join(text.splitlines())))
    return f"'{text}" if FORMULA.match(text) and not NUMBERS.fullmatch(text) else text


def text_of(cell: str) -> str:
    """Return the text of a cell that `cell_text` made; characters stay spelled out."""
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell, 1) else cell


def _spelled_out(character: str) -> str:
    wide = character.isspace() and character >= "\xa0"  # blanks of other widths
    if character.isprintable() or wide:
        return character
    return character.encode("unicode_escape").decode()


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


RESTORE = "another program saved it; put back the file that bench.py wrote"
MOST = 2.0**53  # whole numbers above it aren't exact as floats
AT_ONCE = 4096  # lines: cells as texts take several times the memory of the numbers in them


class Rows:
    """Rows by their columns, one value per row each.

    A column of numbers that each row has is of their type; else of floats, NaN where a cell is
    empty. A column of texts has None there.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], wrong: Sequence[str] = ()) -> None:
        """Take columns of equal lengths, at least one; `wrong` cells were left empty."""
        self.columns = dict(columns)
        self.wrong = tuple(wrong)

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


def rows_of(
    lines: bytes, types: Mapping[str, tuple[type, bool]], absent: Mapping[str, str] | None = None
) -> Rows:
    """Return the columns for which there is a type (see `column_types`), as CSV lines have them.

    A missing column has the cell of `absent` in each row; a number beyond what a float can count
    is left out where a cell may be empty. Raises ValueError, OverflowError where a column is
    missing or a cell isn't of its type.
    """
    try:
        return _rows_of(lines, types, absent or {})
    except csv.Error as e:
        raise ValueError(str(e)) from e


def _rows_of(
    lines: bytes, types: Mapping[str, tuple[type, bool]], absent: Mapping[str, str]
) -> Rows:
    import numpy as np

    reader = csv.reader(io.StringIO(lines.decode(), newline=""))
    places = {name: place for place, name in enumerate(next(reader, []))}
    missing = [name for name in types if name not in places and name not in absent]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    parts = {name: [_column(name, (), *kind)] for name, kind in types.items()}
    wrong: list[str] = []
    line = 2  # the header is line 1
    while some := list(itertools.islice(reader, AT_ONCE)):
        cells = list(zip(*some, strict=True))
        for name, kind in types.items():
            given = cells[places[name]] if name in places else [absent[name]] * len(some)
            found = _column(name, given, *kind)
            wrong += _left_out(name, given, found, line) if kind[1] else ()
            parts[name].append(found)
        line += len(some)
    return Rows({name: np.concatenate(arrays) for name, arrays in parts.items()}, wrong)


def _column(name: str, cells: Sequence[str], kind: type[Any], may_be_empty: bool) -> NDArray[Any]:
    """Return a column of cells. Raises ValueError, OverflowError where one isn't of its type."""
    import numpy as np

    if kind is str:
        return np.array([text_of(cell) or None for cell in cells], dtype=object)
    try:
        if kind is int and not may_be_empty:
            return np.array(list(map(int, cells)), dtype=np.int64)
        numbers = [float(kind(cell)) if cell else math.nan for cell in cells]
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from e
    if kind is float and any("." in c and c[-1 - DECIMALS : -DECIMALS] != "." for c in cells):
        raise ValueError(f"{name}: not the {DECIMALS} decimals that were written: {RESTORE}")
    found = np.array(numbers, dtype=np.float64)
    too_large = ~(np.abs(found) <= MOST) & ~np.isnan(found)
    if (too_large.any() and not may_be_empty) or np.isnan(found).sum() > cells.count(""):
        raise ValueError(f"{name}: not a number, or too large a one")
    found[too_large] = math.nan
    return found


def _left_out(name: str, cells: Sequence[str], found: NDArray[Any], line: int) -> Iterator[str]:
    """Yield each number that was too large, with its line."""
    import numpy as np

    if found.dtype == object or np.isnan(found).sum() == cells.count(""):
        return
    for place, (cell, value) in enumerate(zip(cells, found.tolist(), strict=True), start=line):
        if cell and math.isnan(value):
            yield f"line {place}: {name} is {cell[:40]}, which can't be: left out"


# ---- tables of other things: columns with a name, a meaning, and where the value comes from ----

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
