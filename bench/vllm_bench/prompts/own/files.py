"""Prompts from the user's own file: JSON lines, JSON, a table, or text with one prompt per line.

The content decides the format. The endings .json, .jsonl and .ndjson only mean that the file must
be JSON, so that a damaged line is an error and not a prompt; .csv and .tsv make it a table with a
header. Each may be packed with gzip. Texts stay as they are.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import orjson

from ...small_file import UnreadableError, small_bytes
from ..prompt import Message, Prompt, PromptError, PromptSource, without_repeats
from .images import ImageError, Pictures
from .rows import KEYS, KNOWN, RowError, messages_of_row

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}
MOST_BYTES = 2 << 30  # that a packed file may have
GZIP = b"\x1f\x8b"
BETWEEN_ENTRIES = re.compile(r"[\s,]*")
# The longer marks first: UTF-16's is the beginning of UTF-32's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What else people name, by its first bytes, and what to do about it.
OTHERS = {
    GZIP: "packed twice: unpack it once",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"PAR1": "Parquet: convert it, with pandas.read_parquet(…).to_json(…, orient='records')",
    b"BZh": "packed with bzip2: unpack it",
    b"\xfd7zXZ": "packed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it",
    b"%PDF-": "a PDF: save its text",
    b"version https://git-lfs": "only git LFS's pointer to the file: fetch it with git lfs pull",
}
Labelled = tuple[int, object]  # a row and its number, counted from 1
T = TypeVar("T")


class Rows(NamedTuple):
    """The rows of a file, and what to call the place of each."""

    where: Callable[[int], str]
    rows: Iterator[Labelled]


def read_prompt_file(path: Path) -> PromptSource:
    """Read every prompt of the file. Raises PromptError naming the file, the line and the fault."""
    prompts: list[Prompt] = []
    without: Counter[str] = Counter()
    pictures = Pictures(path.expanduser().parent)

    def read(row: object) -> tuple[Message, ...] | str:
        found = messages_of_row(row)
        try:
            return found if isinstance(found, str) else pictures.in_messages(found)
        except ImageError as e:
            raise RowError(str(e)) from e

    for number, found in read_rows(path, read):
        if isinstance(found, str):
            without[found] += 1
        else:
            prompts.append(Prompt(f"file:{number}", found))
    return without_repeats(f"file:{path}", prompts, without)


def read_rows(path: Path, read: Callable[[object], T]) -> Iterator[tuple[int, T]]:
    """Yield the number of each row of the file, from 1, and what `read` makes of it.

    Raises PromptError naming the file, the row and the fault; `read` may raise RowError.
    """
    name = f"file:{path}"
    found = _rows(_ending(path), _read_text(path.expanduser(), name), name)
    for number, row in found.rows:
        try:
            made = read(row)
        except RowError as e:
            raise PromptError(f"{name}: {found.where(number)}: {e}") from e
        yield number, made


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _read_text(path: Path, name: str) -> str:
    """Return the whole text of a file, unpacked and decoded. Raises PromptError."""
    try:
        data = small_bytes(path, MOST_BYTES)
    except UnreadableError as e:
        raise PromptError(f"{name}: {e}") from e
    if data.startswith(GZIP):
        data = _unpacked(data, name)
    for mark, what in OTHERS.items():
        if data.startswith(mark):
            raise PromptError(f"{name}: {what}")
    text = _decoded(data, name)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise PromptError(f"{name}: line {line}: a NUL byte: a binary file, or a damaged one")
    if not text.strip():
        raise PromptError(f"{name}: empty: no prompts")
    return text


def _unpacked(data: bytes, name: str) -> bytes:
    parts: list[bytes] = []
    try:
        with gzip.open(io.BytesIO(data)) as file:
            while part := file.read(1 << 20):
                parts.append(part)
                if len(parts) > MOST_BYTES >> 20:
                    raise PromptError(f"{name}: over {MOST_BYTES >> 30} GiB unpacked: take a part")
    except (OSError, EOFError, zlib.error) as e:
        raise PromptError(f"{name}: its gzip is cut off or damaged: fetch it again") from e
    return b"".join(parts)


def _decoded(data: bytes, name: str) -> str:
    encoding = next((known for mark, known in MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and data.count(b"\0") > len(data) // 4:
        raise PromptError(
            f"{name}: a binary file, or UTF-16 without its mark: it must be UTF-8; iconv converts"
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as e:
        line = data[: e.start].decode(encoding, "ignore").count("\n") + 1
        if encoding.startswith("utf-8"):
            advice = "UTF-8: convert it, with iconv -f WINDOWS-1252 -t UTF-8 say"
        else:
            advice = f"{encoding.upper()}, as it begins: fetch it again"
        raise PromptError(f"{name}: line {line}: not {advice}") from e


def _rows(ending: str, text: str, name: str) -> Rows:
    if ending in DELIMITERS:
        return Rows("line {}".format, _table(text, DELIMITERS[ending], name))
    first = next(line for _, line in _lines(text) if line.strip())
    must_be_json = ending in JSON_ENDINGS or first.strip() in ("{", "[", "[{")
    if text.lstrip()[:1] in ("{", "["):
        whole = _whole_json(text, name, must_be_json and _parsed(first) is None)
        if whole is not None:
            return whole
    if must_be_json or isinstance(_parsed(first), dict):
        return Rows("line {}".format, _json_lines(text, name))
    return Rows("line {}".format, _lines(text))


def _whole_json(text: str, name: str, must: bool) -> Rows | None:
    """Return the rows of a file that is one JSON value; None: it isn't one.

    An object is a row, or it has the list of rows: {"data": […]}.
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        if must:
            raise PromptError(f"{name}: line {e.lineno}: not JSON: {e.msg}") from e
        return None  # "[INST] …" is a normal text
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list) and value]
        if KNOWN & found.keys() or "body" in found or len(lists) != 1:
            return Rows("line {}".format, iter([(1, found)]))
        return Rows("entry {}".format, iter(enumerate(lists[0], start=1)))
    return Rows(lambda number: _entry_place(text, number), iter(enumerate(found, start=1)))


