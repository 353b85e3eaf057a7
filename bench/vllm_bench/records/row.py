"""Rows of CSV files as dataclasses: each field is a column, with its meaning."""

from __future__ import annotations

import csv
import dataclasses
import io
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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
    # Without line breaks, so that an incomplete row can be recognised.
    return " ".join(str(value).splitlines()).replace("\0", "\N{REPLACEMENT CHARACTER}")


def complete_lines(data: bytes) -> bytes:
    """Return a file's content without the last line if a kill cut that off."""
    return data[: data.rfind(b"\n") + 1]


def bad_row(lines: bytes) -> str | None:
    """Return what is wrong with the first row whose number of cells isn't the header's, if any.

    pandas would fill up such a row, or shift all rows.
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


def frame_of(lines: bytes, dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Return the columns for which there is a type. Raises ValueError, TypeError, OverflowError."""
    import pandas as pd

    found: pd.DataFrame = pd.read_csv(
        io.BytesIO(lines),
        usecols=list(dtypes),
        dtype=dict(dtypes),
        keep_default_na=False,
        na_values=[""],
    )
    return found
