"""What an answer says, and whether it is right. Pure.

The answer is what follows the last `####`, or stands in the last `\\boxed{}`; without either the
last number of the text, and the reading is marked `unparsed`. Numbers are compared as numbers:
commas, currency, a per cent sign and a final full stop don't count. Other answers are right where
they are equal, blanks around them aside.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

CLOSE = Decimal("1e-6")  # as far as a number may be off: 0.333333 for a third
MOST_FOUND = 64  # characters of an answer that are kept
# What marks an answer, `####` or `\boxed{`; after `####` it is the rest of the line, or the next
# line that isn't empty.
MARK = re.compile(r"####[ \t]*:?[ \t]*(?:\r?\n[ \t]*)*([^\r\n]*)|\\boxed\s*\{")
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,60})(?:\.\d{1,60})?|[-+]?\.\d{1,60}")
ASIDE = re.compile(r"\([^()]*\)")
AROUND = " \t\r\n*_`'\"$<>()"  # what models put around an answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says."""

    found: str | None  # None: no answer was found
    unparsed: bool  # nothing marks it: it is the last number, or there is none


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer, scored."""

    right: bool
    found: str | None
    unparsed: bool
    cut: bool  # max_tokens ended it, so that it is wrong
    text_sha256: str


def scored(text: str, wanted: str, *, cut: bool) -> Scored:
    """Return whether a text has the wanted answer; `cut`: it ends at max_tokens."""
    answer = read_answer(text, numeric=number_of(wanted) is not None)
    right = not cut and answer.found is not None and same(answer.found, wanted)
    found = None if answer.found is None else answer.found[:MOST_FOUND]
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return Scored(right, found, answer.unparsed, cut, digest)


def read_answer(text: str, *, numeric: bool) -> Answer:
    """Return what a text answers; `numeric`: a number was asked for."""
    marked = _last_marked(text)
    found = _number_in(marked) if numeric else _bare(marked)
    if found:
        return Answer(found, unparsed=False)
    last = _last_number(text) if numeric else None
    return Answer(last, unparsed=True)


def same(found: str, wanted: str) -> bool:
    """Return whether two answers are equal: as numbers where the wanted one is a number."""
    number = number_of(wanted)
    if number is None:
        return _bare(found) == _bare(wanted)
    other = number_of(found)
    return other is not None and abs(other - number) <= CLOSE


def number_of(text: str) -> Decimal | None:
    """Return the number that a whole text is, `$1,200.` say; None: it is none."""
    bare = _plain(text).strip(AROUND).removesuffix("%").strip(AROUND)
    bare = bare.removesuffix(".").replace("$", "")
    return Decimal(bare.replace(",", "")) if NUMBER.fullmatch(bare) else None


def _last_marked(text: str) -> str:
    """Return what stands after the last mark; empty: there is none."""
    last = _last(MARK.finditer(text))
    if last is None:
        return ""
    return _braced(text, last.end()) if last[1] is None else last[1]


def _last(found: Iterable[re.Match[str]]) -> re.Match[str] | None:
    return next(iter(deque(found, maxlen=1)), None)


def _braced(text: str, begin: int) -> str:
    """Return what stands before the brace that closes the one before `begin`."""
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return ""  # cut before its end


def _number_in(marked: str) -> str | None:
    """Return a marked line's number: of `3 * 4 = 12` what it comes to, of `12 apples` the 12.

    Of `12 = 3 * 4` too, whose one side is a number alone, and of `12 (3 = 2 + 1)`.
    """
    whole = _plain(marked)
    outside = ASIDE.sub(" ", whole)
    piece = outside if NUMBER.search(outside) else whole
    sides = piece.split("=")
    alone = [side for side in sides if number_of(side) is not None]
    found = NUMBER.search([*sides, *alone][-1]) or NUMBER.search(piece)
    return found[0] if found else None


def _last_number(text: str) -> str | None:
    last = _last(NUMBER.finditer(_plain(text)))
    return last[0] if last else None


def _plain(text: str) -> str:
    """Return a text without what LaTeX and Unicode put into numbers."""
    plain = text.replace("\N{MINUS SIGN}", "-").replace("{,}", ",").replace("\\!", "")
    return plain.replace("\\$", "").replace("$", "").replace("\\%", "%")


def _bare(text: str) -> str:
    return text.strip(AROUND).removesuffix(".").strip(AROUND)
