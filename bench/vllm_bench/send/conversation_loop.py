"""Multi-turn load: each stream has one conversation after the other.

A turn waits for the last answer and the think time, and contains the history. An answer is read on
the sending loop, after its last stamp and before the next turn is sent. That time (some
microseconds per token) shows as the turn's send lag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..plan.share import Message, PlannedRequest, Talk
from ..reply.events import index_of, text_of
from ..reply.exchange import Exchange
from ..reply.outcome import close_with, failure_of
from ..reply.reply import Reply
from ..reply.sse import EventSplitter, may_be_json
from ..reply.words import read_json
from .closed_loop import Streams
from .lanes import Lane, Lanes

# Stands in the history for an answer without visible text (all of it was thought, or a tool call):
# Mistral refuses an empty answer, and its template and Gemma's two turns of a user in a row.
NO_TEXT = "\N{HORIZONTAL ELLIPSIS}"


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
        held, wait_ns = self._held[lane], lane.wait_ns(exchange)
        if held.next_index >= held.end_index or self._stopping:
            self._go_on(lane, freed_ns, wait_ns, self._begin)
        else:
            self._remember(held, lane, exchange)
            self._go_on(lane, freed_ns, wait_ns, self._send_turn, self._talk.think_ns)
        self._end_if_idle()

    def _remember(self, held: _Conversation, lane: Lane, exchange: Exchange) -> None:
        stream, choices = self._lanes.target.stream, self._talk.choices
        answer = answer_text(exchange, bytes(lane.kept or b""), stream=stream, choices=choices)
        if answer is None:
            held.history.pop()  # a failed turn isn't part of the conversation
        else:
            held.history.append({"role": "assistant", "content": answer or NO_TEXT})


def answer_text(exchange: Exchange, body: bytes, *, stream: bool, choices: int = 1) -> str | None:
    """Return the visible text of a turn's answer, which may be empty; None: the turn failed.

    Reasoning isn't part of a chat's history: templates drop it from earlier turns.
    """
    reply = Reply(stream=stream)
    reply.feed(exchange.http_status, [(0, body)])
    close_with(reply, exchange)
    if failure_of(exchange, reply, stream=stream, choices=choices):
        return None
    payloads = _payloads(exchange, body) if stream else [body]
    events = [read_json(payload) for payload in payloads if may_be_json(payload)]
    text = "".join(part for event in events for part in _parts(event, choices))
    # Halves of a surrogate pair may come in two events; one alone can't be sent back.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _payloads(exchange: Exchange, body: bytes) -> list[bytes]:
    splitter = EventSplitter()
    payloads = splitter.feed(body)
    return payloads if exchange.failure else payloads + splitter.end()


def _parts(event: Any, choices: int) -> Iterator[str]:
    for place, choice in enumerate(_choices(event)):
        said = choice.get("delta") or choice.get("message")
        # Of a single choice some servers give the number of the token as its index.
        if isinstance(said, dict) and (choices == 1 or index_of(choice, place) == 0):
            yield text_of(said)


def _choices(event: Any) -> Iterator[dict[str, Any]]:
    found = event.get("choices") if isinstance(event, dict) else None
    if isinstance(found, list):
        yield from (choice for choice in found if isinstance(choice, dict))
