"""Answers with a fault, built on normal answers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from .answers import Answer, Caller, Server, StreamedAnswer, WholeAnswer
from .choice import Choice
from .faults import Fault
from .wire.connection import http_chunk
from .wire.errors import BUSY, ENGINE_DEAD, ApiError, error_event
from .wire.events import DONE
from .wire.generation import COMPLETIONS, RESPONSES, GenerationRequest
from .wire.replies import VOICE, Reply, make_replies
from .wire.tokens import NON_ASCII_IDS

DEAD = ApiError(500, ENGINE_DEAD)
FULL = ApiError(503, BUSY)
REFUSALS = {
    "http_400": ApiError(400, "temperature must be non-negative, got -1.0.", "temperature"),
    "http_401": ApiError(401, "Unauthorized"),
    "http_404": ApiError(404, "The model does not exist.", "model"),
    "http_429": ApiError(429, "Too many requests. Please try again later."),
    "http_500": DEAD,
    "http_503": FULL,
}


def _cut_in_characters(event: bytes) -> list[bytes]:
    borders = [at for at, byte in enumerate(event) if byte & 0xC0 == 0x80]  # inside a character
    starts = [0, *borders]
    return [event[a:b] for a, b in zip(starts, [*borders, len(event)], strict=True)]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


# How each event is cut: each piece is one chunk of the body and one write.
REWRITES: dict[str, Callable[[bytes], list[bytes]]] = {
    "split_bytes": lambda event: [event[at : at + 1] for at in range(len(event))],
    "split_utf8": _cut_in_characters,
    "crlf": lambda event: [event.replace(b"\n", b"\r\n")],
    "lone_cr": lambda event: [event.replace(b"\n", b"\r")],
    "comments": lambda event: [b": still here\n\n", event],
    "heartbeats": lambda event: [b"data:\n\n", event],
    "without_done": lambda event: [] if event == DONE else [event],
}

# What a server with this fault takes a request's fields for.
MISHEARD: dict[str, dict[str, Any]] = {
    "no_usage": {"include_usage": False, "continuous_usage": False},
    "other_model": {"model": "another-model"},
    "ignore_salt": {"cache_salt": None},
    "ignore_schema": {"schema": None},
}


def _garbled(ask: GenerationRequest) -> GenerationRequest:
    """Each digit of an answer is another one; the usual words are others."""
    digits = str.maketrans("0123456789", "1234567890")
    said = ask.worked_out and ask.worked_out.translate(digits)
    return replace(ask, seed=ask.seed + 1, worked_out=said)


def _reworded(ask: GenerationRequest) -> GenerationRequest:
    """An answer begins with a word more."""
    return replace(ask, worked_out=ask.worked_out and f"so: {ask.worked_out}")


UNDER_LOAD: dict[str, Callable[[GenerationRequest], GenerationRequest]] = {
    "garbled": _garbled,
    "reworded": _reworded,
}


def answer_to(
    ask: GenerationRequest, caller: Caller, server: Server, fault: Fault | None
) -> Answer:
    """Return the answer to a request, with its fault if it has one."""
    if fault is None:
        sound = StreamedAnswer if ask.stream else WholeAnswer
        return sound(ask, caller, make_replies(ask, server.settings), server)
    ask = _misheard(ask, fault, server.settings.max_model_len)
    if fault.kind in UNDER_LOAD and len(server.live) >= fault.value:  # this one comes on top
        ask = UNDER_LOAD[fault.kind](ask)
    voice = NON_ASCII_IDS if fault.kind == "split_utf8" else VOICE
    replies = make_replies(ask, server.settings, voice)
    if fault.kind == "only_thinks" and ask.endpoint != COMPLETIONS:
        ask = replace(ask, reasoning=True)
        replies = [replace(reply, reasoning_tokens=len(reply.pieces)) for reply in replies]
    kind = FaultyStream if ask.stream else FaultyWhole
    return kind(ask, caller, replies, server, fault)


def _misheard(ask: GenerationRequest, fault: Fault, max_model_len: int) -> GenerationRequest:
    """Return the request as a server with this fault would read it."""
    tokens = int(fault.value)
    if fault.kind == "short":
        return replace(ask, max_tokens=min(tokens, ask.max_tokens), min_tokens=0, ignore_eos=True)
    if fault.kind == "long":
        room = max_model_len - len(ask.prompt)  # no engine can hold more
        return replace(ask, max_tokens=min(ask.max_tokens + tokens, room), ignore_eos=True)
    return replace(ask, **MISHEARD.get(fault.kind, {}))


class Faulty(Answer):
    """Counts tokens up to the fault, and then calls the method with the fault's name."""

    STRIKES = (
        "error_event", "busy_event", "no_done", "cut", "reset", "stall", "malformed", "crash",
    )  # fmt: skip

    def __init__(
        self,
        ask: GenerationRequest,
        caller: Caller,
        replies: Sequence[Reply],
        server: Server,
        fault: Fault,
    ) -> None:
        super().__init__(ask, caller, replies, server)
        self.fault = fault
        # At the latest instead of the last token, so that short replies get it too.
        self._after = min(fault.after_tokens, self.choices[0].length - 1)
        self._may_strike = fault.kind in self.STRIKES
        self._held = False  # tokens are made, but wait

    def generate(self) -> None:
        """Start generation, or not at all."""
        if self.fault.kind != "silent":
            super().generate()

    def made(self, choice: Choice) -> None:
        """Start the fault when its token comes."""
        if self._may_strike and choice.made > self._after:
            self._may_strike = False
            getattr(self, self.fault.kind)(choice)
        elif not self._held:
            super().made(choice)

    def finish(self, outcome: str) -> None:
        """Record which fault was played, unless the client left first."""
        super().finish(self.fault.kind if outcome == "ok" else outcome)

    def usage(self) -> dict[str, object]:
        """Return the token counts, or what the fault claims."""
        counts, claimed = super().usage(), int(self.fault.value)
        prompt, made = len(self.ask.prompt), sum(choice.made for choice in self.choices)
        if self.fault.kind == "claim":
            made = claimed
        elif self.fault.kind == "claim_prompt":
            prompt += claimed
        total = {"prompt_tokens": prompt, "total_tokens": prompt + made, "completion_tokens": made}
        return counts | total

    def cut(self, _: Choice) -> None:
        """Close the connection in the middle."""
        self.send_half()
        self.finish("cut")
        self.connection.close()

    def reset(self, _: Choice) -> None:
        """Reset the connection in the middle."""
        self.send_half()
        self.finish("reset")
        self.connection.reset()

    def send_half(self) -> None:
        """Send half of an answer in one piece; in a stream, enough was already sent."""

    def stall(self, _: Choice) -> None:
        """Send nothing for a while."""
        self._held = True
        self._release_after(time.perf_counter() + self.fault.value)

    def crash(self, _: Choice) -> None:
        """Die like a killed process; only the truth file is saved."""
        self.finish("crash")
        self.server.truth.flush()
        os._exit(1)

    def _release_after(self, until_s: float) -> None:
        left_s = until_s - time.perf_counter()
        if left_s > 0:  # the loop's timers count in milliseconds and may be early
            loop = asyncio.get_running_loop()
            loop.call_later(max(left_s, 0.001), self._release_after, until_s)
            return
        self._held = False
        if not self.over:
            self.resume()


