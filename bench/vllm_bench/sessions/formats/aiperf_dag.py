"""AIPerf's `dag_jsonl`: conversations, a JSON object a line, whose turns begin others.

A turn's `messages` are added to those before it and their answers. `forks` go on from a turn's
prompt and answer; `spawns` begin anew, and the turn `join_at`, or the next one, waits for them.
Conversations that nobody names are sessions; the others are their sub-agents. Unknown keys are
refused, since one that isn't read may change what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...prompts.prompt import Message
from ...records.text import printable
from ..rows import Row
from ..session import Session, SessionError, Turn, WaitKind
from .aiperf import EXTRA, MS
from .chat import as_json, messages_of
from .fields import Fields, Tally

KEYS = {"session_id", "turns", "pre_session_spawns", "context_mode"}
TURN_KEYS = {"messages", "model", "max_tokens", "tools", "extra", "forks", "spawns", "delay"}
APPENDS = "deltas_without_responses"
WHOLE = "message_array_with_responses"  # each turn brings its whole prompt
MOST_DEPTH = 100
MOST_TURNS = 100_000  # of a session: conversations may be begun again and again


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    if given.get("orchestrator") and "session_id" in given:
        return True
    turns = given.get("turns")
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and "messages" in first


@dataclass(frozen=True, slots=True)
class _Branch:
    """Conversations that a turn begins."""

    children: tuple[str, ...]
    fork: bool
    join_at: int | None = None  # the turn that waits for them


@dataclass(frozen=True, slots=True)
class _Step:
    """A turn as its row has it."""

    given: Fields
    messages: tuple[Message, ...]
    branches: tuple[_Branch, ...]


@dataclass(frozen=True, slots=True)
class _Talk:
    """A conversation."""

    where: str
    steps: tuple[_Step, ...]
    before: tuple[str, ...]  # conversations that begin with it
    whole: bool  # each turn brings its whole prompt


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield the sessions: the conversations that no other begins. Raises SessionError."""
    talks: dict[str, _Talk] = {}
    for row in rows:
        given = Fields(row.given, row.where)
        name = given.name("session_id")
        if name in talks:
            raise SessionError(
                f"{row.where}: session_id: {printable(name, 40)} is at {talks[name].where} too"
            )
        talks[name] = _talk(given, tally)
    named = _children(talks)
    for name in talks:
        if name not in named:
            yield Session(name, None, tuple(_Unfolding(talks, tally).session(name)))
    if talks and named >= talks.keys():
        first = next(iter(talks.values()))
        raise SessionError(f"{first.where}: each conversation is begun by another")


def _talk(given: Fields, tally: Tally) -> _Talk:
    if given.given.get("orchestrator"):
        raise given.wrong("orchestrator", "false: conversations without requests aren't read")
    _check_keys(given, KEYS)
    mode = given.given.get("context_mode") or APPENDS
    if mode not in (APPENDS, WHOLE):
        raise given.wrong("context_mode", f"{APPENDS} or {WHOLE}")
    listed = list(given.objects("turns"))
    if not listed:
        raise given.wrong("turns", "at least one turn")
    steps = tuple(_step(turn, n, len(listed), tally) for n, turn in enumerate(listed))
    before = tuple(_names(given, "pre_session_spawns"))
    return _Talk(given.where, steps, before, mode == WHOLE)


def _step(given: Fields, place: int, of: int, tally: Tally) -> _Step:
    _check_keys(given, TURN_KEYS)
    listed = list(given.objects("messages"))
    if not listed:
        raise given.wrong("messages", "at least one message")
    tally.notes[EXTRA] += any(given.given.get(key) is not None for key in ("extra", "model"))
    messages = messages_of(listed, tally)
    tools = given.given.get("tools")
    if tools and place == 0:
        messages = (Message("system", as_json(tools)), *messages)
    branches = (*_forks(given, place, of), *_spawns(given, place, of))
    return _Step(given, messages, branches)


def _forks(given: Fields, place: int, of: int) -> Iterator[_Branch]:
    for entry in given.maybe_listed("forks"):
        behind = isinstance(entry, dict) and entry.get("background") is True
        child = entry.get("child") if isinstance(entry, dict) else entry
        if not isinstance(child, str):
            expected = 'names of conversations, or {"child": …, "background": true}'
            raise given.wrong("forks", expected)
        if not behind and place < of - 1:
            raise given.wrong("forks", "none but in the last turn, without background: true")
        yield _Branch((child,), fork=True)


