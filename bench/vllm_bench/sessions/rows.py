"""Files of recorded sessions as rows: JSON lines, or one JSON value, each also packed with gzip.

Lines are read one after the other, so that a file may be longer than the memory. A row is an object
and where it is, which every complaint about it begins with. Nothing is told by a file's name.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from ..records.text import printable
from ..small_file import UnreadableError, opened
from .session import SessionError

MOST_ROW = 1 << 28  # bytes of a line, or of a file that isn't of lines
MOST_BYTES = 1 << 33  # of a file, unpacked
MOST_FILES = 100_000
GZIP = b"\x1f\x8b"
MARK = b"\xef\xbb\xbf"  # UTF-8's


class Row(NamedTuple):
    """An object of a file."""

    where: str  # sessions.jsonl: line 3
    given: dict[str, Any]
    file: Path


class NotJsonError(Exception):
    """A file that doesn't begin as JSON; the text is its first line, cut."""


def files_of(path: Path) -> list[Path]:
    """Return the file, or the files of the folder, in the order of their names.

    Hidden ones and folders in it don't count. Raises SessionError.
    """
    path = path.expanduser()
    try:
        if not path.is_dir():
            return [path]
        found = sorted(f for f in path.iterdir() if not f.name.startswith(".") and f.is_file())
    except OSError as e:
        raise SessionError(f"{path}: can't be read: {e.strerror}") from e
    except ValueError as e:  # a name with NUL
        raise SessionError(f"{printable(path)}: can't be read: no file has such a name") from e
    if not found:
        raise SessionError(f"{path}: a folder without files")
    if len(found) > MOST_FILES:
        raise SessionError(f"{path}: {len(found):,} files: at most {MOST_FILES:,} are read")
    return found


def rows_of(file: Path) -> Iterator[Row]:
    """Yield the objects of a file, in its order. Raises SessionError, NotJsonError at the first."""
    try:
        with opened(file) as raw, _unpacked(raw) as text:
            yield from _rows(file, text)
    except UnreadableError as e:
        raise SessionError(f"{printable(file)}: {e}") from e
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise SessionError(f"{file}: its gzip is cut off or damaged: fetch it again") from e
    except OSError as e:
        raise SessionError(f"{file}: can't be read: {e.strerror}") from e


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    packed = raw.read(2) == GZIP
    raw.seek(0)
    return io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw


def _rows(file: Path, text: IO[bytes]) -> Iterator[Row]:
    number, line, read = 0, b"", 0
    while not line.strip():
        number, line = number + 1, text.readline(MOST_ROW + 1)
        if not line:
            raise SessionError(f"{file}: empty: no sessions")
        line = line.removeprefix(MARK) if number == 1 else line
    if line.lstrip()[:1] not in (b"{", b"["):
        raise NotJsonError(printable(line[:400].decode(errors="replace"), 80))
    if _parsed(line) is None:
        whole = line + text.read(max(0, MOST_ROW + 1 - len(line)))  # one value over several lines
        yield from _objects(file, _checked(file, whole, number), "")
        return
    while line:
        if line.strip():
            yield from _objects(file, _checked(file, line, number), f"line {number}")
        read += len(line)
        if read > MOST_BYTES:
            raise SessionError(f"{file}: longer than {MOST_BYTES >> 30} GiB: take a part")
        number, line = number + 1, text.readline(MOST_ROW + 1)


def _objects(file: Path, found: Any, where: str) -> Iterator[Row]:
    """Yield an object, or those of a list."""
    listed = found if isinstance(found, list) else [found]
    for number, one in enumerate(listed, start=1):
        entry = f"entry {number}" if isinstance(found, list) else ""
        place = ": ".join(part for part in (str(file), where, entry) if part)
        if not isinstance(one, dict):
            raise SessionError(f"{place}: expected an object, given {printable(repr(one), 40)}")
        yield Row(place, one, file)


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _checked(file: Path, text: bytes, first: int) -> Any:
    """Return the value of a text that begins at line `first`."""
    if len(text) > MOST_ROW:
        raise SessionError(f"{file}: line {first}: longer than {MOST_ROW:,} bytes")
    try:
        return orjson.loads(text.rstrip())
    except orjson.JSONDecodeError as e:
        raise SessionError(f"{file}: line {first + e.lineno - 1}: not JSON: {e.msg}") from e