class FaultyStream(Faulty, StreamedAnswer):
    """A stream with a fault."""

    def made(self, choice: Choice) -> None:
        """Keep tokens back until there are enough of them, if that is the fault."""
        send = self.AT_THE_END.get(self.fault.kind)
        if send is not None:
            if choice.is_complete:
                send(self, choice)
        elif self.fault.kind != "merge":
            super().made(choice)
        elif choice.made - choice.sent >= self.fault.value or choice.is_complete:
            self._burst(choice)

    def finish_alone(self, choice: Choice) -> None:
        """Send the finish of a choice, without a token."""
        bare = replace(choice.reply, token_ids=[], pieces=[b""] * choice.length)
        event = self.events.tokens(choice.index, bare, choice.sent, choice.made)
        self.send_events(choice, [event], [0])

    AT_THE_END: ClassVar[Mapping[str, Callable[[FaultyStream, Choice], None]]] = {
        "all_in_one": StreamedAnswer.send,
        "no_tokens": finish_alone,
    }

    def resume(self) -> None:
        """Send all that waited, one event per token, as after a network that was blocked."""
        for choice in self.choices:
            if choice.made > choice.sent and not self._held and not self.over:
                self._burst(choice)

    def put(self, events: Sequence[bytes]) -> None:
        """Hand the events to the socket, cut as the fault says."""
        rewrite = REWRITES.get(self.fault.kind)
        if rewrite is None:
            super().put(events)
            return
        for event in events:
            for piece in rewrite(event):
                self.connection.write(http_chunk(piece))

    def error_event(self, _: Choice) -> None:
        """Send vLLM's error event, then [DONE]."""
        self._tell(DEAD, "error_event")

    def busy_event(self, _: Choice) -> None:
        """Refuse a request whose stream has begun, as vLLM does when its queue is full."""
        self._tell(FULL, "busy_event")

    def _tell(self, error: ApiError, outcome: str) -> None:
        """Send an error within the stream; of a response vLLM only cuts the connection."""
        if self.ask.endpoint == RESPONSES:
            self.finish(outcome)
            self.connection.close()
            return
        self.put([error_event(error), DONE])
        self.end(outcome)

    def no_done(self, _: Choice) -> None:
        """End properly, but without what should come last."""
        self.end("no_done")

    def malformed(self, choice: Choice) -> None:
        """Break off the JSON of one event."""
        event = self.events.tokens(choice.index, choice.reply, choice.sent, choice.made)
        self.send_events(choice, [_half(event) + b"\n\n"], [choice.made - choice.sent])

    def _burst(self, choice: Choice) -> None:
        new = range(choice.sent, choice.made)
        events = [self.events.tokens(choice.index, choice.reply, at, at + 1) for at in new]
        self.send_events(choice, events, [1] * len(new))


class FaultyWhole(Faulty, WholeAnswer):
    """An answer in one piece with a fault; faults of streams don't change it."""

    def resume(self) -> None:
        """Send the answer, if it is complete by now."""
        if all(choice.is_complete for choice in self.choices):
            self.send()

    def body(self) -> bytes:
        """Return the JSON of the answer, without its token counts if that is the fault."""
        body = super().body()
        if self.fault.kind != "no_usage":
            return body
        return orjson.dumps({k: v for k, v in orjson.loads(body).items() if k != "usage"})

    def send_half(self) -> None:
        body = self.body()
        self.connection.put(200, _half(body), length=len(body))

    def error_event(self, _: Choice) -> None:
        self._end_with(DEAD.status, orjson.dumps(DEAD.body))

    def busy_event(self, _: Choice) -> None:
        self._end_with(FULL.status, orjson.dumps(FULL.body))

    def no_done(self, _: Choice) -> None:
        self._end_with(200, b"")

    def malformed(self, _: Choice) -> None:
        """Break off the JSON."""
        self._end_with(200, _half(self.body()))

    def _end_with(self, status: int, body: bytes) -> None:
        self.connection.put(status, body)
        self.finish(self.fault.kind)
        self.connection.end()
