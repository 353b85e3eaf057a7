"""The keys of a scenario that say how its requests come: arrivals, number, repeats.

A closed loop has `concurrencies`, an open one `request_rates` or a `trace`. A key that has
no effect with the others is refused, so that no setting is ignored silently. Closed loops may have
both lengths: they then go on until the time is over and the requests are sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .nested.groups import ClassKeys, ClassName, Conversations
from .nested.keys import Count, Keys, Pause, Time, optional, refuse, setting

# Below the range, gaps are nearly constant and their quantiles lose digits. Above it, nearly all
# requests come at once, and only millions of them show the rate.
SMALLEST_CV, LARGEST_CV = 0.01, 20.0

ArrivalShape = Literal["constant", "poisson", "gamma", "bursts"]
Start = Literal["staggered", "together"]
History = Literal["recorded", "live"]
Depth = Literal["drawn", "first"]
LONGEST_GAP_S = 60.0  # by default: a tool's wait lets a server evict blocks within tens of seconds

SHAPES = ("concurrencies", "request_rates", "trace")
# Keys that a class with streams of its own has nothing to do with.
ARRIVAL_KEYS = (
    *("request_rates", "arrival", "cv", "burst_size", "ramp_s", "speed", "trace"),
    *("num_requests", "max_in_flight", "concurrencies"),
)
# A scenario's own `quality` replaces these in defaults, since it decides them.
DECIDED = (
    *("dataset", "prefill_tokens", "prompt_fit", "temperature", "ignore_eos"),
    *("num_requests", "duration_s"),
)
# A scenario's own key replaces the others of its group in defaults.
ALTERNATIVES = (SHAPES, ("num_requests", "duration_s"))
MOST_REQUESTS = 20_000_000  # of one level; their schedule and bodies are kept in memory

MOST_DIVISOR = 1000  # of recorded lengths: what is left of them then is a template

Rate = Annotated[float, Field(gt=0, le=1_000_000)]


class LoadKeys(Keys):
    """How requests come. Where a key doesn't apply, a list is empty and another key None."""

    concurrencies: list[Annotated[int, Field(ge=1, le=16384)]] = setting(
        "closed loop: streams held open; each sends again when its reply ends", [1, 8, 64], []
    )
    request_rates: list[Rate] = setting(
        "open loop: requests per second, without waiting for earlier ones", [0.5, 4], []
    )
    start: Start | None = optional(
        "closed loop: first sends spread over one latency (default), or all at once", "together"
    )
    arrival: ArrivalShape | None = optional(
        "how the requests of request_rates arrive (default: poisson)", "gamma"
    )
    cv: Annotated[float, Field(ge=SMALLEST_CV, le=LARGEST_CV)] | None = optional(
        "for arrival gamma: standard deviation / mean of the gaps", 2
    )
    burst_size: Count | None = optional("for arrival bursts: requests sent at one instant", 8)
    ramp_s: Pause = setting("seconds in which the request rate grows evenly from 0", 30, 0.0)
    trace: str | None = optional(
        "recorded traffic: a file of requests, or a file or folder of sessions",
        "t.csv",
        min_length=1,
    )
    speed: list[Rate] = setting("how many times as fast a trace is replayed (default: 1)", 2, [])
    history: History | None = optional(
        "prompts of a session's turns: as recorded, or with this server's answers in them", "live"
    )
    max_gap_s: Pause | None = optional(
        f"longest wait between a session's turns (default: {LONGEST_GAP_S:g})", 600
    )
    depth: Depth | None = optional(
        "recorded sessions by streams: each begins at a drawn turn (default), or at its first",
        "first",
    )
    length_divisor: Annotated[int, Field(ge=1, le=MOST_DIVISOR)] | None = optional(
        "recorded sessions: prompts and answers a so-many-th as long (default: 1)", 16
    )
    num_requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] | None = optional(
        "requests of each level, one row each; with duration_s: at least", 200
    )
    duration_s: Time | None = optional("seconds of sending at each level", 60)
    max_in_flight: Count | None = optional(
        "open loop: most requests in flight; one that waits counts as late", 256
    )
    warmup_requests: int | None = optional(
        "sent first, without rows (default: one per stream)", 8, ge=0, le=MOST_REQUESTS
    )
    repeats: int = setting("how often each level is run", 3, 1, ge=1, le=1000)
    conversations: Conversations | None = optional(
        "several turns, each with the history so far", {"turns": 4, "think_time_s": 2}
    )
    classes: dict[ClassName, ClassKeys] | None = optional(
        "classes of users, each a share of the load, with keys of its own",
        {"chat": {"share": 0.7}, "legal": {"share": 0.3, "model": "lora-legal"}},
        min_length=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_shape(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        if given.get("concurrencies") and given.get("start") is None:
            filled["start"] = "staggered"
        if given.get("request_rates") and given.get("arrival") is None:
            filled["arrival"] = "poisson"
        if given.get("trace") and not given.get("concurrencies") and given.get("speed") is None:
            filled["speed"] = [1.0]
        return filled

    @field_validator("speed", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("concurrencies", "request_rates", "speed")
    @classmethod
    def _no_repeats(cls, value: list[float]) -> list[float]:
        if len(set(value)) != len(value):
            raise ValueError("must not name a level twice")
        return value

    @model_validator(mode="after")
    def _keys_agree(self) -> LoadKeys:
        problems = [*self._shape_problems()] or [
            *self._length_problems(),
            *self._class_problems(),
            *self._arrival_problems(),
            *self._trace_problems(),
            *self._session_problems(),
        ]
        refuse(problems)
        return self

    def _shape_problems(self) -> Iterator[str]:
        given = [key for key in SHAPES if getattr(self, key)]
        if not given and not self.own_streams:
            yield "give one of concurrencies: [N, …], request_rates: [R, …], trace: FILE"
        elif len(given) > 1 and given != ["concurrencies", "trace"]:
            yield f"give one of {', '.join(SHAPES)}, not {' and '.join(given)}"

    def _length_problems(self) -> Iterator[str]:
        given = [key for key in ("num_requests", "duration_s") if getattr(self, key) is not None]
        if (self.concurrencies or self.own_streams) and not given and self.trace is None:
            yield "give num_requests, duration_s or both"
        elif self.request_rates and not given:
            yield "give one of num_requests, duration_s"
        elif not (self.concurrencies or self.own_streams) and len(given) > 1:
            yield "give one of num_requests, duration_s, not both: only concurrencies take both"
        for rate in self.request_rates:
            due = rate * (self.duration_s or 0)
            if due > MOST_REQUESTS:
                yield (
                    f"duration_s: {self.duration_s:g} s at {rate:g} requests per second are"
                    f" {due:,.0f} requests; a run has at most {MOST_REQUESTS:,}"
                )

    def _arrival_problems(self) -> Iterator[str]:
        streams = any(c.streams for c in self.by_class.values())
        if self.start is not None and not (self.concurrencies or streams):
            yield "start goes only with concurrencies"
        for key in ("arrival", "cv", "burst_size", "ramp_s"):
            if getattr(self, key) and not self.request_rates:
                yield f"{key} goes only with request_rates"
        for key, shape in (("cv", "gamma"), ("burst_size", "bursts")):
            given = getattr(self, key) is not None
            if self.arrival == shape and not given:
                yield f"{key} is missing: arrival: {shape} needs it"
            elif self.request_rates and self.arrival != shape and given:
                yield f"{key} goes only with arrival: {shape}, not with {self.arrival}"

    def _trace_problems(self) -> Iterator[str]:
        if self.speed and self.trace is None:
            yield "speed goes only with trace"
        if self.speed and self.trace is not None and self.concurrencies:
            yield "speed doesn't go with concurrencies: its streams begin sessions, not its times"
        if self.trace is not None and not self.speed and not self.concurrencies:
            yield "speed is empty: 1 replays the trace as it was recorded"
        if self.max_in_flight is not None and self.concurrencies:
            yield "max_in_flight goes with request_rates or trace: concurrencies are a limit"
        if self.conversations is not None and not self.concurrencies:
            yield "conversations go only with concurrencies: each stream has one at a time"

    def _session_problems(self) -> Iterator[str]:
        talks = self.conversations
        for key in ("history", "max_gap_s", "depth"):
            if getattr(self, key) is not None and self.trace is None and talks is None:
                yield f"{key} goes only with sessions: a trace of them, or conversations"
        if self.length_divisor is not None and self.trace is None:
            yield "length_divisor goes only with a trace of sessions"
        if talks is not None and self.trace is not None:
            yield "conversations don't go with trace, which has its own sessions"
        elif talks is not None and self.history == "recorded":
            yield "history: recorded goes only with trace: conversations have this server's answers"
        if talks is not None and talks.tool_calls is None and self.max_gap_s is not None:
            yield "max_gap_s goes with conversations.tool_calls: other waits are think_time_s"
        if self.depth == "drawn" and (not self.concurrencies or self.lives):
            yield "depth: drawn goes with a trace, concurrencies and history: recorded"

    @property
    def lives(self) -> bool:
        """Whether the prompts of sessions have this server's answers in them."""
        return self.conversations is not None or self.history == "live"

    @property
    def holds_sessions(self) -> bool:
        """Whether its streams are sessions: conversations, or those of a trace."""
        return self.conversations is not None or bool(self.trace and self.concurrencies)

    @property
    def longest_gap_s(self) -> float:
        """The longest wait between a session's turns."""
        return LONGEST_GAP_S if self.max_gap_s is None else self.max_gap_s

    @property
    def by_class(self) -> dict[str, ClassKeys]:
        """The classes in their order; none: all users are alike."""
        return self.classes or {}

    @property
    def own_streams(self) -> int:
        """The streams of a closed loop of classes that each have their own; 0: it is another."""
        every = [c.streams for c in self.by_class.values()]
        alone = not any(getattr(self, key) for key in SHAPES)
        return sum(s for s in every if s) if alone and None not in every else 0

    def _class_problems(self) -> Iterator[str]:
        """Yield what is wrong with how classes share the load; a class's own keys come later."""
        if not self.by_class:
            return
        shares = [c.share for c in self.by_class.values() if c.share is not None]
        if shares and abs(sum(shares) - 1) > 1e-6:
            yield f"classes: their shares are {sum(shares):.6g} together, and must be 1"
        if self.concurrencies and len(shares) < len(self.by_class):
            yield "classes: with concurrencies each has a share; streams go with request_rates"
        if self.request_rates and not shares:
            yield "classes: none has a share of request_rates"
        if self.trace is not None:
            yield "classes don't go with trace: give it to a class with streams"
        closed = self.concurrencies or self.own_streams
        if closed and (self.duration_s is None or self.num_requests is not None):
            yield "classes of streams end together: give duration_s alone, not num_requests"
        for streams in self.concurrencies:
            if streams < len(self.by_class):
                yield f"concurrencies: {streams} is less than a stream for each class"

    def arrivals(self, rate: float) -> Arrivals:
        assert self.arrival is not None
        return Arrivals(self.arrival, rate, self.cv, self.burst_size, self.ramp_s)


def replaced(lower: Mapping[Any, Any], upper: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return `lower` updated with `upper`; a key in `upper` also replaces alternative keys."""
    gone = {
        key
        for group in ALTERNATIVES
        if any(upper.get(key) is not None for key in group)
        for key in group
    }
    if lower.get("concurrencies") and upper.get("concurrencies"):
        gone.discard("trace")  # of sessions: other streams play it too
    gone |= set(DECIDED) if upper.get("quality") is not None else set()
    return {**{key: value for key, value in lower.items() if key not in gone}, **upper}


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How requests arrive, within `LoadKeys`. `rate` is their mean in requests/s after the ramp."""

    shape: ArrivalShape
    rate: float
    cv: float | None = None  # gamma: the gaps' standard deviation over their mean; 1 is poisson
    burst_size: int | None = None  # bursts: requests that go at one instant
    ramp_s: float = 0.0  # the rate grows evenly from 0 during this time

    def seconds(self, requests: float) -> float:
        """Return when this many requests are due on average: the cumulative rate's inverse."""
        # Each stays on its side of the ramp's end, so that rounding can't swap two.
        if requests < self.rate * self.ramp_s / 2:
            return min(self.ramp_s, math.sqrt(2 * self.ramp_s * requests / self.rate))
        return max(self.ramp_s, requests / self.rate + self.ramp_s / 2)
