"""One request being answered: tokens come in from the pacing, events go out to the connection."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .engine.engine import EngineState
from .faults import Fault
from .metrics import Metrics
from .truth import TruthLog, TruthRecord
from .wire.ask import Ask, Identity
from .wire.bodies import usage
from .wire.connection import Connection, HttpRequest
from .wire.replies import Reply
from .wire.settings import VERSION, Settings


class Pacing(Protocol):
    """Says when each token of a choice is there, by calling its `token`."""

    def start(self, choice: Choice) -> None:
        """Begin to generate a choice."""

    def stop(self, choice: Choice) -> None:
        """Forget a choice that nobody waits for."""

    def state(self) -> EngineState:
        """Return what /metrics tells of the engine."""

    def reset_prefix_cache(self) -> bool:
        """Empty the prefix cache; return whether that could be done now."""


@dataclass(frozen=True, slots=True)
class House:
    """What all answers of one server share."""

    settings: Settings
    pacing: Pacing
    truth: TruthLog
    metrics: Metrics
    faults: tuple[Fault, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The `system_fingerprint` of answers: equal for servers of equal settings."""
        return f"vllm-{VERSION}-{zlib.crc32(repr(self.settings).encode()):08x}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, and when."""

    connection: Connection
    request: HttpRequest
    request_id: str
    answer_id: str

    @property
    def received_ns(self) -> int:
        """When the last byte of the request came."""
        return self.request.received_ns


class Choice:
    """One choice of an answer while it is generated."""

    __slots__ = (
        "answer", "cached_tokens", "index", "length", "made", "preemptions", "prompt", "reply",
        "sent", "started_ns", "times_ns",
    )  # fmt: skip

    def __init__(self, answer: Answer, index: int, reply: Reply) -> None:
        """Start with no token made and none sent."""
        self.answer = answer
        self.index = index
        self.reply = reply
        self.prompt = answer.ask.prompts[index // answer.ask.n]
        self.length = len(reply.token_ids)
        self.made = 0
        self.sent = 0
        self.cached_tokens = 0  # of the prompt, found in the prefix cache
        self.preemptions = 0
        self.started_ns = 0  # its prefill began; 0: it still waits
        self.times_ns: list[int] = []  # when each token was made

    def started(self, cached_tokens: int, now_ns: int) -> None:
        """Note the begin of the prefill; one that starts again after a preemption did begin."""
        if not self.started_ns:
            self.started_ns = now_ns
            self.cached_tokens = cached_tokens

    def token(self) -> None:
        """Take one more token."""
        self.times_ns.append(time.perf_counter_ns())  # the token is there
        self.made += 1
        self.answer.made(self)


class Answer:
    """What streamed and whole answers have in common: the choices, and the end."""

    def __init__(self, ask: Ask, caller: Caller, replies: Sequence[Reply], house: House) -> None:
        """Make the choices; nothing is sent or generated yet."""
        self.ask = ask
        self.caller = caller
        self.house = house
        self.identity = Identity(caller.answer_id, int(time.time()), house.fingerprint)
        self.choices = [Choice(self, index, reply) for index, reply in enumerate(replies)]
        self.over = False
        self.sent_ns: list[int] = []
        self.sent_tokens: list[int] = []
        self._open = len(self.choices)

    def begin(self) -> None:
        """Start to generate."""
        self.caller.connection.listener = self
        self.house.metrics.begin(self)
        self.generate()

    def generate(self) -> None:
        """Have the tokens made."""
        for choice in self.choices:
            self.house.pacing.start(choice)

    def made(self, choice: Choice) -> None:
        """Take note of a token that was made."""
        raise NotImplementedError

    def resume(self) -> None:
        """Continue: the client reads again."""

    def client_gone(self) -> None:
        """Stop generating for a client that left."""
        self.finish("client_gone")

    def usage(self) -> dict[str, object]:
        """Return the token counts of the whole answer."""
        settings = self.house.settings
        cached = sum(c.cached_tokens for c in self.choices[:: self.ask.n])
        thought = sum(min(c.reply.reasoning_tokens, c.made) for c in self.choices)
        return usage(
            self.ask,
            sum(choice.made for choice in self.choices),
            cached if settings.prompt_tokens_details else None,
            thought if self.ask.reasoning else None,
        )

    def finish(self, outcome: str) -> None:
        """Write down how it went; once, whatever ended it."""
        if self.over:
            return
        self.over = True
        for choice in self.choices:
            if choice.made < choice.length:
                self.house.pacing.stop(choice)
        complete = all(choice.made == choice.length for choice in self.choices)
        self.house.metrics.end(self)
        self.house.truth.add(
            TruthRecord(
                self.caller.request_id,
                self.ask.endpoint,
                self.caller.received_ns,
                self.sent_ns,
                self.sent_tokens,
                self.ask.prompt_tokens,
                sum(choice.made for choice in self.choices),
                self.choices[0].reply.finish_reason if complete else None,
                time.perf_counter_ns(),  # the last byte has been handed over
                outcome,
            )
        )
        # Choices know their answer: without this, only the garbage collector, which is off
        # while streams run, could free either.
        self.choices = []
