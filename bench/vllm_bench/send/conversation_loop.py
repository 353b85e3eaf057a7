"""Multi-turn load: each stream has one conversation after the other.

A turn waits for the last answer and the think time, and contains the history. An answer is read on
the sending loop, after its last stamp and before the next turn is sent. That time (some
microseconds per token) shows as the turn's send lag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..plan.share import Message, PlannedRequest, Talk
from ..reply.exchange import Exchange
from ..reply.sse import DONE, EventSplitter
from .closed_loop import Streams
from .lanes import Lane, Lanes


@dataclass(slots=True)
class _Conversation:
    next_index: int
    end_index: int
    history: list[Message] = field(default_factory=list)


class ConversationLoop(Streams):
    """Each stream has one conversation after the other."""

    def __init__(
        self,
        lanes: Lanes,
        talk: Talk,
        requests: Sequence[PlannedRequest],
        take: Callable[[], int | None],
        begins_ns: Sequence[int] = (),
    ) -> None:
        """`take` gives the number of the next conversation; None: no more."""
        super().__init__(lanes, begins_ns)
        self._talk = talk
        self._requests = requests
        self._take = take
        self._held: dict[Lane, _Conversation] = {}

    def _begin(self, lane: Lane, slot_ns: int) -> None:
        number = None if self._stopping else self._take()
        if number is None:
            self._held.pop(lane, None)
            return
        first = number * self._talk.turns
        self._held[lane] = _Conversation(first, min(first + self._talk.turns, len(self._requests)))
        self._send_turn(lane, slot_ns)

    def _send_turn(self, lane: Lane, due_ns: int) -> None:
        held = self._held[lane]
        said = self._talk.said[held.next_index % len(self._talk.said)]
        held.history.append({"role": "user", "content": said})
        planned = self._requests[held.next_index]
        held.next_index += 1
        lane.kept = bytearray()
        self._lanes.send(lane, self._talk.request(planned, held.history), due_ns)

    def _freed(self, lane: Lane, exchange: Exchange, freed_ns: int) -> None:
        held = self._held[lane]
        if held.next_index >= held.end_index or self._stopping:
            self._begin(lane, freed_ns)
        else:
            self._remember(held, lane, exchange)
            self._go_on(lane, freed_ns)
        self._end_if_idle()

    def _remember(self, held: _Conversation, lane: Lane, exchange: Exchange) -> None:
        answer = None
        if exchange.failure is None and exchange.http_status == 200 and lane.kept is not None:
            answer = answer_text(bytes(lane.kept), stream=self._lanes.target.stream)
        if answer is None:
            held.history.pop()  # a failed turn isn't part of the conversation
        else:
            held.history.append({"role": "assistant", "content": answer})

    def _go_on(self, lane: Lane, freed_ns: int) -> None:
        due_ns = freed_ns + self._talk.think_ns
        if self._talk.think_ns == 0:
            self._send_turn(lane, due_ns)
        else:
            self._later(lane, due_ns, self._send_turn)


def answer_text(body: bytes, *, stream: bool) -> str | None:
    """Return the assistant's text in a chat's reply, without reasoning; None: no text.

    Reasoning isn't part of a chat's history: templates drop it from earlier turns. A reply that
    broke off, by an error or without its end, isn't part of it either.
    """
    payloads = EventSplitter().feed(body) if stream else [body]
    if stream and DONE not in payloads:
        return None
    try:
        events = [orjson.loads(payload) for payload in payloads if payload != DONE]
    except orjson.JSONDecodeError:
        return None  # judged elsewhere; here it isn't an answer
    if any(isinstance(event, dict) and event.get("error") is not None for event in events):
        return None
    return "".join(part for event in events for part in _parts(event)) or None


def _parts(event: Any) -> Iterator[str]:
    for choice in _choices(event):
        said = choice.get("delta") or choice.get("message")
        text = said.get("content") if isinstance(said, dict) else None
        if isinstance(text, str) and choice.get("index", 0) == 0:
            yield text


def _choices(event: Any) -> Iterator[dict[str, Any]]:
    found = event.get("choices") if isinstance(event, dict) else None
    if isinstance(found, list):
        yield from (choice for choice in found if isinstance(choice, dict))