def _spawns(given: Fields, place: int, of: int) -> Iterator[_Branch]:
    for entry in given.maybe_listed("spawns"):
        if isinstance(entry, str):
            yield _Branch((entry,), fork=False, join_at=place + 1 if place + 1 < of else None)
            continue
        one = Fields(entry if isinstance(entry, dict) else {}, f"{given.where}: spawns")
        join = one.tokens("join_at") if one.given.get("join_at") is not None else place + 1
        if one.given.get("join_at") is not None and not place < join < of:
            raise one.wrong("join_at", f"a later turn, {place + 1} to {of - 1}")
        yield _Branch(
            tuple(_names(one, "children")), fork=False, join_at=join if join < of else None
        )


def _names(given: Fields, key: str) -> list[str]:
    names = given.maybe_listed(key)
    if not all(isinstance(name, str) for name in names):
        raise given.wrong(key, "a list of names")
    return names


def _check_keys(given: Fields, known: set[str]) -> None:
    unknown = sorted(given.given.keys() - known)
    if unknown:
        what = f"unknown key {printable(unknown[0], 40)}: known are"
        raise SessionError(f"{given.where}: {what} {', '.join(sorted(known))}")


def _children(talks: Mapping[str, _Talk]) -> set[str]:
    """Return the conversations that others begin. Raises SessionError at one that isn't there."""
    named: set[str] = set()
    forked: set[str] = set()
    for talk in talks.values():
        branches = [(branch, s.given.where) for s in talk.steps for branch in s.branches]
        branches.append((_Branch(talk.before, fork=False), talk.where))
        for branch, where in branches:
            for child in branch.children:
                if child not in talks:
                    raise SessionError(f"{where}: no conversation is called {printable(child, 40)}")
                if branch.fork and child in forked:
                    raise SessionError(
                        f"{where}: {printable(child, 40)} is forked twice: from which prompt?"
                    )
                named.add(child)
                forked |= {child} if branch.fork else set()
    return named


@dataclass(slots=True)
class _Unfolding:
    """A session, while the conversations that it begins are put into it."""

    talks: Mapping[str, _Talk]
    tally: Tally
    turns: list[Turn] = field(default_factory=list)

    def session(self, name: str) -> list[Turn]:
        self._talk(name, None, None, (name,))
        return self.turns

    def _talk(
        self, name: str, after: int | None, history: int | None, path: tuple[str, ...]
    ) -> list[int]:
        """Add a conversation's turns, behind the turn `after`; return the places of its ends."""
        talk = self.talks[name]
        ends: list[int] = []
        joins: dict[int, list[int]] = {}
        last, agent = history, None if len(path) == 1 else name
        for child in talk.before:
            self._begin(child, after, None, path, talk.where)
        for number, step in enumerate(talk.steps):
            waits = [place for place in (after,) if place is not None] + joins.pop(number, [])
            after = self._turn(step, waits, None if talk.whole else last, agent)
            last = after
            for branch in step.branches:
                for child in branch.children:
                    begun_from = after if branch.fork else None
                    ended = self._begin(child, after, begun_from, path, step.given.where)
                    if branch.join_at is not None:
                        joins.setdefault(branch.join_at, []).extend(ended)
                    elif branch.fork and number == len(talk.steps) - 1:
                        ends += ended
        return [*ends, len(self.turns) - 1 if after is None else after]

    def _begin(
        self, child: str, after: int | None, history: int | None, path: tuple[str, ...], where: str
    ) -> list[int]:
        if len(path) > MOST_DEPTH:
            raise SessionError(f"{where}: conversations begin others over {MOST_DEPTH} deep")
        if child in path:
            circle = printable(" begins ".join((*path, child)), 200)
            raise SessionError(f"{where}: {circle}: a circle")
        return self._talk(child, after, history, (*path, child))

    def _turn(
        self, step: _Step, waits: Sequence[int], history: int | None, agent: str | None
    ) -> int:
        if len(self.turns) >= MOST_TURNS:
            raise SessionError(f"{step.given.where}: more than {MOST_TURNS:,} turns in a session")
        delay_s = step.given.maybe_seconds("delay", per_second=MS)
        self.turns.append(
            Turn(
                after=tuple(sorted(waits)),
                wait_s=delay_s or 0.0,
                wait_kind=None if delay_s is None or not waits else _kind(step),
                history=history,
                agent=agent,
                output_tokens=step.given.maybe_tokens("max_tokens") or None,
                messages=step.messages if history is None else None,
                new_messages=step.messages,
            )
        )
        return len(self.turns) - 1


def _kind(step: _Step) -> WaitKind:
    last = [*step.given.objects("messages")][-1]
    return "tool" if last.given.get("role") in ("tool", "function") else "think"
