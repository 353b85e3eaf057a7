"""Weka's sessions, of kv-cache-tester: a JSON object a session, lengths and blocks, no texts.

`in` is the whole prompt; `hash_ids` name its whole blocks, and mean something in this session
alone. `t` is whole seconds from the session's start. A turn ends at t + api_time; without api_time
the time from turn to turn is the most that the gap before the next can have been. `think_time`
isn't read: after a turn without api_time, and after sub-agents, it holds waits that are there
already.

A sub-agent's marker stands where its parent goes on, and its `t` is its end: the parent's answer
before, plus duration_ms. Where a file's markers don't show that, `t` is taken for its start. Times
in a sub-agent are from its start, or, if the first is as late as that, from the session's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..rows import Row
from ..session import Session, SessionError, Turn, WaitKind
from .fields import Fields, Tally

ROUNDED_S = 1.0  # by which a t may be off
NEARLY_S = 3.0  # by which a marker's t was off at most, in 61 of 61
MOST_DEPTH = 20  # of sub-agents
ASYNC = "async_launched"  # nobody waits for it
ENDS = "sub-agents whose t is their end: the answer before, plus duration_ms"
STARTS = "sub-agents whose t is their start: it isn't the answer before plus duration_ms"
SHRUNK = 1  # blocks by which a prompt may begin otherwise than the whole of the one before


@dataclass(frozen=True, slots=True)
class _Past:
    """What a turn waits for: another turn, or a sub-agent."""

    place: int | None  # of its last turn; None: the session's start
    start_s: float
    end_s: float | None  # None: the file doesn't tell

    @property
    def at_least_s(self) -> float:
        return self.start_s if self.end_s is None else self.end_s


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    return isinstance(given.get("requests"), list) and "block_size" in given


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield each row's session. Raises SessionError."""
    for row in rows:
        given = Fields(row.given, row.where)
        block_tokens = given.tokens("block_size")
        if not block_tokens or tally.block_tokens not in (None, block_tokens):
            raise given.wrong("block_size", f"{tally.block_tokens or 'at least 1'}")
        if given.given.get("hash_id_scope", "local") != "local":
            raise given.wrong("hash_id_scope", "local")
        tally.block_tokens = block_tokens
        turns = _Reading(given, block_tokens, tally).turns
        name = given.maybe_name("id") or row.file.stem
        tools, system = (given.maybe_tokens(f"{what}_tokens") or 0 for what in ("tool", "system"))
        yield Session(name, None, tuple(turns), tools + system)


