"""The words of a picture: what the fonts can draw, and headings that fit."""

from __future__ import annotations

import textwrap
from functools import cache
from typing import Any

from matplotlib import font_manager

from ...records.text import printable
from ..chart import FONT, OTHER_FONTS, Heading

TITLE_SIZE = 16
SUBTITLE_PER_IN = 10.4  # characters
MOST_TITLE_LINES = 3
DOT = " · "
HARD = "\N{NO-BREAK SPACE}"  # a line ends at none


def title_lines(words: str, width_in: float) -> str:
    """Return a title in as many lines as it needs, cut if these are too many."""
    words = drawable(words)
    each_in = max(_title_width_in(part) / len(part) for part in textwrap.wrap(words, 40))
    lines = textwrap.wrap(words, max(1, int((width_in - 0.3) / each_in)))
    if len(lines) > MOST_TITLE_LINES:
        lines = [*lines[: MOST_TITLE_LINES - 1], lines[MOST_TITLE_LINES - 1][:-1] + "…"]
    return "\n".join(lines)


def _title_width_in(line: str) -> float:
    font: Any = font_manager.get_font(font_manager.findfont(f"{FONT}:bold"))
    font.set_size(TITLE_SIZE, 72)
    font.set_text(line)
    return float(font.get_width_height()[0]) / 64 / 72


def subtitle_lines(heading: Heading, width_in: float) -> str:
    """Return what stands under the title: how it was measured, and the verdict."""
    length = int(SUBTITLE_PER_IN * width_in)
    parts = drawable(heading.setup).split(DOT)
    setup = DOT.join(part if len(part) > length // 2 else part.replace(" ", HARD) for part in parts)
    verdict = drawable(heading.verdict, 500)
    lines = [*wrapped(setup, length)[:3], *wrapped(verdict, length, max_lines=4, placeholder=" …")]
    return "\n".join(lines)


def wrapped(text: str, length: int, **limits: Any) -> list[str]:
    """Return drawable text in lines, none of which begins with the % of a number."""
    lines = textwrap.wrap(text.replace(" %", f"{HARD}%"), length, **limits)
    return [line.replace(HARD, " ") for line in lines]


def drawable(text: str, limit: int = 300) -> str:
    """Return untrusted text, its lines kept, with a question mark where no font has a glyph."""
    lines = (printable(line, limit) for line in text.split("\n"))
    return "\n".join("".join(c if _font_has(c) else "?" for c in line) for line in lines)


@cache
def _font_has(character: str) -> bool:
    return any(_face(name).get_char_index(ord(character)) for name in fonts())


@cache
def fonts() -> list[str]:
    """Return the fonts to draw with: matplotlib's own, then what the machine has for other text."""
    there = {entry.name for entry in font_manager.fontManager.ttflist}
    return [FONT, *(name for name in OTHER_FONTS if name in there)]


@cache
def _face(name: str) -> Any:
    return font_manager.get_font(font_manager.findfont(name))
