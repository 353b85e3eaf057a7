"""Bailian's requests, a JSON object a line, that name the one that they go on from.

`timestamp` is seconds, when a request came; when its answer ended isn't known. `input_length` is
the whole prompt, `hash_ids` its blocks of 16 tokens, the last maybe a part of one; equal ids are
equal blocks in the whole file. A request without its parent in the file begins a session.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...records.text import printable
from ..rows import Row
from ..session import Session, SessionError, Turn
from .fields import Fields, Tally

BLOCK_TOKENS = 16
ROOT = "-1"  # as a parent: none


@dataclass(slots=True)
class _Request:
    """A row; its due time is never before its parent's."""

    where: str
    parent: str
    at_s: float
    turn: Turn
    root: str | None = None
    due_s: float = 0.0
    depth: int = 0


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    return {"chat_id", "parent_chat_id", "timestamp", "input_length"} <= given.keys()


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield the sessions of a file. Raises SessionError."""
    tally.block_tokens = BLOCK_TOKENS
    requests = _requests(rows, tally)
    for name, request in requests.items():
        _trace_back(name, request, requests, tally)
    sessions: dict[str, list[str]] = defaultdict(list)
    for name, request in requests.items():
        sessions[request.root or name].append(name)
    for root, names in sessions.items():
        names.sort(key=lambda name: (requests[name].due_s, requests[name].depth, name))
        yield Session(root, requests[root].due_s, tuple(_turns(names, requests)))


def _requests(rows: Iterable[Row], tally: Tally) -> dict[str, _Request]:
    found: dict[str, _Request] = {}
    file = None
    for row in rows:
        given = Fields(row.given, row.where)
        name, file = given.name("chat_id"), file or row.file
        if name in found:
            raise SessionError(f"{row.where}: chat_id {printable(name, 40)} is there twice")
        if row.file != file:
            other = printable(file.name, 40)
            raise SessionError(
                f"{row.where}: a second file, in which equal ids are other blocks than in {other}"
            )
        prompt, output = given.tokens("input_length"), given.tokens("output_length")
        blocks = None
        if given.given.get("hash_ids") is not None:
            what = f"blocks of {BLOCK_TOKENS} tokens for {prompt:,} tokens"
            blocks = given.block_ids(math.ceil(prompt / BLOCK_TOKENS), what)
        turn = Turn(prompt_tokens=prompt, output_tokens=tally.answer(output), block_ids=blocks)
        parent, at_s = given.name("parent_chat_id"), given.seconds("timestamp")
        found[name] = _Request(row.where, parent, at_s, turn)
    empty = [name for name, request in found.items() if not request.turn.prompt_tokens]
    tally.left_out["requests of zero prompt tokens"] += len(empty)
    for name in empty:
        del found[name]
    return found


def _trace_back(
    name: str, request: _Request, requests: Mapping[str, _Request], tally: Tally
) -> None:
    """Find a request's root, and those of all on the way to it. Raises SessionError at a circle."""
    chain = {name: request}
    while request.root is None and request.parent in requests:
        if request.parent in chain:
            raise SessionError(f"{request.where}: parent_chat_id: its parents form a circle")
        name, request = request.parent, requests[request.parent]
        chain[name] = request
    if request.root is None:
        request.root, request.due_s = name, request.at_s
        tally.notes["sessions begin before the file does"] += request.parent != ROOT
    above = request
    for one in [*chain.values()][-2::-1]:
        one.root, one.depth = above.root, above.depth + 1
        one.due_s = max(one.at_s, above.due_s)
        above = one


def _turns(names: list[str], requests: Mapping[str, _Request]) -> Iterator[Turn]:
    start_s, places = requests[names[0]].due_s, dict[str, int]()
    for name in names:
        request, parent = requests[name], places.get(requests[name].parent)
        turn = request.turn
        places[name] = len(places)
        before = None if parent is None else requests[request.parent].turn
        yield Turn(
            after=() if parent is None else (parent,),
            not_before_s=request.due_s - start_s,
            history=parent if before is not None and _goes_on(before, turn) else None,
            prompt_tokens=turn.prompt_tokens,
            output_tokens=turn.output_tokens,
            block_ids=turn.block_ids,
        )


def _goes_on(before: Turn, turn: Turn) -> bool:
    """Return whether a prompt begins with the whole blocks of the one before, and is longer."""
    if (turn.prompt_tokens or 0) <= (before.prompt_tokens or 0):
        return False
    whole = (before.prompt_tokens or 0) // BLOCK_TOKENS
    return (before.block_ids or ())[:whole] == (turn.block_ids or ())[:whole]