class _Reading:
    """One session, while it is read."""

    def __init__(self, given: Fields, block_tokens: int, tally: Tally) -> None:
        self.turns: list[Turn] = []
        self._block_tokens = block_tokens
        self._tally = tally
        self._blocks: dict[int, int] = {}  # one number for each id, however often it is there
        entries = list(given.objects("requests"))
        self._ends = _markers_are_ends(entries)
        first = next((entry.seconds("t") for entry in entries if not _is_marker(entry)), 0.0)
        self._walk(entries, -first, _Past(None, 0.0, 0.0), None)

    def _walk(
        self, entries: Sequence[Fields], offset_s: float, before: _Past, agent: str | None
    ) -> _Past:
        """Read the turns of an agent, whose times are `offset_s` behind the session's.

        Return its last turn.
        """
        children: list[_Past] = []
        last: Turn | None = None
        for entry in entries:
            if _is_marker(entry):
                children += self._sub_agent(entry, offset_s, before, agent)
                continue
            at_s = max(0.0, offset_s + entry.seconds("t"))
            turn = self._turn(entry, agent, last, before)
            if turn is None:
                continue
            joined = [c for c in children if c.at_least_s <= at_s + NEARLY_S]
            self._tally.notes["sub-agents that outlive the turn after them: it doesn't wait"] += (
                len(children) - len(joined)
            )
            kind = _kind(entry) if last is not None or agent is None else "tool"
            self.turns.append(self._waiting(turn, at_s, [before, *joined], kind))
            children, last = [], self.turns[-1]
            api_s = entry.maybe_seconds("api_time")
            before = _Past(len(self.turns) - 1, at_s, None if api_s is None else at_s + api_s)
        return before

    def _turn(
        self, given: Fields, agent: str | None, last: Turn | None, before: _Past
    ) -> Turn | None:
        """Return a turn that doesn't know its waits; None: it is left out."""
        prompt, output = given.tokens("in"), given.maybe_tokens("out") or 0
        if prompt == 0:
            self._tally.left_out["requests of zero prompt tokens"] += 1
            return None
        size = self._block_tokens
        what = f"whole blocks of {size} tokens for {prompt:,} tokens"
        ids = given.block_ids(prompt // size, what)
        blocks = tuple(self._blocks.setdefault(block, block) for block in ids)
        return Turn(
            history=before.place if _goes_on(last, prompt, blocks) else None,
            agent=agent,
            prompt_tokens=prompt,
            output_tokens=self._tally.answer(output),
            block_ids=blocks,
        )

    def _waiting(self, turn: Turn, at_s: float, past: Sequence[_Past], kind: WaitKind) -> Turn:
        """Return the turn with what it waits for, and how long."""
        before, *children = past
        after = tuple(sorted(p.place for p in past if p.place is not None))
        wait_s = at_s - max(p.at_least_s for p in past)
        self._tally.notes["turns begin before the last answer has ended: they wait for it"] += (
            wait_s < -ROUNDED_S
        )
        # Children began when the answer before had ended.
        unknown = any(child.end_s is None for child in children or [before])
        self._tally.unknown_waits += unknown
        found = "unknown" if unknown else kind
        return replace(
            turn, after=after, wait_s=max(0.0, wait_s), wait_kind=found if after else None
        )

    def _sub_agent(
        self, marker: Fields, offset_s: float, before: _Past, parent: str | None
    ) -> list[_Past]:
        """Read a sub-agent's turns, and return what its parent waits for."""
        name = marker.maybe_name("agent_id") or f"agent at {marker.given.get('t')}"
        agent = name if parent is None else f"{parent}/{name}"
        if agent.count("/") >= MOST_DEPTH:
            raise SessionError(f"{marker.where}: sub-agents within sub-agents, too deep")
        self._tally.notes[ENDS if self._ends else STARTS] += 1
        t_s, duration_s = marker.seconds("t"), marker.maybe_seconds("duration_ms", per_second=1000)
        nobody_waits = marker.given.get("status") == ASYNC
        spawn_s = t_s
        if self._ends and duration_s is not None and not nobody_waits:
            spawn_s = max(0.0, t_s - duration_s)
        entries = list(marker.objects("requests"))
        first_s = entries[0].seconds("t") if entries else 0.0
        absolute = spawn_s > ROUNDED_S and first_s >= spawn_s - ROUNDED_S
        began = len(self.turns)
        last = self._walk(entries, offset_s if absolute else offset_s + spawn_s, before, agent)
        if len(self.turns) == began or nobody_waits:
            return []
        end_s = last.end_s if duration_s is None else offset_s + spawn_s + duration_s
        return [replace(last, end_s=end_s)]


def _is_marker(entry: Fields) -> bool:
    return entry.given.get("type") == "subagent" or "requests" in entry.given


def _markers_are_ends(entries: Sequence[Fields]) -> bool:
    """Return whether `t` of most of a session's markers is the answer before plus the duration."""
    fitting, tested, answer_s = 0, 0, None
    for entry in entries:
        if not _is_marker(entry):
            api_s = entry.maybe_seconds("api_time")
            answer_s = None if api_s is None else entry.seconds("t") + api_s
        elif answer_s is not None and entry.given.get("status") != ASYNC:
            duration_s = entry.maybe_seconds("duration_ms", per_second=1000)
            if duration_s is not None:
                tested += 1
                fitting += abs(entry.seconds("t") - answer_s - duration_s) < NEARLY_S
    return 2 * fitting >= tested


def _kind(given: Fields) -> WaitKind:
    """Return what came before a turn: a tool's result, or a person's words."""
    types = given.given.get("input_types")
    if not isinstance(types, list):
        return "unknown"
    return "tool" if "tool_result" in types else "think" if "text" in types else "unknown"


def _goes_on(last: Turn | None, prompt: int, blocks: tuple[int, ...]) -> bool:
    """Return whether a prompt begins with the one before; not where the context was shortened."""
    if last is None or prompt <= (last.prompt_tokens or 0):
        return False
    whole = last.block_ids or ()
    kept = max(0, len(whole) - SHRUNK)
    return whole[:kept] == blocks[:kept]
