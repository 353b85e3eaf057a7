"""The files of a run that is over, taken up again: what has come since is appended to them.

Each is looked at by itself: a kill may have come between two of them. What a kill cut off is taken
away first, and a request that a file has already is never written to it again.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from ..request_record import COLUMNS, RecordsError, RequestRecord, read_rows
from ..row import complete_lines, csv_lines
from ..safe_file import read_regular, write_atomically
from .answers import AnswerRow, csv_of, read_answers, text_line
from .token_file import MOST_BYTES, Reads, frame, frames_of, load, recover, save

if TYPE_CHECKING:
    from .token_file import Arrays

NS_PER_S = 1_000_000_000
HEADER = ",".join(COLUMNS).encode() + b"\n"


class MoreRows:
    """Appends to a run's rows, stamps of tokens and answers, as far as it has them."""

    def __init__(self, rows: Path) -> None:
        """Open its files. Raises RecordsError where they can't be appended to, OSError."""
        with ExitStack() as stack:
            self._rows = _Rows(rows, stack)
            self._answers = _Answers(rows, stack)
            self._tokens = _Tokens(rows, stack)  # which may make a file
            self._stack = stack.pop_all()

    def write(
        self, ended: Sequence[tuple[RequestRecord, Reads, tuple[AnswerRow, str] | None]]
    ) -> int:
        """Append what isn't there yet; return how many rows that were. Raises OSError."""
        count = self._rows.write([record for record, _, _ in ended])
        for record, reads, _ in ended:
            self._tokens.write(record.request_index, self._rows.beside(record, reads))
        self._answers.write([answer for _, _, answer in ended if answer is not None])
        return count

    def close(self) -> None:
        """Write what is written at the end, and close. Raises OSError."""
        with self._stack:
            self._tokens.end()


def _at_end(path: Path, whole_bytes: int, stack: ExitStack) -> BinaryIO:
    """Open a file behind its whole part, and cut off the rest. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = stack.enter_context(os.fdopen(descriptor, "ab"))
    os.ftruncate(descriptor, whole_bytes)
    return file


def _whole_bytes(path: Path) -> int:
    return len(complete_lines(read_regular(path, MOST_BYTES)))


class _Rows:
    def __init__(self, path: Path, stack: ExitStack) -> None:
        begun = complete_lines(read_regular(path, MOST_BYTES))
        if begun and not begun.startswith(HEADER):
            raise RecordsError(f"{path}: its columns are those of another version")
        self._have: set[int] = set()
        self._sent_s: dict[int, float] = {}  # of the rows that were there
        if begun:
            rows = read_rows(path)
            indexes = rows["request_index"].tolist()
            self._have.update(indexes)
            self._sent_s.update(zip(indexes, rows["t_sent_s"].tolist(), strict=True))
        self._file = _at_end(path, len(begun), stack)
        if not begun:
            self._file.write(HEADER)

    def write(self, records: Sequence[RequestRecord]) -> int:
        new = {r.request_index: r for r in records if r.request_index not in self._have}
        self._have |= new.keys()
        self._file.write(csv_lines(new.values()).encode(errors="backslashreplace"))
        self._file.flush()
        return len(new)

    def beside(self, record: RequestRecord, reads: Reads) -> Reads:
        """Return the stamps of a request as they fit its row, which may have been there.

        Then another guess of its machine's clock has moved it, by some microseconds.
        """
        there_s = self._sent_s.get(record.request_index)
        if there_s is None or record.t_sent_s is None or not math.isfinite(there_s):
            return reads
        stamps, events, tokens = reads
        later_ns = round((there_s - record.t_sent_s) * NS_PER_S)
        return array("q", (stamp + later_ns for stamp in stamps)), events, tokens


class _Tokens:
    def __init__(self, rows: Path, stack: ExitStack) -> None:
        self._whole = rows.parent / "tokens" / f"{rows.stem}.npz"
        self._part = self._whole.with_suffix(".part")
        self._is_whole = os.path.lexists(self._whole)
        self._file: BinaryIO | None = None
        self._have: set[int] = set()
        self._new = 0
        if not self._is_whole and not os.path.lexists(self._part):
            return  # it keeps no stamps
        found = _stamps(self._whole if self._is_whole else self._part, whole=self._is_whole)
        self._have = set(found["request_index"].tolist())
        if self._is_whole:
            write_atomically(self._part, b"".join(frames_of(found)))
        self._file = _at_end(self._part, _frames_bytes(found), stack)

    def write(self, index: int, reads: Reads) -> None:
        if self._file is not None and index not in self._have:
            self._have.add(index)
            self._new += 1
            self._file.write(frame(index, reads))

    def end(self) -> None:
        """Write the complete file again, if there was one."""
        if self._file is None:
            return
        self._file.flush()
        if self._is_whole:
            if self._new:
                save(recover(self._part), self._whole)
            self._part.unlink()


def _stamps(path: Path, *, whole: bool) -> Arrays:
    try:
        return load(path) if whole else recover(path)
    except ValueError as e:
        raise RecordsError(f"{path}: damaged: {e}") from e


def _frames_bytes(found: Arrays) -> int:
    empty = array("q"), array("H"), array("H")
    a_read = sum(part.itemsize for part in empty)
    return len(found["request_index"]) * len(frame(0, empty)) + len(found["t_ns"]) * a_read


class _Answers:
    """Rows of answers, and their texts, which may have been cut off elsewhere."""

    def __init__(self, rows: Path, stack: ExitStack) -> None:
        path = rows.parent / "answers" / rows.name
        texts = path.with_suffix(".jsonl")
        found = read_answers(rows)
        self._have = set(found["request_index"].tolist()) if found is not None else set()
        self._told = _told(texts) if os.path.lexists(texts) else set()
        self._rows = _at_end(path, _whole_bytes(path), stack) if found is not None else None
        self._texts = _at_end(texts, _whole_bytes(texts), stack) if os.path.lexists(texts) else None

    def write(self, answers: Sequence[tuple[AnswerRow, str]]) -> None:
        if self._rows is not None:
            new = {row.request_index: row for row, _ in answers}
            self._rows.write(csv_of(row for i, row in new.items() if i not in self._have))
            self._have |= new.keys()
        if self._texts is not None:
            lines = {row.request_index: text_line(row, text, ()) for row, text in answers}
            self._texts.write(b"".join(line for i, line in lines.items() if i not in self._told))
            self._told |= lines.keys()


def _told(texts: Path) -> set[int]:
    """Return the requests whose texts are there. Raises RecordsError."""
    lines = complete_lines(read_regular(texts, MOST_BYTES)).splitlines()
    try:
        return {orjson.loads(line)["request_index"] for line in lines}
    except (ValueError, TypeError, KeyError) as e:
        raise RecordsError(f"{texts}: damaged: {e}") from e
