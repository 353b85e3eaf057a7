"""Reads what Python programs print of themselves: `{'a': 1, 'b': <Kind.x: 'x'>}`, `a=1, b='x'`.

Nothing is run. What is no literal is skipped alone, and not with all that stands around it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any


def entries(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a dict's text, with its braces."""
    for part in _parts(text.strip()[1:-1]):
        name, _, value = part.partition(":")
        yield name.strip().strip("'\""), value_of(value)


def pairs(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of `name=value, ...`."""
    for part in _parts(text):
        name, _, value = part.partition("=")
        yield name.strip(), value_of(value)


def value_of(text: str) -> Any:
    """Return a value from its text: a literal of Python, else a bare word (`auto`), else None."""
    text = text.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that escapes nothing
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text if re.fullmatch(r"[\w./:+-]{1,200}", text) else None


def _parts(text: str) -> Iterator[str]:
    """Yield what stands between commas that are in no bracket and no quote."""
    depth, quote, start, skip = 0, "", 0, False
    for at, c in enumerate(text):
        if skip or (quote and c == "\\"):
            skip = not skip
        elif quote or c in "'\"":
            quote = c if not quote else "" if c == quote else quote
        elif c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth = max(0, depth - 1)  # of an arrow
        elif c == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]
