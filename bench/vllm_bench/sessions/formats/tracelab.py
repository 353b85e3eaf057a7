"""TraceLab's rounds of coding agents, a JSON object a line: lengths and stamps, no texts.

`input_tokens_total` is the whole prompt. A round is sent when the last of its inputs is there, a
person's words or a tool's result, and ends with the last thing that the model says. Which tokens
of two prompts were equal isn't known: `prefix_tokens` are those that the provider's cache served.
A longer prompt is taken to begin with the one before; a shorter one begins anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..rows import Row
from ..session import Session, Turn, WaitKind
from .fields import Fields, Tally, iso_seconds

INPUTS: dict[str, WaitKind] = {"user_message": "think", "tool_result": "tool"}
SEPARATE = "sub-agents are sessions of their own: the file has no link to them"


@dataclass(frozen=True, slots=True)
class _Round:
    """A row; its stamps are seconds since 1970."""

    index: int
    sent_s: float | None
    ended_s: float | None
    cause: WaitKind
    tools_s: float | None  # of the longest of the tools that it calls
    prompt: int
    output: int


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    return {"session_id", "round_index", "input_tokens_total"} <= given.keys()


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield the sessions of the rows. Raises SessionError."""
    sessions: dict[str, list[_Round]] = defaultdict(list)
    for row in rows:
        given = Fields(row.given, row.where)
        found = _round(given)
        if found.prompt:
            sessions[given.name("session_id")].append(found)
        else:
            tally.left_out["rounds of zero prompt tokens"] += 1
    tally.said[SEPARATE] = None
    for name, rounds in sessions.items():
        dated = all(one.sent_s is not None for one in rounds)
        rounds.sort(key=lambda one: (one.sent_s or 0.0 if dated else 0.0, one.index))
        yield Session(name, rounds[0].sent_s if dated else None, tuple(_turns(rounds, tally)))


def _round(given: Fields) -> _Round:
    stamps: dict[str, list[float]] = defaultdict(list)
    for event in given.objects("timing_events"):
        at_s = iso_seconds(event.given.get("timestamp"))
        if at_s is None:
            raise event.wrong("timestamp", "a time such as 2026-06-01T05:40:20.151Z")
        stamps[event.text("event_type")].append(at_s)
    inputs = [(max(stamps[name]), name) for name in INPUTS if name in stamps]
    said = [at_s for name, listed in stamps.items() if name not in INPUTS for at_s in listed]
    sent_s, name = max(inputs) if inputs else (min(said, default=None), "")
    tools = [
        t.maybe_seconds("tool_wall_latency_ms", per_second=1000) for t in given.objects("tools")
    ]
    return _Round(
        index=given.tokens("round_index"),
        sent_s=sent_s,
        ended_s=max(said) if said and sent_s is not None and max(said) >= sent_s else None,
        cause=INPUTS.get(name, "unknown"),
        tools_s=max((tool for tool in tools if tool is not None), default=None),
        prompt=given.maybe_tokens("input_tokens_total") or 0,
        output=given.maybe_tokens("output_tokens") or 0,
    )


def _turns(rounds: Sequence[_Round], tally: Tally) -> Iterator[Turn]:
    for place, one in enumerate(rounds):
        before = rounds[place - 1] if place else None
        wait_s, kind = (0.0, None) if before is None else _wait(before, one, tally)
        yield Turn(
            after=(place - 1,) if place else (),
            wait_s=wait_s,
            wait_kind=kind,
            history=place - 1 if before is not None and one.prompt > before.prompt else None,
            prompt_tokens=one.prompt,
            output_tokens=tally.answer(one.output),
        )


def _wait(before: _Round, one: _Round, tally: Tally) -> tuple[float, WaitKind]:
    """Return the time from a round's end to the next one's start; without stamps its tools'."""
    if before.ended_s is not None and one.sent_s is not None:
        return max(0.0, one.sent_s - before.ended_s), one.cause
    if before.tools_s is not None:
        return before.tools_s, "tool"
    tally.unknown_waits += 1
    if before.sent_s is None or one.sent_s is None:
        return 0.0, "unknown"
    return max(0.0, one.sent_s - before.sent_s), "unknown"
