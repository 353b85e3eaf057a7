"""JSON as servers really write it, and the server's own words in whatever shape they come."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import orjson

Text = bytes | bytearray

MOST_WORDS = 1 << 16  # characters that are kept of what a server says; a row has the first of them
MOST_DIGITS = 400  # of a whole number; Python refuses to read one of more than 4,300
# Python's reader and writer of JSON give up at a depth that depends on who calls them.
MOST_DEPTH = 200
STRING = re.compile(rb'"[^"]*"')  # once what is escaped is gone
STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
OTHERS = bytes(set(range(256)) - STEPS.keys())
TAG = re.compile(r"<[^<>]*>")


def read_json(text: Text) -> Any:
    """Return a JSON value. Raises ValueError where it is none.

    What strict readers refuse is read too: half of a surrogate pair, NaN and Infinity, numbers of
    any length, a byte order mark, bytes that aren't UTF-8. None of it makes a reply less whole.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    if text.count(b"[") + text.count(b"{") > MOST_DEPTH and _is_deep(text):
        raise ValueError("nested too deeply")
    return json.loads(text.decode(errors="replace").removeprefix("\ufeff"), parse_int=_whole)


def _is_deep(text: Text) -> bool:
    """Whether JSON is nested more deeply than MOST_DEPTH."""
    bare = STRING.sub(b"", text.replace(b"\\\\", b"").replace(b'\\"', b""))
    brackets = bare.translate(None, delete=OTHERS)
    return any(depth > MOST_DEPTH for depth in accumulate(map(STEPS.__getitem__, brackets)))


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def one_line(text: str) -> str:
    """Return a text on one line. A long one is cut between two words: half of a secret stays one.

    It isn't cut to what a row shows: what is secret in it must first be found, whole.
    """
    line = " ".join(text.split())
    return line if len(line) <= MOST_WORDS else line[:MOST_WORDS].rpartition(" ")[0]


def as_text(value: object) -> str:
    """Return a JSON value as JSON."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # too deep, too large a number, half a surrogate pair
        pass
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
    return "(nested too deeply)" if level else json.dumps(value)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def error_text(reply: object) -> str:
    """Return the server's message from an error's JSON in any of its known shapes."""
    found, inner = reply, reply
    while inner is not None:
        found, inner = inner, _inner(inner)
    return one_line(found if isinstance(found, str) else as_text(found))


def _inner(reply: object) -> object:
    if not isinstance(reply, dict):
        return None
    return next((reply[key] for key in ("error", "detail", "message") if reply.get(key)), None)


def error_code(reply: object) -> int | None:
    """Return the HTTP status that an error's JSON gives, if it does: inside a 200 it tells more."""
    while isinstance(reply, dict):
        for key in ("code", "status_code", "http_status_code", "status"):
            code = reply.get(key)
            if isinstance(code, str) and len(code) == 3 and code.isdecimal():
                code = int(code)
            if type(code) is int and 400 <= code < 600:
                return code
        reply = reply.get("error")
    return None


def words_of(body: Text) -> str:
    """Return what a body says: an error's message, a page's title, or else its text."""
    text = body.decode(errors="replace")
    try:
        return error_text(read_json(body))
    except ValueError:
        pass
    return one_line(_page_text(text) if text.lstrip("\ufeff \t\r\n").startswith("<") else text)


def _page_text(page: str) -> str:
    title = page.lower().find("<title")
    begin = page.find(">", title) + 1 if title >= 0 else 0
    end = page.lower().find("</title", begin) if begin else -1
    if end > begin and page[begin:end].strip():
        return html.unescape(page[begin:end])
    return html.unescape(TAG.sub(" ", page))