def _entry_place(text: str, number: int) -> str:
    """Return where the entry of an array is; it is looked for only to name it."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    for _ in range(number):
        between = BETWEEN_ENTRIES.match(text, position)
        start = between.end() if between else position
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # it is stricter than the one that read the file
            return f"entry {number}"
    return f"entry {number} (line {text[:start].count(chr(10)) + 1})"


def _parsed(line: str) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line without its end, and blank ones too."""
    # Not splitlines(): it splits at U+2028, which a prompt may contain.
    lines = text.split("\n" if "\n" in text else "\r")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield number, line.removesuffix("\r")


def _json_lines(text: str, name: str) -> Iterator[Labelled]:
    for number, line in _lines(text):
        if not line.strip():
            continue
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError as e:
            raise PromptError(f"{name}: line {number}: not JSON: {e.msg}") from e


def _table(text: str, delimiters: str, name: str) -> Iterator[Labelled]:
    """Yield the rows below a header, each with the line that it begins on. Raises PromptError."""
    headers = {delimiter: _header(text, delimiter) for delimiter in delimiters}
    delimiter = next((d for d, columns in headers.items() if KNOWN & set(columns)), None)
    if delimiter is None:
        first = next(line for _, line in _lines(text) if line.strip())
        raise PromptError(
            f"{name}: line 1: the header has none of the columns {', '.join(KEYS)} (it begins with"
            f" {first[:40]!r}): name the column of the prompts prompt; a file without a"
            " header is a .txt"
        )
    columns = headers[delimiter]
    twice = [column for column in KNOWN if columns.count(column) > 1]
    if twice:
        raise PromptError(f"{name}: line 1: the column {twice[0]} is there twice")
    for line, cells in itertools.islice(_cells(text, delimiter, name), 1, None):
        if len(cells) != len(columns):
            raise PromptError(
                f"{name}: line {line}: {len(cells)} cells, and {len(columns)} in the header: a cell"
                " with a comma, a tab or a line break in it needs quotes"
            )
        yield line, dict(zip(columns, cells, strict=True))


def _header(text: str, delimiter: str) -> list[str]:
    """Return the columns of a table, if this is its delimiter."""
    try:
        _, cells = next(_cells(text, delimiter, ""), (1, []))
    except PromptError:
        return []  # quotes that make sense with another one
    return [cell.strip().lower() for cell in cells]


def _cells(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row that isn't empty, and the line that it begins on."""
    csv.field_size_limit(sys.maxsize)  # 131,072 characters by default: a prompt may have more
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        began = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            raise PromptError(
                f"{name}: line {began}: its quotes don't match: a quote in a cell is doubled, and"
                " the cell quoted"
            ) from e
        if cells:
            yield began, cells
