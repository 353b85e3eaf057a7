"""A request that has ended as a line of JSON, and back.

Not a pickle: to read one runs whatever it says, and one of another version of this code is misread
without a word. A line names its values, so that unknown ones are left out; one that a kill has cut
off lacks its end, and a person can read it.
"""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import orjson

from ...crew.judged import Judged
from ...plan.requests import Role
from ...records.beside.answers import AnswerRow
from ...records.beside.token_file import READ_TYPES
from ...records.request_record import RequestRecord
from ...records.row import replaced
from ...records.text import MOST_MASKED, masked
from ..messages import Correction

Kind = TypeVar("Kind", RequestRecord, AnswerRow, Correction)
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError)


def line_of(one: Judged, secrets: tuple[str, ...]) -> bytes:
    """Return a request as a line, secrets masked in what it says."""
    if one.answer is not None:
        row, text = one.answer
        one = replaced(one, answer=(row, masked(text[:MOST_MASKED], secrets)))
    return as_line(one)


def as_line(found: Judged | dict[str, Any]) -> bytes:
    """Return what has names and values as a line; also texts that have half a surrogate pair."""
    try:
        return orjson.dumps(found, default=_plain, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return json.dumps(found, default=_plain).encode() + b"\n"


def _plain(found: Any) -> Any:
    return found.tolist() if isinstance(found, array) else dataclasses.asdict(found)


def mapping(line: bytes) -> dict[str, Any]:
    """Return what a line says. Raises ValueError, TypeError."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:  # half a surrogate pair
        found = json.loads(line)
    if not isinstance(found, dict):
        raise TypeError("not a mapping")
    return found


def judged(found: dict[str, Any]) -> Judged:
    """Return the request that a line says. Raises what is in `DAMAGED`."""
    role: Role = found["role"]
    if role not in get_args(Role):
        raise ValueError("an unknown role")
    kinds = [kind for _, kind in READ_TYPES]
    stamps, events, tokens = (array(k, v) for k, v in zip(kinds, found["reads"], strict=True))
    if not len(stamps) == len(events) == len(tokens):
        raise ValueError("reads that don't fit together")
    answer = found["answer"]
    return Judged(
        role,
        made(RequestRecord, found["record"]),
        (stamps, events, tokens),
        answer and (made(AnswerRow, answer[0]), str(answer[1])),
        found["model"],
        found["fingerprint"],
        bool(found["away"]),
    )


def made(kind: type[Kind], found: dict[str, Any]) -> Kind:
    """Return what a mapping says, less what is unknown. Raises TypeError: a value of another kind.

    As a row it would make the whole of the run's file one that can't be read.
    """
    kinds = KINDS[kind]
    known = {name: value for name, value in found.items() if name in kinds}
    for name, value in known.items():
        if type(value) not in kinds[name]:
            raise TypeError(f"{name} is {str(value)[:40]!r}")
    return kind(**known)


def _types(hint: Any) -> Iterator[type]:
    if get_origin(hint) is Literal:
        yield str
    elif get_args(hint):
        for one in get_args(hint):
            yield from _types(one)
    else:
        yield from (float, int) if hint is float else (hint,)


KINDS = {
    kind: {name: frozenset(_types(hint)) for name, hint in get_type_hints(kind).items()}
    for kind in (RequestRecord, AnswerRow, Correction)
}
