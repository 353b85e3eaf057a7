"""Text from servers, data sets and files, made harmless where it is shown.

A model's name or an error message may contain anything: an escape sequence that
moves the terminal's cursor, a pipe that breaks a Markdown table, a tag.
"""

from __future__ import annotations

import html
import re

LIMIT = 300  # an error body can be a page long
ABSENT = "\N{EN DASH}"  # what a cell shows for a value that doesn't exist
# Characters that mean nothing to Markdown inside a line. (\w includes the underscore: see below.)
PLAIN = r"\w\s.,:;/()%=+\-'\"" + "\N{EN DASH}\N{HORIZONTAL ELLIPSIS}"


def printable(text: object, limit: int = LIMIT) -> str:
    """Return the text on one line, unprintable characters spelled out, shortened to `limit`."""
    line = " ".join(str(text)[: limit * 4].split())
    safe = escaped(line)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def markdown(text: object) -> str:
    """Return the text as plain Markdown, for tables too: no markup, tag or mention.

    Characters with a meaning in Markdown become HTML entities, which only a browser reads.
    """
    # An underscore inside a word isn't markup.
    return re.sub(rf"[^{PLAIN}]|(?<![^\W_])_|_(?![^\W_])", _entity, printable(text))


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
