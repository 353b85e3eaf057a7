"""OpenTelemetry's GenAI spans: each that sends a prompt is a turn, of its conversation or trace.

A turn waits for the span that it names as its parent, if that sent a prompt too, and for those
whose answers stand in its prompt; if there are none, for all that had ended when it began. The gap
is from the last of their ends to its start, and a tool's where one ran in it. Failed spans are
left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...prompts.prompt import Message
from ..rows import Row
from ..session import Session, Turn, WaitKind
from .fields import Fields, Tally
from .spans import INPUT, LLM, OUTPUT, TOOL, Span, answer_of, cause_of, prompt_of, spans_in

TIMES = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime")
FAILED = "failed spans"
EMPTY = "spans without messages and without a number of prompt tokens"


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    if isinstance(given.get("resourceSpans"), list):
        return True
    spans = given.get("spans")
    if isinstance(spans, list):
        return all(isinstance(span, dict) and fits({**span, "spans": None}) for span in spans[:1])
    return "attributes" in given and not {*TIMES}.isdisjoint(given)


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield the sessions of the spans. Raises SessionError."""
    spans = [span for row in rows for span in spans_in(Fields(row.given, row.where), tally)]
    conversations: dict[str, set[str]] = defaultdict(set)
    for span in spans:
        if span.conversation is not None:
            conversations[span.trace].add(span.conversation)
    sessions: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        of_trace = conversations[span.trace]
        only = next(iter(of_trace)) if len(of_trace) == 1 else span.trace
        sessions[span.conversation or only].append(span)
    for name, listed in sessions.items():
        found = _Reading(listed, tally)
        if found.turns:
            yield Session(name, found.start_s, tuple(found.turns))


@dataclass(slots=True)
class _Known:
    """What is known of the turns before: their messages, as a tree, and their answers."""

    tree: dict[tuple[int, Message], int] = field(default_factory=dict)
    ends: dict[int, list[int]] = field(default_factory=dict)  # by a node of the tree: turns
    answers: dict[str, list[int]] = field(default_factory=dict)

    def walk(self, messages: Sequence[Message]) -> list[int]:
        """Return the nodes that a prompt goes through, one a message."""
        nodes, node = [], 0
        for message in messages:
            node = self.tree.setdefault((node, message), len(self.tree) + 1)
            nodes.append(node)
        return nodes


class _Reading:
    """A session's spans, while they become turns."""

    def __init__(self, spans: Sequence[Span], tally: Tally) -> None:
        self._all = {span.id: span for span in spans}
        self._places: dict[str, int] = {}  # of the turns, by their spans
        self._messages: dict[Message, Message] = {}  # each once, however often it was sent
        self._tally = tally
        self._known = _Known()
        self._before: list[int] = []  # of each turn those that it comes after, as bits
        self.turns: list[Turn] = []
        self._spans: list[Span] = []
        tools = [span for span in spans if span.operation == TOOL]
        self._tools = sorted((tool.start_s, tool.end_s) for tool in tools)
        prompts = [span for span in spans if span.operation in LLM]
        tally.left_out[FAILED] += sum(span.failed for span in prompts)
        kept = [span for span in prompts if not span.failed]
        kept.sort(key=lambda span: (span.start_s, span.end_s, span.trace, span.id))
        for span in kept:
            self._add(span)
        self.start_s = self._spans[0].start_s if self._spans else 0.0

    def _add(self, span: Span) -> None:
        said, answer = prompt_of(span, self._tally), answer_of(span, self._tally)
        prompt = tuple(self._messages.setdefault(message, message) for message in said)
        tokens = span.tokens(INPUT) or None
        if not prompt and tokens is None:
            self._tally.left_out[EMPTY] += 1
            return
        place = len(self.turns)
        after = self._after(span, prompt)
        history = self._history(span, prompt, after)
        ended_s = max((self._spans[p].end_s for p in after), default=None)
        new = prompt if history is None else prompt[len(self.turns[history].messages or ()) + 1 :]
        self._spans.append(span)
        self._places[span.id] = place
        self.turns.append(
            Turn(
                after=after,
                wait_s=span.start_s - (self._spans[0].start_s if ended_s is None else ended_s),
                wait_kind=None if ended_s is None else self._kind(ended_s, span),
                history=history,
                agent=self._sub_agent(span),
                prompt_tokens=tokens,
                output_tokens=span.tokens(OUTPUT) or None,
                messages=prompt or None,
                new_messages=new or None,
                answer=answer,
            )
        )
        self._before.append(self._ancestors(after))
        if prompt:
            self._known.ends.setdefault(self._known.walk(prompt)[-1], []).append(place)
        if answer:
            self._known.answers.setdefault(answer, []).append(place)

    # Whom it waits for

    def _after(self, span: Span, prompt: Sequence[Message]) -> tuple[int, ...]:
        linked = {self._places[name] for name in (span.parent,) if name and name in self._places}
        for message in prompt:
            if message.role == "assistant":
                said = self._known.answers.get(message.content, [])
                linked.update([p for p in said if self._ended(p, span)][-1:])
        found = {p for p in linked if self._ended(p, span)}
        found = found or {p for p in range(len(self._spans)) if self._ended(p, span)}
        older = 0
        for place in found:
            older |= self._before[place]
        return tuple(sorted(place for place in found if not older >> place & 1))

    def _ended(self, place: int, span: Span) -> bool:
        return self._spans[place].end_s <= span.start_s

    def _ancestors(self, after: Sequence[int]) -> int:
        bits = 0
        for place in after:
            bits |= self._before[place] | 1 << place
        return bits

    def _history(self, span: Span, prompt: Sequence[Message], after: Sequence[int]) -> int | None:
        """Return the turn whose prompt, and an answer to it, this prompt begins with."""
        waited, nodes = self._ancestors(after), self._known.walk(prompt)
        for length in range(len(prompt) - 1, 0, -1):
            if prompt[length].role == "assistant":
                turns = self._known.ends.get(nodes[length - 1], [])
                found = [p for p in turns if waited >> p & 1]
                if found:
                    same = [p for p in found if self.turns[p].answer == prompt[length].content]
                    return (same or found)[-1]
        return self._longer(span, after) if not prompt else None

    def _longer(self, span: Span, after: Sequence[int]) -> int | None:
        """Return the turn before, of one without messages, if it was shorter."""
        if len(after) != 1 or self._agent(self._spans[after[0]]) != self._agent(span):
            return None
        shorter = self.turns[after[0]].prompt_tokens or 0
        return after[0] if 0 < shorter < (span.tokens(INPUT) or 0) else None

    def _kind(self, ended_s: float, span: Span) -> WaitKind:
        if any(began < span.start_s and ended > ended_s for began, ended in self._tools):
            return "tool"
        return cause_of(span)

    # Agents

    def _sub_agent(self, span: Span) -> str | None:
        """Return the agent that a span stands in, if it isn't the session's first."""
        found = self._agent(span)
        return None if found == self._agent(self._spans[0]) else found

    def _agent(self, span: Span) -> str | None:
        seen: set[str] = set()
        one: Span | None = span
        while one is not None and one.id not in seen:
            name = one.given.maybe_name("gen_ai.agent.name")
            if name is not None:
                return name
            seen.add(one.id)
            one = self._all.get(one.parent or "")
        return None
