"""Finds secrets in what a server says, in whatever way it echoes them.

A server shows a key as it has it: percent-encoded, in JSON or HTML, in hex, in base64 after its
user, with other blanks, in capitals; and it may cut it. So what is looked for is each piece of 8
characters, in the text as it is and in the text decoded: without blanks and escapes, in lower case.
"""

from __future__ import annotations

import base64
import functools
import html
import re
from collections.abc import Iterable, Iterator

PIECE = 8  # characters of a secret that are never shown together
SHORTEST = 4  # of a secret that is looked for
ROUNDS = 3  # of escapes inside escapes
ESCAPES = re.compile(
    rb"(?P<percent>%[0-9a-f]{2})"
    rb"|\\+u(?P<pair>d[89ab][0-9a-f]{2}\\+ud[c-f][0-9a-f]{2})"
    rb"|\\+(?:u(?P<u>[0-9a-f]{4})|x(?P<x>[0-9a-f]{2})|u\{(?P<long>[0-9a-f]{1,6})\})"
    rb"|(?P<html>&(?:#x[0-9a-f]{1,6}|#[0-9]{1,7}|[a-z]{2,6});)"
    rb"|\\+[nrtfv]?|[\s\x00-\x1f\x7f]+",
    re.IGNORECASE,
)

Spans = list[tuple[int, int]]  # where each character that is compared is in the text
Pieces = dict[int, frozenset[bytes]]  # by their length


def echoes(text: str, secrets: tuple[str, ...]) -> Spans:
    """Return where secrets and their pieces are, from the first to the last, none overlapping."""
    as_written, decoded = _pieces(secrets)
    if text.isascii() and _has_none(text, as_written, decoded):
        return []
    merged: Spans = []
    found = {*_places(*_written(text), as_written), *_places(*_decoded(text), decoded)}
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _has_none(text: str, as_written: Pieces, decoded: Pieces) -> bool:
    """Whether no piece is in an ASCII text: what `_places` finds, without the places, and fast."""
    written = re.sub(r"\s+", " ", text).lower().encode()
    form = text.lower().encode()
    for _ in range(ROUNDS):
        form = ESCAPES.sub(_meaning, form)
    return _apart(written, as_written) and _apart(form.lower(), decoded)


def _apart(form: bytes, pieces: Pieces) -> bool:
    return all(
        known.isdisjoint([form[at : at + length] for at in range(len(form) - length + 1)])
        for length, known in pieces.items()
    )


def _places(form: bytes, spans: Spans, pieces: Pieces) -> Iterator[tuple[int, int]]:
    for length, known in pieces.items():
        for at in range(len(form) - length + 1):
            if form[at : at + length] in known:
                yield spans[at][0], spans[at + length - 1][1]


@functools.lru_cache(64)
def _pieces(secrets: tuple[str, ...]) -> tuple[Pieces, Pieces]:
    """Return what to look for: in a text as it is written, and in a decoded one."""
    forms = {re.sub(blank, "+", secret) for secret in secrets for blank in (r"\s", r"\s+")}
    decoded = [_decoded(secret)[0] for secret in {*secrets, *forms}]  # a form has + for a blank
    encoded = [way for secret in secrets for way in _encoded(secret.encode(errors="replace"))]
    return _by_length(_written(secret)[0] for secret in secrets), _by_length([*decoded, *encoded])


def _by_length(whole: Iterable[bytes]) -> Pieces:
    """Return all pieces of PIECE bytes, and what is shorter as a whole."""
    pieces: dict[int, set[bytes]] = {}
    for text in whole:
        length = min(len(text), PIECE)
        for at in range(len(text) - length + 1 if length >= SHORTEST else 0):
            pieces.setdefault(length, set()).add(text[at : at + length])
    return {length: frozenset(found) for length, found in pieces.items()}


def _encoded(secret: bytes) -> Iterator[bytes]:
    """Yield a secret in hex, and in base64 after 0, 1 or 2 bytes of what stands before it."""
    yield secret.hex().encode()
    for before, unlike in enumerate((0, 2, 3)):
        coded = base64.b64encode(b"\0" * before + secret).lower()
        alike = coded[unlike : (before + len(secret)) * 8 // 6]
        yield from {alike, alike.translate(bytes.maketrans(b"+/", b"-_"))}


def _written(text: str) -> tuple[bytes, Spans]:
    """Return the text's UTF-8 in lower case, one blank for several, and where each byte was."""
    form, spans = _utf_8((" " if m[0].isspace() else m[0], m.span()) for m in RUNS.finditer(text))
    return form.lower(), spans


RUNS = re.compile(r"\s+|\S")


def _decoded(text: str) -> tuple[bytes, Spans]:
    """Return the text decoded, without what isn't printable, and where each byte was."""
    seen = ((c, (at, at + 1)) for at, c in enumerate(text) if c.isascii() or c.isprintable())
    form, spans = _utf_8(seen)
    for _ in range(ROUNDS):
        if not ESCAPES.search(form):
            break
        form, spans = _unescaped(form, spans)
    return form.lower(), spans


def _utf_8(characters: Iterable[tuple[str, tuple[int, int]]]) -> tuple[bytes, Spans]:
    form, spans = bytearray(), list[tuple[int, int]]()
    for character, span in characters:
        small = character.lower().encode(errors="replace")
        form += small
        spans += [span] * len(small)
    return bytes(form), spans


def _unescaped(form: bytes, spans: Spans) -> tuple[bytes, Spans]:
    decoded, places, done = bytearray(), list[tuple[int, int]](), 0
    for escape in ESCAPES.finditer(form):
        start, end = escape.span()
        meant = _meaning(escape)
        decoded += form[done:start] + meant
        places += spans[done:start] + [(spans[start][0], spans[end - 1][1])] * len(meant)
        done = end
    return bytes(decoded + form[done:]), places + spans[done:]


def _meaning(escape: re.Match[bytes]) -> bytes:
    if percent := escape["percent"]:
        return bytes.fromhex(percent[1:].decode())
    if pair := escape["pair"]:
        units = bytes.fromhex("".join(re.findall("d[0-9a-f]{3}", pair.decode(), re.I)))
        return units.decode("utf-16-be").lower().encode()
    if number := escape["u"] or escape["x"] or escape["long"]:
        meant = chr(min(int(number, 16), 0x10FFFF))
        return meant.lower().encode(errors="replace")
    if entity := escape["html"]:
        return html.unescape(entity.decode()).lower().encode(errors="replace")
    return b""
