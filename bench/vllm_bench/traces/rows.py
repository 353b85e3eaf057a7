"""The rows of a trace's file, in any of the formats that `trace` lists."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import orjson

from ..small_file import UnreadableError, small_text

T = TypeVar("T")
TraceKind = Literal["azure", "mooncake", "burstgpt", "run"]

BLOCK_TOKENS = 512  # of Mooncake's blocks
MOST_TOKENS = 10_000_000  # more in one prompt is a damaged row
MOST_NS = Decimal(2) ** 63
MOST_BYTES = 1 << 29  # a week of Azure's is longer, and would be kept in memory: cut it
DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
# Spreadsheets and data frames write a column of counts as 472.0.
COUNT = re.compile(r"\s*(\d{1,9})(?:\.0)?\s*", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class RowError(Exception):
    """A file or a row that doesn't fit its format; the text begins with the line."""


class Row(NamedTuple):
    """One request as the file has it."""

    at_ns: int
    prompt_tokens: int | None
    output_tokens: int | None
    block_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """The columns of one CSV format that are read; other columns are ignored."""

    kind: TraceKind
    time: str
    prompt: str
    outputs: tuple[str, ...]  # the first that isn't empty counts; one of them must exist

    def fits(self, header: list[str]) -> bool:
        """Return whether a file with this header has this format."""
        return {self.time, self.prompt} <= {*header} and not {*self.outputs}.isdisjoint(header)


CSV_FORMATS = (
    CsvFormat("azure", "TIMESTAMP", "ContextTokens", ("GeneratedTokens",)),
    CsvFormat("burstgpt", "Timestamp", "Request tokens", ("Response tokens",)),
    CsvFormat("run", "t_scheduled_s", "prompt_tokens", ("completion_tokens", "max_tokens")),
)


def read_rows(path: Path) -> tuple[TraceKind, Iterator[Row]]:
    """Return the file's format and its rows, in the file's order. Raises RowError, now or later."""
    text = _read_text(path.expanduser())
    first = text.split("\n", 1)[0].strip()
    if first.startswith("{"):
        return "mooncake", _mooncake_rows(text)
    for known in CSV_FORMATS:
        if known.fits(first.split(",")):
            return known.kind, _csv_rows(known, text)
    expected = ", ".join(
        f"{f.time},{f.prompt},{'|'.join(f.outputs)} ({f.kind})" for f in CSV_FORMATS
    )
    raise RowError(
        f"line 1: not a trace: {first[:80]!r}; expected the columns {expected},"
        ' or {"timestamp": …, "input_length": …, "output_length": …} (mooncake)'
    )


def _read_text(path: Path) -> str:
    try:
        text = small_text(path, MOST_BYTES)
    except UnreadableError as e:
        raise RowError(str(e)) from e
    if not text.strip():
        raise RowError("empty: no requests")
    return text


# CSV


def _csv_rows(known: CsvFormat, text: str) -> Iterator[Row]:
    if known.kind == "run":
        # A kill may have cut the last line; records.read_frame leaves it out as well.
        text = text[: text.rfind("\n") + 1] or text
    reader = csv.reader(io.StringIO(text, newline=""))
    line = 1
    try:
        header = [name.strip() for name in next(reader)]
        if not known.fits(header):  # quotes that aren't closed, say
            raise RowError(f"line 1: its columns can't be read as those of {known.kind}")
        line = reader.line_num + 1  # a quoted cell may contain line breaks
        for cells in reader:
            if cells and len(cells) != len(header):
                raise RowError(f"line {line}: {len(cells)} cells, the header has {len(header)}")
            if cells:
                yield _csv_row(known, dict(zip(header, cells, strict=True)), line)
            line = reader.line_num + 1
    except csv.Error as e:
        raise RowError(f"line {line}: not CSV: {e}") from e


