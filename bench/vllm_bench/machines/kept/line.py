"""A request that has ended as a line of JSON, and back.

Not a pickle: to read one runs whatever it says, and one of another version of this code is misread
without a word. A line names its values, so that unknown ones are left out; one that a kill has cut
off lacks its end, and a person can read it.
"""

from __future__ import annotations

import dataclasses
import json
from array import array
from typing import Any, TypeVar, get_args

import orjson

from ...crew.judged import Judged
from ...plan.requests import Role
from ...records.beside.answers import AnswerRow
from ...records.beside.token_file import READ_TYPES
from ...records.request_record import RequestRecord
from ...records.text import MOST_MASKED, masked

Kind = TypeVar("Kind", RequestRecord, AnswerRow)
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError)


def line_of(one: Judged, secrets: tuple[str, ...]) -> bytes:
    """Return a request as a line, secrets masked in what it says."""
    answer = one.answer and (one.answer[0], masked(one.answer[1][:MOST_MASKED], secrets))
    found = {
        "role": one.role,
        "record": one.record,
        "reads": [part.tolist() for part in one.reads],
        "answer": answer,
        "model": one.model,
        "fingerprint": one.fingerprint,
        "away": one.away,
    }
    return as_line(found)


def as_line(found: dict[str, Any]) -> bytes:
    """Return a mapping as a line; also one whose texts have half a surrogate pair."""
    try:
        return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return json.dumps(found, default=dataclasses.asdict).encode() + b"\n"


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
        _made(RequestRecord, found["record"]),
        (stamps, events, tokens),
        answer and (_made(AnswerRow, answer[0]), str(answer[1])),
        found["model"],
        found["fingerprint"],
        bool(found["away"]),
    )


def _made(kind: type[Kind], found: dict[str, Any]) -> Kind:
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in found.items() if name in known})
