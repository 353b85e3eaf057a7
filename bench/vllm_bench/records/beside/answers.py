"""`answers/<run_id>.csv`: what the answers to questions said, and whether they were right.

One row for each request that succeeded, in the order of their ends. `answers/<run_id>.jsonl`, with
bench.py --texts, has the texts themselves, secrets masked; a text of over 20,000 characters is cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from ..request_record import RecordsError
from ..row import Rows, bad_row, column_types, columns, complete_lines, csv_lines, doc, rows_of
from ..safe_file import new_file, read_regular
from ..text import MOST_MASKED, masked

MOST_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """The answer to one question."""

    request_index: int = doc("the request's place in the plan, as in the rows")
    prompt_id: str = doc("the question's name in its set: answers of several runs pair by it")
    right: int = doc("1: its answer is the set's; 0: another, none, or cut off")
    found: str | None = doc("the answer that was read; empty: none was found")
    unparsed: int = doc(
        "1: nothing marks it (`####`, `\\boxed{}`): it is the last number, or there is none"
    )
    cut: int = doc("1: max_tokens ended the reply, so that it isn't right")
    text_sha256: str = doc("of the visible text, thoughts left out")
    tokens: int | None = doc("generated tokens, thoughts included, by the server's usage")


class AnswerWriter:
    """Appends answers to the file of a run, and their texts to another one if they are kept."""

    def __init__(self, folder: Path, run_id: str, *, texts: bool = False) -> None:
        """Create the files. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = os.fdopen(new_file(folder / f"{run_id}.csv"), "wb")
        self._texts = os.fdopen(new_file(folder / f"{run_id}.jsonl"), "wb") if texts else None
        self._rows.write(",".join(columns(AnswerRow)).encode() + b"\n")
        self._rows.flush()

    def write(self, answers: Iterable[tuple[AnswerRow, str]], secrets: tuple[str, ...]) -> None:
        """Append answers with their texts, now. Raises OSError."""
        found = list(answers)
        self._rows.write(csv_of(row for row, _ in found))
        self._rows.flush()
        if self._texts is not None:
            self._texts.write(b"".join(text_line(row, text, secrets) for row, text in found))
            self._texts.flush()

    def close(self) -> None:
        self._rows.close()
        if self._texts is not None:
            self._texts.close()


def csv_of(rows: Iterable[AnswerRow]) -> bytes:
    """Return answers as lines of CSV."""
    return csv_lines(rows).encode(errors="backslashreplace")


def text_line(row: AnswerRow, text: str, secrets: tuple[str, ...]) -> bytes:
    """Return what an answer says as a line of JSON, secrets masked."""
    shown = masked(text[:MOST_MASKED], secrets).encode(errors="backslashreplace").decode()
    said = {"request_index": row.request_index, "prompt_id": row.prompt_id, "text": shown}
    return orjson.dumps(said) + b"\n"


def read_answers(run: Path) -> Rows | None:
    """Read the answers of a run, by its rows' file; None: it has none.

    A last line that a kill cut off is left out. Raises RecordsError where the file is damaged.
    """
    path = run.parent / "answers" / f"{run.stem}.csv"
    if not os.path.lexists(path):
        return None
    try:
        return _checked(complete_lines(read_regular(path, MOST_BYTES)))
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    except (ValueError, OverflowError) as e:
        raise RecordsError(f"{path}: not the answers of a run: {e}") from e


def _checked(lines: bytes) -> Rows:
    """Return the rows. Raises ValueError where one can't be, or a request has two."""
    import numpy as np

    problem = bad_row(lines)
    if problem:
        raise ValueError(problem)
    rows = rows_of(lines, column_types(AnswerRow))
    for name in ("right", "unparsed", "cut"):
        if not np.isin(rows[name], (0, 1)).all():
            raise ValueError(f"{name} is neither 0 nor 1")
    if np.unique(rows["request_index"]).size < len(rows):
        raise ValueError("a request has two answers")
    if not (rows.has("prompt_id").all() and rows.has("text_sha256").all()):
        raise ValueError("a row has no prompt_id or text_sha256")
    return rows
