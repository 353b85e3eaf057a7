"""One kind of traffic of a run, as a scenario describes it: what goes when, and whose it is. Pure.

A run without classes has one part. With classes each has its own: its prompts, its streams or its
share of the arrivals, its endpoint and limits. Parts know nothing of each other; request i of a
part is request i * of + place of the run, so that every number is one part's.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...prompts.prompt import Prompt, PromptSet
from ...scenario.load import LoadLevel
from ...scenario.load_keys import MOST_REQUESTS, History, Start
from ...scenario.scenario import Scenario
from ...scenario.secrets import secret_texts
from ..arrivals import realised
from ..dealt.own import ALL, NONE, Own
from ..pool import Uses, numbered
from ..sessions.hits import PlayedHits
from ..sessions.script import Plays
from ..share import Target
from ..times import stream_begins

if TYPE_CHECKING:  # of a trace, or of groups
    from ...traces.group_prompts import Grouped
    from ...traces.possible import Possible


@dataclass(frozen=True, slots=True)
class Whole:
    """What a part must know of the run that it belongs to."""

    run_id: str = "RUN"
    scenario: str = ""
    concurrency: int | None = None
    request_rate: float | None = None
    traced: bool = False  # whether each request carries a traceparent
    machine: str | None = None  # that sends it; None: the only one


@dataclass(frozen=True)
class Traffic:
    """One kind of traffic of a run: all of it, or a class of its users."""

    scenario: Scenario  # of a class: with the class's own keys
    level: LoadLevel  # of a class: its own streams, or its share of the rate
    repeat: int  # from 1
    target: Target
    # One per measured request, in order; of sessions one per turn, script by script (in live ones
    # what the turn adds). A closed loop that goes by time, and the tail of an open one, use them
    # again.
    prompts: PromptSet
    warmup: Sequence[Prompt] = ()
    times_s: Sequence[float] = field(default_factory=lambda: array("d"))  # see times.py
    output_tokens: Sequence[int | None] = ()  # per prompt; none: as the scenario says
    plays: Plays | None = None  # None: no sessions
    about_s: array[float] = field(default_factory=lambda: array("d"))  # of sessions' turns
    primes: Sequence[Prompt] = ()  # sent before the start, for one token each
    prime_plays: tuple[int, ...] = ()  # for which play each of them is
    trace_shared_share: float | None = None  # see trace.py; None: no trace, or none with blocks
    # Hits of each request; None: it isn't known what repeats.
    possible: Possible | PlayedHits | None = None
    grouped: Grouped | None = None  # prompts in groups that begin alike
    name: str | None = None  # of the class; None: the scenario has none
    place: int = 0  # among the scenario's classes
    of: int = 1
    whole: Whole = Whole()
    answers: Mapping[str, str] = field(default_factory=dict)  # to questions, by the prompt's id
    own: Own = ALL  # the streams, requests and plays of this machine, where several send
    known_uses: Uses | None = None  # of what is sent; None: its prompts are here to be compared

    @functools.cached_property
    def measured(self) -> int:
        """How many requests have rows; by time (`duration_s`): at least."""
        if self.duration_s is not None:
            return self.scenario.num_requests or 0
        return self.plays.first(self.plays.wanted) if self.plays else len(self.prompts.prompts)

    @property
    def most_measured(self) -> int:
        """How many requests may have rows at most."""
        return self.measured if self.duration_s is None else MOST_REQUESTS

    @property
    def duration_s(self) -> float | None:
        """How long a closed loop sends; None: by number, or an open loop, which has its times."""
        return None if self.level.concurrency is None else self.scenario.duration_s

    @property
    def plays_last_s(self) -> float | None:
        """When recorded sessions under way are left as they are; None: each goes on to its end.

        The steady mix of depths is there from the start, and would be gone before the longest ends.
        """
        whole = self.plays is None or self.plays.live or self.scenario.num_requests is not None
        return None if whole else self.duration_s

    @property
    def most_tickets(self) -> int:
        """How many requests may begin here in a closed loop at most, or plays; 0: an open one."""
        if self.open_loop:
            return 0
        most = self.most_measured
        return self.own.below(self.plays.until(most) if self.plays else most)

    def due(self, taken: int) -> int:
        """Return how many requests of this machine should have a row, after so many tickets.

        Those begun, at least; of a play that began, each turn counts.
        """
        least = self.own_among(self.measured)
        if self.duration_s is None or not taken:
            return least
        begun = self.own.number(taken - 1) + 1
        return max(least, self.own_among(self.plays.first(begun)) if self.plays else taken)

    def own_among(self, requests: int) -> int:
        """Return how many of the first so many requests are this machine's."""
        plays = self.plays
        if plays is None or self.own == ALL:
            return self.own.below(requests)
        numbers = self.own.upto(plays.until(requests))
        return sum(min(plays.size(n), requests - plays.first(n)) for n in numbers)

    def senders(self, workers: int) -> int:
        """Return how many of this machine's so many processes send any of this.

        One without a stream, or a place under the cap, has nobody who could send anything.
        """
        most = self.level.concurrency or self.scenario.max_in_flight
        return workers if most is None else min(workers, self.own.below(most))

    @property
    def most_senders(self) -> int:
        """How many processes of this machine have any of this to send, however many there are."""
        timed = len(self.times_s) if self.plays else self.measured
        return self.senders(self.own.below(timed) if self.open_loop else MOST_REQUESTS)

    def own_of(self, number: int, workers: int) -> Own:
        """Return which streams, requests and plays are those of a process of this machine's."""
        senders = self.senders(workers)
        return self.own.every(number, senders) if number < senders else NONE

    @property
    def start(self) -> Start | None:
        """How the streams of a closed loop begin: without a warm-up no latency is known."""
        several = (self.level.concurrency or 0) > 1
        return "together" if several and not self.warmup else self.scenario.start

    @property
    def open_loop(self) -> bool:
        """Whether requests go by the clock."""
        return bool(self.times_s)

    @property
    def has_tail(self) -> bool:
        """Whether it goes on after its last measured request, until the run stops it."""
        return self.open_loop and self.plays is None

    @functools.cached_property
    def measured_s(self) -> Sequence[float]:
        """Times of the requests that have rows, of sessions about; none in a closed loop."""
        if self.plays is not None:
            return self.about_s
        return self.times_s[: self.measured]

    @functools.cached_property
    def request_rate(self) -> float | None:
        """Requests a second asked for: of a trace its mean; None in a closed loop."""
        if self.level.concurrency is not None:
            return None
        return self.level.request_rate or realised(self.measured_s)[0] or float(self.measured)

    @property
    def live(self) -> bool:
        """Whether prompts have this server's answers in them."""
        return self.plays is not None and self.plays.live

    @property
    def history(self) -> History | None:
        """What later turns have in place of earlier answers; None: no sessions."""
        return None if self.plays is None else "live" if self.plays.live else "recorded"

    @functools.cached_property
    def begins(self) -> tuple[float, ...]:
        """When each stream begins, as a share of the start's spread; none: all together."""
        streams = (self.level.concurrency or 0) if self.start == "staggered" else 0
        return stream_begins(self.scenario, streams, self.repeat)

    @functools.cached_property
    def uses_before(self) -> Uses:
        """Of each prompt, or session by its plays: its first turn is what a prefix cache finds."""
        if self.known_uses is not None:
            return self.known_uses
        prompts, plays = self.prompts.prompts, self.plays
        if plays is not None and not plays.live:
            return Uses.of(plays.order)
        if plays is not None:
            played = range(len(plays.order))
            openings = [prompts[plays.position(play, 0)] for play in played]
            return Uses.of(numbered(openings, lambda prompt: prompt.messages)[1])
        if self.level.speed is not None:  # what a trace repeats was repeated
            return Uses.of(range(len(prompts)))
        return Uses.of(numbered(prompts, lambda prompt: prompt.messages)[1])

    @functools.cached_property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown if a server echoes them: all secrets that it is sent."""
        key = [value for name, value in self.target.headers if name == "Authorization"]
        return secret_texts(key, self.scenario.headers, self.scenario.extra_body)
