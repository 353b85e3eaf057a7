"""Answers in progress: tokens come from the pacing, events go to the connection."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from .choice import Choice, Pacing
from .faults import Fault
from .metrics import Metrics
from .truth import TruthLog, TruthRecord
from .wire.bodies import usage, whole_answer
from .wire.connection import LAST_CHUNK, Connection, HttpRequest, http_chunk
from .wire.events import Events
from .wire.generation import CHAT, COMPLETIONS, RESPONSES, GenerationRequest, Identity
from .wire.replies import Reply
from .wire.responses import ResponseEvents, in_one_piece
from .wire.settings import VERSION, Settings


@dataclass(frozen=True, slots=True)
class Server:
    """What all answers of one server have in common."""

    settings: Settings
    pacing: Pacing
    truth: TruthLog
    metrics: Metrics
    faults: tuple[Fault, ...] = ()
    live: dict[Answer, None] = field(default_factory=dict)  # in progress, in order of arrival

    @property
    def fingerprint(self) -> str:
        """The `system_fingerprint` of answers: equal where settings and engine are."""
        flags = repr((self.settings, self.pacing.pace))
        return f"vllm-{VERSION}-{zlib.crc32(flags.encode()):08x}"


PREFIXES = {CHAT: "chatcmpl-", COMPLETIONS: "cmpl-", RESPONSES: "resp_"}  # of answers' ids


@dataclass(frozen=True, slots=True)
class Caller:
    """The connection and the id of a request, and when it came."""

    connection: Connection
    request: HttpRequest
    request_id: str


class Answer:
    """What streamed answers and answers in one piece have in common: the choices, and the end."""

    def __init__(
        self, ask: GenerationRequest, caller: Caller, replies: Sequence[Reply], server: Server
    ) -> None:
        """Make the choices; nothing is sent or generated yet."""
        self.ask = ask
        self.connection = caller.connection
        self.caller = caller
        self.server = server
        name = f"{PREFIXES[ask.endpoint]}{caller.request_id}"
        self.identity = Identity(name, int(time.time()), server.fingerprint)
        received_ns = caller.request.received_ns
        self.choices = [
            Choice(index, ask, reply, received_ns, self.made) for index, reply in enumerate(replies)
        ]
        self.over = False
        self.sent_ns: list[int] = []
        self.sent_tokens: list[int] = []

    def begin(self) -> None:
        self.connection.listener = self
        self.server.live[self] = None
        for choice in self.choices:
            self.server.metrics.begin(choice)
        self.generate()

    def generate(self) -> None:
        for choice in self.choices:
            self.server.pacing.start(choice)

    def made(self, choice: Choice) -> None:
        """A token was made: each kind of answer sends what it then can."""

    def resume(self) -> None:
        """Continue: the client reads again."""

    def client_gone(self) -> None:
        """Stop generating for a client that left."""
        self.finish("client_gone")

    def usage(self) -> dict[str, object]:
        """Return the token counts of the complete answer."""
        details = self.server.settings.prompt_tokens_details
        parser = self.server.settings.thinking.parser
        thought = sum(min(c.reply.reasoning_tokens, c.made) for c in self.choices)
        if parser == "deepseek_r1":  # the template opens the thought, and it looks for the begin
            thought = 0
        return usage(
            self.ask,
            sum(choice.made for choice in self.choices),
            self.choices[0].cached_tokens if details else None,
            thought if self.ask.reasoning and parser != "none" else None,
        )

    def finish(self, outcome: str) -> None:
        """Record the outcome, once, whatever ended it."""
        if self.over:
            return
        self.over = True
        del self.server.live[self]
        for choice in self.choices:
            choice.over = True
            if not choice.is_complete:
                self.server.pacing.stop(choice)
            self.server.metrics.end(choice)
        complete = all(choice.is_complete for choice in self.choices)
        self.server.truth.add(
            TruthRecord(
                self.caller.request_id,
                self.ask.endpoint,
                self.caller.request.received_ns,
                self.sent_ns,
                self.sent_tokens,
                len(self.ask.prompt),
                sum(choice.made for choice in self.choices),
                self.choices[0].reply.finish_reason if complete else None,
                time.perf_counter_ns(),  # the last byte has been handed over
                outcome,
                self.choices[0].reply.reasoning_tokens,
            )
        )
        # Choices refer to their answer: without this, only the garbage collector could free both,
        # and it is off while streams run.
        self.choices = []


class StreamedAnswer(Answer):
    """Sends one event per `stream_interval` tokens; the first and the last token at once."""

    def __init__(
        self, ask: GenerationRequest, caller: Caller, replies: Sequence[Reply], server: Server
    ) -> None:
        super().__init__(ask, caller, replies, server)
        self.events: Events | ResponseEvents
        if ask.endpoint == RESPONSES:
            self.events = ResponseEvents(ask, self.identity)
        else:
            self.events = Events(ask, self.identity, server.settings.thinking.key)
        self._interval = server.settings.stream_interval

    def begin(self) -> None:
        """Send the head: vLLM does so before the first token."""
        self.connection.start_stream()
        if begun := self.events.begun():
            self.put([begun])
        super().begin()

    def made(self, choice: Choice) -> None:
        """Send the waiting tokens, if they are enough for an event."""
        waiting = choice.made - choice.sent
        if self._is_mark(choice):
            return
        if (
            waiting >= self._interval or choice.made in (1, choice.length)
        ) and not self.connection.paused:
            self.send(choice)

    def _is_mark(self, choice: Choice) -> bool:
        """Whether all that waits is the mark that ends a thought, which has no event of its own."""
        alone = choice.sent == choice.reply.mark and choice.made == choice.sent + 1
        return alone and not choice.is_complete and not self.ask.return_token_ids

    def resume(self) -> None:
        """Send all waiting tokens, one event per choice, as a server does that is late."""
        for choice in self.choices:
            if choice.made > choice.sent and not self.over:
                self.send(choice)

    def send(self, choice: Choice) -> None:
        """Send a choice's waiting tokens in one event."""
        start, end = choice.sent, choice.made
        event = self.events.tokens(choice.index, choice.reply, start, end)
        self.send_events(choice, [event], [end - start])

    def send_events(self, choice: Choice, events: list[bytes], tokens: list[int]) -> None:
        """Send all waiting tokens of a choice in one write; `tokens`: the number in each event."""
        if not self.sent_ns:
            # The roles have no token; they are sent with the first token, as vLLM does.
            events = [*self._roles(), *events]
        choice.sent = choice.made
        self.sent_tokens += tokens
        self.sent_ns += [time.perf_counter_ns()] * len(tokens)  # just before the socket gets them
        self.put(events)
        if choice.sent == choice.length and all(c.sent == c.length for c in self.choices):
            self.close()

    def put(self, events: Sequence[bytes]) -> None:
        """Hand events to the socket in one write, each as one chunk of the body."""
        # An empty chunk would be the last one: of a response, tokens without text have no event.
        self.connection.write(b"".join(map(http_chunk, filter(None, events))))

    def close(self) -> None:
        """Send what comes after the last token, and end."""
        self.put(self.events.ending(self.usage() if self.ask.include_usage else None))
        self.end("ok")

    def end(self, outcome: str) -> None:
        """End the body properly and record the outcome."""
        self.connection.write(LAST_CHUNK)
        self.finish(outcome)
        self.connection.end()

    def _roles(self) -> list[bytes]:
        return [role for c in self.choices if (role := self.events.opening(c.index))]


class WholeAnswer(Answer):
    """Sends everything in one piece after the last token."""

    def made(self, choice: Choice) -> None:
        """Send the body after the last token of the last choice."""
        if choice.is_complete and all(c.is_complete for c in self.choices):
            self.send()

    def body(self) -> bytes:
        replies = [choice.reply for choice in self.choices]
        if self.ask.endpoint == RESPONSES:
            return orjson.dumps(in_one_piece(self.ask, self.identity, replies[0], self.usage()))
        return orjson.dumps(whole_answer(self.ask, self.identity, replies, self.usage()))

    def send(self) -> None:
        body = self.body()
        self.sent_tokens.append(sum(choice.made for choice in self.choices))
        self.sent_ns.append(time.perf_counter_ns())  # just before the socket gets the answer
        self.connection.put(200, body)
        self.finish("ok")
        self.connection.end()
