"""Answers that go wrong as a fault wants it, over answers that are sound."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson

from .answers import Answer, Caller, Choice, House
from .faults import Fault
from .rewrites import REWRITES, Rewrite, cut_short
from .streamed import StreamedAnswer
from .whole import WholeAnswer
from .wire.ask import Ask
from .wire.connection import http_chunk
from .wire.errors import BUSY, ENGINE_DEAD, ApiError, UnauthorizedError, error_event
from .wire.events import DONE
from .wire.replies import VOICE, Reply, make_replies
from .wire.tokens import FOREIGN_IDS

DEAD = ApiError(500, ENGINE_DEAD)
REFUSALS = {
    "http_400": ApiError(400, "temperature must be non-negative, got -1.0.", "temperature"),
    "http_401": UnauthorizedError(),
    "http_404": ApiError(404, "The model does not exist.", "model"),
    "http_429": ApiError(429, "Too many requests. Please try again later."),
    "http_500": DEAD,
    "http_503": ApiError(503, BUSY),
}


def changed_ask(ask: Ask, fault: Fault) -> Ask:
    """Return the request as a server with this fault hears it."""
    tokens = int(fault.value)
    if fault.kind == "short":
        lengths = tuple(min(tokens, most) for most in ask.max_tokens)
        return replace(ask, max_tokens=lengths, min_tokens=0, ignore_eos=True)
    if fault.kind == "long":
        lengths = tuple(most + tokens for most in ask.max_tokens)
        return replace(ask, max_tokens=lengths, ignore_eos=True)
    if fault.kind == "no_usage":
        return replace(ask, include_usage=False, continuous_usage=False)
    return ask


def answer_to(ask: Ask, caller: Caller, house: House, fault: Fault | None) -> Answer:
    """Return the answer to a request, which plays its fault if it has one."""
    if fault is None:
        sound = StreamedAnswer if ask.stream else WholeAnswer
        return sound(ask, caller, make_replies(ask, house.settings), house)
    ask = changed_ask(ask, fault)
    voice = FOREIGN_IDS if fault.kind == "split_utf8" else VOICE
    kind = FaultyStream if ask.stream else FaultyWhole
    return kind(ask, caller, make_replies(ask, house.settings, voice), house, fault)


class Faulty(Answer):
    """Counts up to where the fault strikes; what happens then, the subclasses say."""

    strikes: dict[str, Callable[[Choice], None]]  # by kind of fault; others change the bytes

    def __init__(
        self, ask: Ask, caller: Caller, replies: Sequence[Reply], house: House, fault: Fault
    ) -> None:
        """Take the fault along."""
        super().__init__(ask, caller, replies, house)
        self.fault = fault
        # At the latest instead of the last token: a short reply doesn't escape.
        self._after = min(fault.after_tokens, self.choices[0].length - 1)
        self._struck = False
        self._held = False  # tokens are made, and wait
        self._until_s = 0.0

    def generate(self) -> None:
        """Have the tokens made, or none at all."""
        if self.fault.kind != "silent":
            super().generate()

    def made(self, choice: Choice) -> None:
        """Let the fault strike when its token comes."""
        strike = self.strikes.get(self.fault.kind)
        if strike is not None and not self._struck and choice.made > self._after:
            self._struck = True
            strike(choice)
        elif not self._held:
            super().made(choice)

    def finish(self, outcome: str) -> None:
        """Write down which fault was played, unless the client left first."""
        super().finish(self.fault.kind if outcome == "ok" else outcome)
        self.strikes = {}

    def fail(self, *_: object) -> None:
        """Write down that the answer ended here."""
        self.finish(self.fault.kind)

    def cut(self, choice: Choice) -> None:
        """Close the connection in the middle."""
        self.fail()
        self.caller.connection.close()

    def reset(self, choice: Choice) -> None:
        """Reset the connection."""
        self.fail()
        self.caller.connection.reset()

    def stall(self, choice: Choice) -> None:
        """Keep silent for a while."""
        self._held = True
        self._until_s = time.perf_counter() + self.fault.value
        self._release()

    def crash(self, choice: Choice) -> None:
        """Die, as a killed process does; only the truth is saved."""
        self.fail()
        self.house.truth.flush()
        os._exit(1)

    def _release(self) -> None:
        left_s = self._until_s - time.perf_counter()
        if left_s > 0:  # the loop's timers count in milliseconds and may be early
            asyncio.get_running_loop().call_later(max(left_s, 0.001), self._release)
            return
        self._held = False
        if not self.over:
            self.resume()


class FaultyStream(Faulty, StreamedAnswer):
    """A stream that goes wrong."""

    def __init__(
        self, ask: Ask, caller: Caller, replies: Sequence[Reply], house: House, fault: Fault
    ) -> None:
        """Take the fault along."""
        super().__init__(ask, caller, replies, house, fault)
        self.strikes = {
            "error_event": self._error_event,
            "no_done": lambda _: self.end(fault.kind),
            "cut": self.cut,
            "reset": self.reset,
            "stall": self.stall,
            "malformed": self._malformed,
            "crash": self.crash,
        }
        self._rewrite: Rewrite | None = REWRITES.get(fault.kind)

    def made(self, choice: Choice) -> None:
        """Hold tokens back until there are enough of them, if that is the fault."""
        if self.fault.kind != "merge":
            super().made(choice)
        elif choice.made - choice.sent >= self.fault.value or choice.made == choice.length:
            self._burst(choice)

    def resume(self) -> None:
        """Send all that waited, an event a token, as a network does that was stuck."""
        if self._held:
            return
        for choice in self.choices:
            if choice.made > choice.sent and not self.over:
                self._burst(choice)

    def put(self, events: Sequence[bytes]) -> None:
        """Hand the events to the socket as the fault writes them."""
        if self._rewrite is None:
            super().put(events)
            return
        for event in events:
            for piece in self._rewrite(event):
                self.caller.connection.write(http_chunk(piece))

    def _burst(self, choice: Choice) -> None:
        start, end = choice.sent, choice.made
        events = [
            self._events.tokens(choice.index, choice.reply, token, token + 1)
            for token in range(start, end)
        ]
        if not self.sent_ns:
            events = [*self.roles(), *events]
        choice.sent = end
        self.sent_tokens += [1] * (end - start)
        self.sent_ns += [time.perf_counter_ns()] * (end - start)  # one write for all of them
        self.put(events)
        self.close_if_complete(choice)

    def _error_event(self, choice: Choice) -> None:
        self.put([error_event(DEAD), DONE])
        self.end(self.fault.kind)

    def _malformed(self, choice: Choice) -> None:
        self._rewrite = cut_short
        self.send(choice)
        self._rewrite = None


class FaultyWhole(Faulty, WholeAnswer):
    """A whole answer that goes wrong; faults that only a stream can have leave it as it is."""

    def __init__(
        self, ask: Ask, caller: Caller, replies: Sequence[Reply], house: House, fault: Fault
    ) -> None:
        """Take the fault along."""
        super().__init__(ask, caller, replies, house, fault)
        self.strikes = {
            "error_event": self._error,
            "no_done": lambda _: self._end_with(200, b""),
            "cut": self.cut,
            "reset": self.reset,
            "stall": self.stall,
            "malformed": lambda _: self._end_with(200, self._half()),
            "crash": self.crash,
        }

    def body(self) -> bytes:
        """Return the JSON of the answer, without its token counts if that is the fault."""
        body = super().body()
        if self.fault.kind != "no_usage":
            return body
        return orjson.dumps({k: v for k, v in orjson.loads(body).items() if k != "usage"})

    def resume(self) -> None:
        """Send the answer, if it has become complete meanwhile."""
        if all(choice.made == choice.length for choice in self.choices):
            self.send()

    def cut(self, choice: Choice) -> None:
        """Close the connection in the middle of the body."""
        self.caller.connection.put(200, self._half(), length=len(self.body()))
        super().cut(choice)

    def reset(self, choice: Choice) -> None:
        """Reset the connection in the middle of the body."""
        self.caller.connection.put(200, self._half(), length=len(self.body()))
        super().reset(choice)

    def _error(self, choice: Choice) -> None:
        self._end_with(DEAD.status, orjson.dumps(DEAD.body))

    def _end_with(self, status: int, body: bytes) -> None:
        connection = self.caller.connection
        connection.put(status, body)
        self.fail()
        connection.end()

    def _half(self) -> bytes:
        body = self.body()
        return body[: len(body) // 2]
