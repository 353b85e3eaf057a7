"""AIPerf's `multi_turn` and `single_turn`, a JSON object a line: texts, and delays in milliseconds.

In `multi_turn` a line is a session, and each turn goes on from the one before; the answers aren't
in the file. In `single_turn` lines of one session_id follow each other, each a prompt of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...prompts.prompt import Message
from ...records.text import printable
from ..rows import Row
from ..session import Session, SessionError, Turn
from .chat import BETWEEN, NO_TEXT
from .fields import Fields, Tally

MS = 1000
NOT_TEXT = ("image", "images", "audio", "audios", "video", "videos")
EXTRA = "turns have fields of their own (extra, model): they aren't sent"


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    turns = given.get("turns")
    if isinstance(turns, list):
        first = turns[0] if turns else None
        return isinstance(first, dict) and not {"text", "texts"}.isdisjoint(first)
    return "session_id" in given and not {"text", "texts"}.isdisjoint(given)


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield the sessions. Raises SessionError."""
    alone: dict[str, list[Fields]] = defaultdict(list)
    files: dict[str, Row] = {}
    for number, row in enumerate(rows, start=1):
        given = Fields(row.given, row.where)
        name = given.maybe_name("session_id") or f"line {number}"
        several = "turns" in row.given
        if name in files and (several or name not in alone or files[name].file != row.file):
            raise SessionError(
                f"{row.where}: session_id: {printable(name, 40)} is at {files[name].where} too"
            )
        files[name] = row
        if several:
            yield _session(name, list(given.objects("turns")), given, tally, together=True)
        else:
            alone[name].append(given)
    for name, listed in alone.items():
        yield _session(name, listed, listed[0], tally, together=False)


def _session(
    name: str, listed: Sequence[Fields], whole: Fields, tally: Tally, *, together: bool
) -> Session:
    if not listed:
        raise whole.wrong("turns", "at least one turn")
    stamps = [given.maybe_seconds("timestamp", per_second=MS) for given in listed]
    start_s = stamps[0]
    turns: list[Turn] = []
    for place, given in enumerate(listed):
        turn = _turn(given, tally)
        if place:
            delay_s, at_s = given.maybe_seconds("delay", per_second=MS), stamps[place]
            due = None if at_s is None or start_s is None else max(0.0, at_s - start_s)
            turn = replace(
                turn,
                after=(place - 1,),
                wait_s=delay_s or 0.0,
                wait_kind=None if delay_s is None else "think",
                not_before_s=due,
                history=place - 1 if together else None,
                messages=None if together else turn.messages,
            )
        turns.append(turn)
    return Session(name, start_s, tuple(turns))


def _turn(given: Fields, tally: Tally) -> Turn:
    tally.left_out[NO_TEXT] += sum(given.given.get(key) is not None for key in NOT_TEXT)
    tally.notes[EXTRA] += any(given.given.get(key) is not None for key in ("extra", "model"))
    texts = _texts(given)
    if not any(text.strip() for text in texts):
        raise given.wrong("text", "a text")
    role = given.maybe_name("role") or "user"
    message = Message(role if role in ("system", "assistant") else "user", BETWEEN.join(texts))
    output = given.maybe_tokens("output_length")
    return Turn(output_tokens=output or None, messages=(message,), new_messages=(message,))


def _texts(given: Fields) -> list[str]:
    if given.given.get("text") is not None:
        return [given.text("text")]
    if given.given.get("texts") is None:
        return []
    found: list[str] = []
    for text in given.listed("texts"):
        contents = text.get("contents") if isinstance(text, dict) else [text]
        if not isinstance(contents, list) or not all(isinstance(one, str) for one in contents):
            raise given.wrong("texts", "a list of texts")
        found += contents
    return found
