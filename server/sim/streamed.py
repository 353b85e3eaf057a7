"""Answers as a stream of events."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .answers import Answer, Caller, Choice, House
from .wire.ask import Ask
from .wire.connection import LAST_CHUNK, http_chunk
from .wire.events import DONE, events_for
from .wire.replies import Reply


class StreamedAnswer(Answer):
    """Sends an event each `stream_interval` tokens, the first and the last one at once."""

    def __init__(self, ask: Ask, caller: Caller, replies: Sequence[Reply], house: House) -> None:
        """Prepare the events."""
        super().__init__(ask, caller, replies, house)
        self._events = events_for(ask, self.identity)

    def begin(self) -> None:
        """Send the head: vLLM does before the first token is there."""
        self.caller.connection.start_stream()
        super().begin()

    def made(self, choice: Choice) -> None:
        """Send the tokens that wait, if they are enough for an event."""
        waiting = choice.made - choice.sent
        if (
            waiting >= self.ask.stream_interval or choice.made in (1, choice.length)
        ) and not self.caller.connection.paused:
            self.send(choice)

    def resume(self) -> None:
        """Send all that waits, one event a choice: so does a server that lags."""
        for choice in self.choices:
            if choice.made > choice.sent and not self.over:
                self.send(choice)

    def send(self, choice: Choice) -> None:
        """Send a choice's waiting tokens in one event."""
        start, end = choice.sent, choice.made
        events = [self._events.tokens(choice.index, choice.reply, start, end)]
        if not self.sent_ns:
            # The roles carry no token; they leave with the first one, as vLLM's do.
            events = [*self.roles(), *events]
        choice.sent = end
        self.sent_tokens.append(end - start)
        self.sent_ns.append(time.perf_counter_ns())  # just before the socket gets the event
        self.put(events)
        self.close_if_complete(choice)

    def roles(self) -> list[bytes]:
        """Return the events before all tokens."""
        return [role for c in self.choices if (role := self._events.opening(c.index))]

    def close_if_complete(self, choice: Choice) -> None:
        """End the stream after the last token of its last choice."""
        if choice.sent == choice.length:
            self._open -= 1
            if not self._open:
                self.close()

    def put(self, events: Sequence[bytes]) -> None:
        """Hand events to the socket, a chunk of the body each, in one write."""
        self.caller.connection.write(b"".join(map(http_chunk, events)))

    def close(self) -> None:
        """Send what comes after the last token, and end."""
        counts = [self._events.usage(self.usage())] if self.ask.include_usage else []
        self.put([*counts, DONE])
        self.end("ok")

    def end(self, outcome: str) -> None:
        """End the body in good order and write down how it went."""
        connection = self.caller.connection
        connection.write(LAST_CHUNK)
        self.finish(outcome)
        connection.end()
