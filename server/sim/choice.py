"""One choice of an answer during generation, and the interface of what makes its tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from .engine.engine import EngineConfig, EngineState
from .wire.generation import GenerationRequest
from .wire.replies import Reply
from .wire.settings import ExactPace


class Choice:
    """Counts its tokens and keeps the time of each."""

    __slots__ = (
        "ask", "cached_tokens", "index", "length", "made", "on_token", "over", "received_ns",
        "reply", "sent", "started_ns", "times_ns",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        ask: GenerationRequest,
        reply: Reply,
        received_ns: int,
        on_token: Callable[[Choice], None],
    ) -> None:
        self.index = index
        self.ask = ask
        self.reply = reply
        self.length = len(reply.token_ids)
        self.received_ns = received_ns  # the last byte of the request came
        self.on_token = on_token
        self.made = 0
        self.sent = 0
        self.over = False  # no more tokens are needed
        self.cached_tokens = 0  # of the prompt, found in the prefix cache
        self.started_ns = 0  # when its prefill began; 0: it still waits
        self.times_ns: list[int] = []  # when each token was made

    @property
    def is_complete(self) -> bool:
        """Whether the last token was made."""
        return self.made == self.length

    def started(self, cached_tokens: int, now_ns: int) -> None:
        """Note that its prefill begins."""
        self.started_ns = now_ns
        self.cached_tokens = cached_tokens

    def token(self) -> None:
        """Take one more token."""
        self.times_ns.append(time.perf_counter_ns())  # the token was made
        self.made += 1
        self.on_token(self)


class Pacing(Protocol):
    """Decides when each token of a choice is made, and then calls `token`."""

    @property
    def pace(self) -> ExactPace | EngineConfig:
        """Its settings."""

    def start(self, choice: Choice) -> None:
        """Begin to generate a choice."""

    def stop(self, choice: Choice) -> None:
        """Drop a choice whose client has left."""

    def state(self) -> EngineState:
        """Return what /metrics shows of the engine."""
