"""The plan of a run: which requests, in which order, when, over how many connections. Pure.

Everything is drawn from seeds before the first request is sent (see draw.py); `sha256` names it.
A run's name contains the second in which it starts, and so do its requests' ids and the salts that
separate runs in the prefix cache: `dataclasses.replace(plan, time_utc=…)` is a plan with a name.
"""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..prompts.prompt import Prompt, PromptSet
from ..reply.outcome import Expectation
from ..scenario.load import LoadLevel
from ..scenario.load_keys import MOST_REQUESTS, Start
from ..scenario.scenario import Scenario
from ..scenario.secrets import secret_texts
from .arrivals import realised, schedule_sha256
from .pool import Uses, numbered
from .request import NOT_TOKENIZED, body_fields, chat_messages, make_piece, make_pool
from .requests import Requests, Role
from .share import NS_PER_S, Share, Talk, Target
from .times import nanoseconds, schedule_facts, spare_connections, start_facts, stream_begins


@dataclass(frozen=True)
class Plan:
    """A run before it starts: a scenario at one of its levels, once."""

    scenario: Scenario
    level: LoadLevel
    repeat: int  # from 1
    target: Target
    # One per measured request, in order; in conversations what the person says. A closed loop that
    # goes by time, and the tail of an open one, use them again.
    prompts: PromptSet
    warmup: tuple[Prompt, ...] = ()
    times_s: array[float] = field(default_factory=lambda: array("d"))  # see times.py
    output_tokens: tuple[int | None, ...] = ()  # per measured request; none: as the scenario says
    conversation_ids: tuple[str, ...] = ()
    trace_shared_share: float | None = None  # see trace.py; None: no trace, or none with blocks
    time_utc: str = "TIME"

    @property
    def run_id(self) -> str:
        """`<scenario>[-<label>]-cc<N>-pref<P>-max<M>-<time>`; a name for files, never parsed back.

        An open loop has `rate<R>` or `trace-x<speed>` in the place of `cc<N>`.
        """
        s = self.scenario
        name = f"{s.name}-{s.label}" if s.label else s.name
        prefill = s.prefill_tokens or "any"
        return f"{name}-{self.level.label}-pref{prefill}-max{s.max_new_tokens}-{self.time_utc}"

    @property
    def words(self) -> str:
        """Which of the scenario's runs this is, for people: `8 streams, repeat 2 of 3`."""
        repeats = self.scenario.repeats
        return self.level.words + (f", repeat {self.repeat} of {repeats}" if repeats > 1 else "")

    @functools.cached_property
    def measured(self) -> int:
        """How many requests have rows; by time (`duration_s`): at least."""
        by_time = self.duration_s is not None
        return (self.scenario.num_requests or 0) if by_time else len(self.prompts.prompts)

    @property
    def most_measured(self) -> int:
        """How many requests may have rows at most."""
        return self.measured if self.duration_s is None else MOST_REQUESTS

    @property
    def duration_s(self) -> float | None:
        """How long a closed loop sends; None: by number, or an open loop, which has its times."""
        return None if self.level.concurrency is None else self.scenario.duration_s

    @property
    def turns(self) -> int:
        return turns_of(self.scenario)

    @property
    def start(self) -> Start | None:
        """How the streams of a closed loop begin: without a warm-up no latency is known."""
        several = (self.level.concurrency or 0) > 1
        return "together" if several and not self.warmup else self.scenario.start

    def start_facts(self, warmup_latency_s: float | None) -> dict[str, Any]:
        """Return how the streams begin, after a warm-up with this latency: see times.py."""
        return start_facts(self.scenario, self.start, warmup_latency_s)

    @property
    def open_loop(self) -> bool:
        """Whether requests go by the clock."""
        return bool(self.times_s)

    @functools.cached_property
    def measured_s(self) -> Sequence[float]:
        """Times of the requests that have rows; none in a closed loop."""
        return self.times_s[: self.measured]

    @functools.cached_property
    def request_rate(self) -> float | None:
        """Requests a second asked for: of a trace its mean; None in a closed loop."""
        if self.level.concurrency is not None:
            return None
        return self.level.request_rate or realised(self.measured_s)[0] or float(self.measured)

    @functools.cached_property
    def requests(self) -> Requests:
        """The measured requests, then the tail of an open loop, then the warm-up."""
        timed = len(self.times_s) or self.most_measured
        return Requests(
            run_id=self.run_id,
            cache=self.scenario.cache,
            pool=make_pool(self.scenario, self.prompts.prompts, self.output_tokens),
            uses=self._uses,
            warmup=tuple(make_piece(self.scenario, prompt) for prompt in self.warmup),
            measured=self.most_measured,
            timed=timed,
            turns=self.turns,
            conversation_ids=self.conversation_ids,
            indexes=range(timed + len(self.warmup)),
        )

    @functools.cached_property
    def _uses(self) -> Uses:
        """Of each prompt, or conversation: it is its first turn that a prefix cache finds."""
        openings = self.prompts.prompts[:: self.turns]
        if self.level.speed is not None:  # what a trace repeats was repeated
            return Uses.of(range(len(openings)))
        return Uses.of(numbered(openings, lambda prompt: prompt.messages)[1])

    def uses(self, sent: int) -> dict[str, int]:
        """Return how many different prompts `sent` requests had, and the uses of one at most."""
        found = {prompt.id for prompt in self.prompts.prompts[:sent]}
        return {"distinct": len(found), "max_uses": self._uses.most(-(-sent // self.turns))}

    def role(self, index: int) -> Role:
        """Return what request `index` is for."""
        return self.requests.role(index)

    @functools.cached_property
    def talk(self) -> Talk | None:
        """What the turns of conversations are made of; None: no conversations."""
        scenario, settings = self.scenario, self.scenario.conversations
        if settings is None:
            return None
        return Talk(
            body=body_fields(scenario, scenario.max_new_tokens),
            opening=tuple(chat_messages(scenario, Prompt("nothing said yet", ()))),
            said=tuple(prompt.text for prompt in self.prompts.prompts),
            turns=settings.turns,
            think_ns=int(settings.think_time_s * NS_PER_S),
        )

    def share(self, number: int, workers: int) -> Share:
        """Return the share of process `number` of `workers`."""
        if self.level.concurrency is not None:
            return self._share_of_streams(number, workers)
        cap, timed = self.scenario.max_in_flight, self.requests.timed
        mine = slice(number, None, workers)
        times_s = self.times_s[mine]
        spare = spare_connections(times_s)
        most = None if cap is None else len(range(cap)[mine])
        return Share(
            self.target,
            number,
            workers,
            lanes=spare if most is None else min(spare, most),
            warmup=self.requests[timed:][mine],
            requests=self.requests[:timed][mine],
            due_ns=nanoseconds(times_s),
            most_in_flight=most,
        )

    def _share_of_streams(self, number: int, workers: int) -> Share:
        mine, measured = slice(number, None, workers), self.requests.measured
        return Share(
            self.target,
            number,
            workers,
            lanes=len(range(self.level.concurrency or 0)[mine]),
            warmup=self.requests[measured:][mine],
            requests=self.requests[:measured],
            talk=self.talk,
            begins=self.begins[mine],
            duration_ns=None if self.duration_s is None else int(self.duration_s * NS_PER_S),
            fewest=-(-self.measured // self.turns),
        )

    @functools.cached_property
    def begins(self) -> tuple[float, ...]:
        """When each stream begins, as a share of the start's spread; none: all together."""
        streams = (self.level.concurrency or 0) if self.start == "staggered" else 0
        return stream_begins(self.scenario, streams, self.repeat)

    def expectation(self, index: int, start_ns: int) -> Expectation:
        """Return what is known of request `index` before its reply."""
        request = self.requests[index]
        return Expectation(
            run_id=self.run_id,
            scenario=self.scenario.name,
            concurrency=self.level.concurrency,
            request_rate=self.request_rate,
            request_id=request.request_id,
            prompt_id=request.prompt_id,
            conversation_id=request.conversation_id,
            turn=request.turn,
            prompt_tokens=self._counted_by_the_server(index),
            max_tokens=request.max_tokens,
            choices=int(self.scenario.extra_body.get("n") or 1),
            stream=self.scenario.stream,
            start_ns=start_ns,
            secrets=self.secrets,
        )

    def _counted_by_the_server(self, index: int) -> int | None:
        """Return the tokens of request `index`, if the server said them and they are all it has."""
        if self.role(index) != "measured" or self.prompts.counted_by != "server":
            return None
        if self.scenario.conversations or NOT_TOKENIZED & set(self.scenario.extra_body):
            return None
        return self.prompts.prompts[index % len(self.prompts.prompts)].tokens

    @functools.cached_property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown if a server echoes them: all secrets that it is sent."""
        key = [value for name, value in self.target.headers if name == "Authorization"]
        return secret_texts(key, self.scenario.headers, self.scenario.extra_body)

    @functools.cached_property
    def sha256(self) -> str:
        """Return the hash of what a run measures: every request's JSON, in order, and its time.

        The run's name isn't part of it: equal seeds and settings give an equal plan.
        """
        scenario, level = self.scenario, self.level
        said = {
            "body": body_fields(scenario, scenario.max_new_tokens),
            "system_prompt": scenario.system_prompt,
            "endpoint": scenario.endpoint,
            "cache": scenario.cache,
            "conversations": scenario.conversations and scenario.conversations.model_dump(),
            "prompts": self.prompts.sha256,
            "output_tokens": self.output_tokens,
            "requests": self.measured,
            "level": {
                "concurrency": level.concurrency,
                "request_rate": level.request_rate,
                "speed": level.speed,
            },
            "max_in_flight": scenario.max_in_flight,
            "schedule": schedule_sha256(self.measured_s),
            **self._only_where_it_matters(),
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def _only_where_it_matters(self) -> dict[str, Any]:
        """Return what older plans didn't have: the hash of a plan without it stays the same."""
        found: dict[str, Any] = {}
        if self.level.concurrency is not None:
            found = {"start": self.scenario.start, "duration_s": self.duration_s}
        if self.scenario.cache == "run" and self._uses.most(self.measured // self.turns) > 1:
            found["salts"] = "one for each use"
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """The entry on the plan in the run's JSON."""
        times = schedule_facts(self.scenario, self.level, self.measured_s)
        start = {} if self.start is None else {"start": self.start}
        pool = {} if self.duration_s is None else {"prompts": len(self.prompts.prompts)}
        share = self.trace_shared_share
        shared = {} if share is None else {"trace_shared_share": share}
        return {"sha256": self.sha256, **times, **start, **pool, **shared}


def turns_of(scenario: Scenario) -> int:
    """Return the requests of a conversation; without conversations 1."""
    return scenario.conversations.turns if scenario.conversations else 1
