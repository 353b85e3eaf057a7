"""Text from servers, data sets and files, made harmless where it is shown.

A model's name or an error message may contain anything: an escape sequence that
moves the terminal's cursor, a pipe that breaks a Markdown table, a tag.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Sequence
from typing import Any

from ..scenario.echoes import echoes
from ..scenario.secrets import MASK

MOST_MASKED = 20_000  # characters of a text that are looked at: nowhere are more shown
LIMIT = 300  # an error body can be a page long
ABSENT = "\N{EN DASH}"  # what a cell shows for a value that doesn't exist
# Characters that mean nothing to Markdown inside a line. (\w includes the underscore: see below.)
PLAIN = r"\w\s.,:;/()%=+\-'\"" + "\N{EN DASH}\N{HORIZONTAL ELLIPSIS}"


def printable(text: object, limit: int = LIMIT) -> str:
    """Return the text on one line, unprintable characters spelled out, shortened to `limit`."""
    line = " ".join(str(text)[: limit * 4].split())
    safe = escaped(line)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def markdown(text: object, limit: int = LIMIT) -> str:
    """Return the text as plain Markdown, for tables too: no markup, tag or mention.

    Characters with a meaning in Markdown become HTML entities, which only a browser reads.
    """
    # An underscore inside a word isn't markup.
    return re.sub(rf"[^{PLAIN}]|(?<![^\W_])_|_(?![^\W_])", _entity, printable(text, limit))


def code(text: object) -> str:
    """Return the text as Markdown code, for tables too."""
    line = printable(text)
    if not line:
        return ABSENT
    # A pipe ends a table's cell even inside backticks.
    if re.search(r"[`|]", line):
        return f"<code>{markdown(line)}</code>"
    return f"`{line}`"


def _entity(found: re.Match[str]) -> str:
    character = found.group()
    if not character.isascii():
        return character
    named = html.escape(character)
    return named if named != character else f"&#{ord(character)};"


def file_name(text: str) -> str:
    """Return a name that can't leave its folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"


def escaped(text: str) -> str:
    """Return the text with all but printable characters and line breaks spelled out.

    Prompts are untrusted: neither an escape sequence nor a character that changes the direction of
    the text may reach a terminal.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode()
        for c in text.replace("\r\n", "\n").expandtabs(4)
    )


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names, the first few of many: `node-a, node-b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def masked(text: str, secrets: Sequence[str]) -> str:
    """Return the text's beginning with *** in place of each secret, and of each piece of one.

    To be used before a text is cut: secrets are found where their echo was cut, too, but their
    first or last characters may then remain.
    """
    return _masked(text[:MOST_MASKED], tuple(secrets)) if secrets else text


@functools.lru_cache(256)  # the same errors come again and again
def _masked(text: str, secrets: tuple[str, ...]) -> str:
    shown, done = list[str](), 0
    for start, end in echoes(text, secrets):
        shown += [text[done:start], MASK]
        done = end
    return "".join([*shown, text[done:]])


def masked_in(found: Any, secrets: Sequence[str]) -> Any:
    """Return a value as JSON has it, with each text in it `masked`."""
    if isinstance(found, dict):
        return {masked_in(key, secrets): masked_in(part, secrets) for key, part in found.items()}
    if isinstance(found, list):
        return [masked_in(part, secrets) for part in found]
    return masked(found, secrets) if isinstance(found, str) else found
