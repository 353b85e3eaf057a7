"""The rows of a trace's file, in any of the formats that `trace` lists."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

TraceKind = Literal["azure", "mooncake", "burstgpt", "run"]

BLOCK_TOKENS = 512  # of Mooncake's blocks
MOST_TOKENS = 10_000_000  # more in one prompt is a damaged row
MOST_NS = Decimal(2) ** 63
DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class RowError(Exception):
    """A file or a row that isn't of its format; the text begins with the line."""


class Row(NamedTuple):
    """One request as the file has it."""

    at_ns: int
    prompt_tokens: int | None
    output_tokens: int | None
    block_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """The columns of one CSV format that are read; others may stand beside them."""

    kind: TraceKind
    time: str
    prompt: str
    outputs: tuple[str, ...]  # the first that says anything counts; one of them must exist

    def fits(self, header: list[str]) -> bool:
        """Tell whether a file of this header is of this format."""
        return {self.time, self.prompt} <= {*header} and not {*self.outputs}.isdisjoint(header)


CSV_FORMATS = (
    CsvFormat("azure", "TIMESTAMP", "ContextTokens", ("GeneratedTokens",)),
    CsvFormat("burstgpt", "Timestamp", "Request tokens", ("Response tokens",)),
    CsvFormat("run", "t_scheduled_s", "prompt_tokens", ("completion_tokens", "max_tokens")),
)


def read_rows(path: Path) -> tuple[TraceKind, Iterator[Row]]:
    """Return the file's format and its rows, in its own order. Raises RowError, now or later."""
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
        data = path.read_bytes()
    except OSError as e:
        raise RowError(f"can't be read: {e.strerror}") from e
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise RowError(f"line {data[: e.start].count(10) + 1}: not UTF-8") from e
    if not text.strip():
        raise RowError("empty: no requests")
    return text


# CSV


def _csv_rows(known: CsvFormat, text: str) -> Iterator[Row]:
    if known.kind == "run":
        # A kill may have torn the last line; records.read_frame leaves it out as well.
        text = text[: text.rfind("\n") + 1] or text
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader)
    line = reader.line_num + 1  # a quoted cell may hold line breaks
    try:
        for cells in reader:
            if cells:
                yield _csv_row(known, header, cells, line)
            line = reader.line_num + 1
    except csv.Error as e:
        raise RowError(f"line {line}: not CSV: {e}") from e


def _csv_row(known: CsvFormat, header: list[str], cells: list[str], line: int) -> Row:
    if len(cells) != len(header):
        raise RowError(f"line {line}: {len(cells)} cells, expected the header's {len(header)}")
    row = dict(zip(header, cells, strict=True))
    may_lack = known.kind == "run"  # a request of ours that failed has no counts
    outputs = [
        _tokens_cell(line, column, row[column], may_lack)
        for column in known.outputs
        if column in row
    ]
    read_time = _date_ns if known.kind == "azure" else _seconds_ns
    return Row(
        read_time(line, known.time, row[known.time]),
        _tokens_cell(line, known.prompt, row[known.prompt], may_lack),
        # An output of 0 tokens is none: what was asked for then stands in the next column.
        next((tokens for tokens in outputs if tokens), outputs[-1]),
    )


def _tokens_cell(line: int, column: str, text: str, may_lack: bool) -> int | None:
    if may_lack and not text:
        return None
    digits = text.strip()
    # Spreadsheets and data frames write a column of counts as 472.0.
    digits = digits.removesuffix(".0")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise _wrong(line, column, "a whole number of tokens", text)
    return _bounded(line, column, int(digits))


def _bounded(line: int, column: str, tokens: int) -> int:
    if not 0 <= tokens <= MOST_TOKENS:
        raise _wrong(line, column, f"0 to {MOST_TOKENS:,} tokens", tokens)
    return tokens


def _date_ns(line: int, column: str, text: str) -> int:
    found = DATE.fullmatch(text.strip())
    expected = "a time such as 2023-11-16 18:15:46.6805900"
    if not found:
        raise _wrong(line, column, expected, text)
    day, clock, fraction, zone = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=timezone.utc)
    except ValueError as e:
        raise _wrong(line, column, expected, text) from e
    since = (whole - EPOCH) // timedelta(seconds=1) - _zone_seconds(zone)
    return since * 10**9 + int((fraction or "0").ljust(9, "0"))


def _zone_seconds(zone: str | None) -> int:
    if zone in (None, "Z"):
        return 0
    assert zone is not None
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def _seconds_ns(line: int, column: str, text: str) -> int:
    try:
        return _to_ns(Decimal(text.strip()), 9)
    except (InvalidOperation, OverflowError) as e:
        raise _wrong(line, column, "seconds", text) from e


def _to_ns(number: Decimal, digits: int) -> int:
    """Return the number in nanoseconds, of which 10**digits make one. Raises OverflowError."""
    if not number.is_finite() or abs(number) >= MOST_NS:
        raise OverflowError
    return round(number.scaleb(digits))


# Mooncake


def _mooncake_rows(text: str) -> Iterator[Row]:
    # Not splitlines(), which ends lines at characters that JSON may hold.
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
    prompt = _tokens_number(line, "input_length", row)
    output = _tokens_number(line, "output_length", row)
    return Row(_milliseconds_ns(line, row), prompt, output, _block_ids(line, row, prompt))


def _tokens_number(line: int, key: str, row: Mapping[str, Any]) -> int:
    value = row.get(key)
    if not _is_whole(value):
        raise _wrong(line, key, "a whole number of tokens", value)
    return _bounded(line, key, int(value))  # type: ignore[arg-type]


def _milliseconds_ns(line: int, row: Mapping[str, Any]) -> int:
    value = row.get("timestamp")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(line, "timestamp", "milliseconds", value)
    try:
        return _to_ns(Decimal(repr(value)), 6)
    except OverflowError as e:
        raise _wrong(line, "timestamp", "milliseconds", value) from e


def _block_ids(line: int, row: Mapping[str, Any], prompt: int) -> tuple[int, ...] | None:
    ids = row.get("hash_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(map(_is_whole, ids)):
        raise _wrong(line, "hash_ids", "a list of whole numbers", ids)
    expected = math.ceil(prompt / BLOCK_TOKENS)
    if len(ids) != expected:
        what = f"{expected} blocks of {BLOCK_TOKENS} tokens for {prompt} tokens"
        raise RowError(f"line {line}: hash_ids: expected {what}, given {len(ids)}")
    return tuple(ids)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(line: int, key: str, expected: str, given: object) -> RowError:
    shown = "nothing" if given in (None, "") else repr(given)[:60]
    return RowError(f"line {line}: {key}: expected {expected}, given {shown}")