def _csv_row(known: CsvFormat, row: dict[str, str], line: int) -> Row:
    # A request of our own runs that failed has no counts.
    tokens = _maybe_tokens if known.kind == "run" else _tokens
    outputs = [_cell(line, row, key, tokens) for key in known.outputs if key in row]
    return Row(
        _cell(line, row, known.time, _date_ns if known.kind == "azure" else _seconds_ns),
        _cell(line, row, known.prompt, tokens),
        # 0 output tokens mean no output: the next column then has the number that was asked for.
        next(filter(None, outputs), outputs[-1]),
    )


# Mooncake


def _mooncake_rows(text: str) -> Iterator[Row]:
    # Not splitlines(), which splits at characters that JSON may contain.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError as e:
            raise RowError(f"line {line}: not JSON: {e.msg}") from e
        if not isinstance(found, dict):
            raise RowError(f"line {line}: expected an object, given {content[:40]!r}")
        yield _mooncake_row(line, found)


def _mooncake_row(line: int, row: Mapping[str, Any]) -> Row:
    prompt, output = (_cell(line, row, key, _whole) for key in ("input_length", "output_length"))
    block_ids = _cell(line, row, "hash_ids", _block_ids)
    expected = math.ceil(prompt / BLOCK_TOKENS)
    if block_ids is not None and len(block_ids) != expected:
        what = f"{expected} blocks of {BLOCK_TOKENS} tokens for {prompt} tokens"
        raise RowError(f"line {line}: hash_ids: expected {what}, given {len(block_ids)}")
    return Row(_cell(line, row, "timestamp", _milliseconds_ns), prompt, output, block_ids)


# Cells. Each reader raises ValueError or ArithmeticError for a wrong cell.


def _cell(line: int, row: Mapping[str, Any], key: str, read: Callable[[Any], T]) -> T:
    given = row.get(key)
    try:
        return read(given)
    except (ValueError, ArithmeticError) as e:
        shown = "nothing" if given in (None, "") else repr(given)[:60]
        expected = EXPECTED[read]
        raise RowError(f"line {line}: {key}: expected {expected}, given {shown}") from e


def _tokens(text: str) -> int:
    found = COUNT.fullmatch(text)
    return _whole(int(found[1]) if found else None)


def _maybe_tokens(text: str) -> int | None:
    return _tokens(text) if text else None


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_TOKENS:
        raise ValueError(value)
    return value


def _block_ids(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or any(type(block) is not int for block in value):
        raise ValueError(value)
    return tuple(value)


def _date_ns(text: str) -> int:
    found = DATE.fullmatch(text.strip())
    if not found:
        raise ValueError(text)
    day, clock, fraction, zone = found.groups()
    whole = datetime.strptime(f"{day} {clock}{zone or 'Z'}", "%Y-%m-%d %H:%M:%S%z")
    since = (whole - EPOCH) // timedelta(seconds=1)
    return since * 10**9 + int((fraction or "0").ljust(9, "0"))


def _seconds_ns(text: str) -> int:
    return _to_ns(Decimal(text.strip()), 9)


def _milliseconds_ns(value: Any) -> int:
    if type(value) not in (int, float):
        raise ValueError(value)
    return _to_ns(Decimal(repr(value)), 6)


def _to_ns(number: Decimal, digits: int) -> int:
    """Return the number, in a unit of 10**digits nanoseconds, in nanoseconds."""
    if not number.is_finite() or abs(number) >= MOST_NS:
        raise OverflowError(number)
    return round(number.scaleb(digits))


WHOLE = f"a whole number of tokens from 0 to {MOST_TOKENS:,}"
EXPECTED: dict[Callable[[Any], Any], str] = {
    _tokens: WHOLE,
    _maybe_tokens: WHOLE,
    _whole: WHOLE,
    _block_ids: "a list of whole numbers",
    _date_ns: "a time such as 2023-11-16 18:15:46.6805900",
    _seconds_ns: "seconds",
    _milliseconds_ns: "milliseconds",
}
