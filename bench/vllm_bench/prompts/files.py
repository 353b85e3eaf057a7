"""Prompts from the user's own file: JSON lines, one JSON array, or text with one prompt per line.

The content decides the format. The endings .json, .jsonl and .ndjson only mean that the file must
be JSON, so that a damaged line is an error and not a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import orjson

from .prompt import Prompt, PromptError, PromptSource, without_repeats
from .rows import RowError, messages_of_row

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
Labelled = tuple[int, object]  # a row and its number, counted from 1
T = TypeVar("T")


def read_prompt_file(path: Path) -> PromptSource:
    """Read every prompt of the file. Raises PromptError naming the file, the line and the fault."""
    rows = list(read_rows(path, messages_of_row))
    prompts = [Prompt(f"file:{number}", found) for number, found in rows if found is not None]
    return without_repeats(f"file:{path}", prompts, skipped=len(rows) - len(prompts))


def read_rows(path: Path, read: Callable[[object], T]) -> Iterator[tuple[int, T]]:
    """Yield the number of each row of the file, from 1, and what `read` makes of it.

    Raises PromptError naming the file, the row and the fault; `read` may raise RowError.
    """
    unit, rows = _rows(path, _read_text(path.expanduser(), f"file:{path}"))
    for number, row in rows:
        try:
            found = read(row)
        except RowError as e:
            raise PromptError(f"file:{path}: {unit} {number}: {e}") from e
        yield number, found


def _read_text(path: Path, name: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise PromptError(f"{name}: can't be read: {e.strerror}") from e
    if b"\0" in data:
        raise PromptError(f"{name}: a binary file; it must be UTF-8 text or JSON")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise PromptError(f"{name}: line {line}: not UTF-8") from e
    if not text.strip():
        raise PromptError(f"{name}: empty: no prompts")
    return text


def _rows(path: Path, text: str) -> tuple[str, Iterator[Labelled]]:
    array = _json_array(path, text)
    if array is not None:
        return "entry", iter(enumerate(array, start=1))
    if path.suffix.lower() in JSON_ENDINGS or _is_json_object(_lines(text)):
        return "line", _json_lines(path, text)
    return "line", _lines(text)


def _json_array(path: Path, text: str) -> list[object] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        if path.suffix.lower() == ".json":
            raise PromptError(f"file:{path}: line {e.lineno}: not JSON: {e.msg}") from e
        return None  # "[INST] …" is a normal text
    return list(found)


def _is_json_object(lines: Iterator[Labelled]) -> bool:
    """Return whether the first line is a JSON object, which is unlikely as a prompt."""
    _, first = next(lines)
    try:
        return isinstance(orjson.loads(str(first)), dict)
    except orjson.JSONDecodeError:
        return False


def _lines(text: str) -> Iterator[Labelled]:
    # Not splitlines(): it splits at U+2028, which a prompt may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def _json_lines(path: Path, text: str) -> Iterator[Labelled]:
    for number, line in _lines(text):
        try:
            yield number, orjson.loads(str(line))
        except orjson.JSONDecodeError as e:
            raise PromptError(f"file:{path}: line {number}: not JSON: {e.msg}") from e
