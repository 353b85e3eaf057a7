"""The plan of a run: which requests, in which order, when, over how many connections. Pure.

Everything is drawn from seeds before the first request is sent (see draw.py); `sha256` names it.
A run's name contains the second in which it starts, and so do its requests' ids and the salts that
separate runs in the prefix cache: `dataclasses.replace(plan, time_utc=…)` is a plan with a name.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from ..reply.outcome import Expectation
from ..scenario.load import LoadLevel
from ..scenario.load_keys import Start
from ..scenario.scenario import Scenario
from .arrivals import realised
from .dealt.own import ALL
from .part import Part
from .parts.traffic import Whole
from .requests import Role
from .share import Share
from .times import start_facts

# A pass over questions: one at a time, at a level of load, or one at a time once more.
Asked = Literal["alone", "load", "again"]


@dataclass(frozen=True)
class Plan:
    """A run before it starts: a scenario at one of its levels, once."""

    scenario: Scenario
    level: LoadLevel
    repeat: int  # from 1
    drawn: tuple[Part, ...]  # of each class, or one of all; `parts` know the run's name as well
    alone: str | None = None  # the class that is sent without the others
    asked: Asked | None = None  # of questions: which pass over them it is
    time_utc: str = "TIME"
    traced: bool = False  # whether each request carries a traceparent
    machine: str | None = None  # that sends what its parts call their own; None: the only one
    rate: float | None = None  # requests/s of all machines together; None: as its times say
    session: str = ""  # that runs it: two that start in one second may call runs by one name

    @property
    def run_id(self) -> str:
        """`<scenario>[-<label>]-cc<N>-pref<P>-max<M>-<time>`; a name for files, never parsed back.

        An open loop has `rate<R>` or `trace-x<speed>` in the place of `cc<N>`.
        """
        s = self.scenario
        name = f"{s.name}-{s.label}" if s.label else s.name
        prefill = s.prefill_tokens or "any"
        return f"{name}-{self.level.label}-pref{prefill}-max{s.max_new_tokens}-{self.time_utc}"

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        load = (self.level.concurrency, self.request_rate)
        whole = Whole(self.run_id, self.scenario.name, *load, self.traced, self.machine)
        return tuple(dataclasses.replace(part, whole=whole) for part in self.drawn)

    def part(self, index: int) -> Part:
        """Return the part that request `index` belongs to."""
        return self._by_place[index % self.parts[0].of]

    @functools.cached_property
    def _by_place(self) -> dict[int, Part]:
        return {part.place: part for part in self.parts}

    @property
    def words(self) -> str:
        """Which of the scenario's runs this is, for people: `8 streams, repeat 2 of 3`."""
        repeats = self.scenario.repeats
        alone = f", {self.alone} alone" if self.alone else ""
        alone = alone or ("" if self.asked in (None, "load") else f", asked {self.asked}")
        repeat = f", repeat {self.repeat} of {repeats}" if repeats > 1 else ""
        return f"{self.level.words}{alone}{repeat}"

    @property
    def measured(self) -> int:
        """How many requests have rows; by time (`duration_s`): at least."""
        return sum(part.measured for part in self.drawn)

    @property
    def duration_s(self) -> float | None:
        """How long closed loops send; None: by number, or there are open ones alone."""
        return max((p.duration_s for p in self.drawn if p.duration_s is not None), default=None)

    @property
    def by_time(self) -> bool:
        """Whether one closed loop uses its prompts again until its time is over."""
        return len(self.drawn) == 1 and self.duration_s is not None

    @property
    def warmups(self) -> int:
        return sum(len(part.warmup) + len(part.primes) for part in self.drawn)

    @property
    def start(self) -> Start | None:
        """How the streams of closed loops begin; None: there is none."""
        ways = {part.start for part in self.drawn if part.start is not None}
        return "together" if "together" in ways else next(iter(ways), None)

    def start_facts(self, warmup_latency_s: float | None) -> dict[str, Any]:
        """Return how the streams begin, after a warm-up with this latency: see times.py."""
        talks = [part.scenario.conversations for part in self.drawn]
        think_s = max(talk.think_time_s if talk else 0.0 for talk in talks)
        return start_facts(self.start, warmup_latency_s, think_s)

    def cuts_plays(self, part: Part) -> bool:
        """Whether a part's sessions are left as they are when the run's time is over.

        Of recorded ones that go by time, and beside arrivals, with which all sending ends.
        """
        beside = self.open_loop and not part.open_loop
        return part.plays is not None and (beside or part.plays_last_s is not None)

    @property
    def open_loop(self) -> bool:
        """Whether any requests go by the clock."""
        return any(part.open_loop for part in self.drawn)

    @functools.cached_property
    def measured_s(self) -> Sequence[float]:
        """Times of the requests by the clock that have rows, ascending."""
        first, *others = (part.measured_s for part in self.drawn)
        return sorted([*first, *(t for times in others for t in times)]) if others else first

    @functools.cached_property
    def request_rate(self) -> float | None:
        """Requests a second asked for: of a trace its mean; None in a closed loop."""
        if self.level.concurrency is not None:
            return None
        told = self.rate or self.level.request_rate
        return told or realised(self.measured_s)[0] or float(self.measured)

    def role(self, index: int) -> Role:
        """Return what request `index` is for."""
        return self.part(index).role(index)

    @property
    def streams(self) -> int | None:
        """How many streams this machine holds open; None: requests go by the clock."""
        if self.level.concurrency is None:
            return None
        return sum(part.own.below(part.level.concurrency or 0) for part in self.drawn)

    @property
    def own_rate_share(self) -> float:
        """How much of what goes by the clock this machine sends, 0 to 1."""
        own = next((part.own for part in self.drawn if part.open_loop), ALL)
        return len(own.places) / own.period

    def shares(self, number: int, workers: int) -> tuple[Share, ...]:
        """Return the shares of process `number` of this machine's, one of each part."""
        return tuple(part.share(number, workers) for part in self.parts)

    def expectation(self, index: int, start_ns: int) -> Expectation:
        """Return what is known of request `index` before its reply."""
        return self.part(index).expectation(index, start_ns)

    @functools.cached_property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown if a server echoes them: all secrets that it is sent."""
        return tuple(dict.fromkeys(text for part in self.drawn for text in part.secrets))

    @functools.cached_property
    def sha256(self) -> str:
        """Return the hash of what a run measures: of its part, or of those of its classes."""
        if self.drawn[0].name is None:
            return self.drawn[0].sha256
        said = {str(part.name): part.sha256 for part in self.drawn}
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
