"""The plan of a run: which requests, in which order, when, over how many connections. Pure.

Everything is drawn from seeds before the first request is sent (see draw.py); `sha256` names it.
A run's name contains the second in which it starts, and so do its requests' ids and the salts that
separate runs in the prefix cache: `dataclasses.replace(plan, time_utc=…)` is a plan with a name.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from ..prompts.prompt import Prompt, PromptSet
from ..records.safe_file import write_atomically
from ..reply.outcome import Expectation
from ..scenario.load import LoadLevel
from ..scenario.scenario import Scenario
from .arrivals import realised, schedule_sha256
from .request import NOT_TOKENIZED, body_fields, chat_messages, make_body
from .share import NS_PER_S, PlannedRequest, Share, Talk, Target
from .times import schedule_facts, spare_connections

SHORTEST_SECRET = 4  # `X-Priority: 1` is no secret; masking it would hide every 1 in an error

Role = Literal["measured", "tail", "warm-up"]


@dataclass(frozen=True)
class Plan:
    """A run before it starts: a scenario at one of its levels, once."""

    scenario: Scenario
    level: LoadLevel
    repeat: int  # from 1
    target: Target
    prompts: PromptSet  # one per measured request, in order; in conversations what the person says
    warmup: tuple[Prompt, ...] = ()
    times_s: array[float] = field(default_factory=lambda: array("d"))  # see times.py
    output_tokens: tuple[int | None, ...] = ()  # per measured request; none: as the scenario says
    conversation_ids: tuple[str, ...] = ()
    trace_shared_share: float | None = None  # see trace.py; None: no trace, or none with blocks
    time_utc: str = "TIME"

    @property
    def run_id(self) -> str:
        """`<scenario>-cc<N>-pref<P>-max<M>-<time>`; a name for files, never parsed back.

        An open loop has `rate<R>` or `trace-x<speed>` in the place of `cc<N>`.
        """
        s = self.scenario
        prefill = s.prefill_tokens or "any"
        return f"{s.name}-{self.level.label}-pref{prefill}-max{s.max_new_tokens}-{self.time_utc}"

    @property
    def words(self) -> str:
        """Which of the scenario's runs this is, for people: `8 streams, repeat 2 of 3`."""
        repeats = self.scenario.repeats
        return self.level.words + (f", repeat {self.repeat} of {repeats}" if repeats > 1 else "")

    @functools.cached_property
    def measured(self) -> int:
        """How many requests have rows."""
        return len(self.prompts.prompts)

    @property
    def open_loop(self) -> bool:
        """Whether requests go by the clock."""
        return bool(self.times_s)

    @property
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
    def requests(self) -> tuple[PlannedRequest, ...]:
        """The measured requests, then the tail of an open loop, then the warm-up.

        The warm-up is sent first; only the measured requests have rows.
        """
        body = functools.cache(functools.partial(make_body, self.scenario))  # sent again: kept once
        return tuple(self._request(index, body) for index in range(self._timed + len(self.warmup)))

    @functools.cached_property
    def _timed(self) -> int:
        return len(self.times_s) or self.measured

    def role(self, index: int) -> Role:
        """Return what request `index` is for."""
        if index < self.measured:
            return "measured"
        return "tail" if index < self._timed else "warm-up"

    def _request(self, index: int, body: Any) -> PlannedRequest:
        role, most = self.role(index), self.scenario.max_new_tokens
        if role == "warm-up":
            prompt = self.warmup[index - self._timed]
        else:
            of = index % self.measured
            prompt = self.prompts.prompts[of]
            most = (self.output_tokens[of] if self.output_tokens else None) or most
        conversation_id, turn = self._turn(index) if role == "measured" else (None, None)
        return PlannedRequest(
            index=index,
            request_id=f"{self.run_id}-{index}",
            prompt_id=prompt.id,
            body=b"" if turn else body(prompt, self._salt(index, role), most),
            max_tokens=most,
            conversation_id=conversation_id,
            turn=turn,
        )

    def _turn(self, index: int) -> tuple[str | None, int | None]:
        settings = self.scenario.conversations
        if settings is None:
            return None, None
        number, turn = divmod(index, settings.turns)
        return self.conversation_ids[number], turn + 1

    def _salt(self, index: int, role: Role = "measured") -> str | None:
        """Return the salt for the prefix cache: prefixes match only under equal salts.

        Unmeasured requests have their own salts: they put no measured prompt into the cache.
        """
        if self.scenario.cache == "natural":
            return None
        if self.scenario.cache == "cold":
            return f"{self.run_id}-{index}"
        return self.run_id if role == "measured" else f"{self.run_id}-{role.replace('-', '')}"

    @functools.cached_property
    def talk(self) -> Talk | None:
        """What the turns of conversations are made of; None: no conversations."""
        scenario, settings = self.scenario, self.scenario.conversations
        if settings is None:
            return None
        return Talk(
            body=body_fields(scenario, self._salt(0), scenario.max_new_tokens),
            opening=tuple(chat_messages(scenario, Prompt("nothing said yet", ()))),
            said=tuple(prompt.text for prompt in self.prompts.prompts),
            turns=settings.turns,
            think_ns=int(settings.think_time_s * NS_PER_S),
            salt_each=scenario.cache == "cold",
        )

    def share(self, number: int, workers: int) -> Share:
        """Return the share of process `number` of `workers`."""
        streams, cap = self.level.concurrency, self.scenario.max_in_flight
        warmup, timed = self.requests[self._timed :], self.requests[: self._timed]
        mine = slice(number, None, workers)
        if streams is not None:
            lanes = len(range(streams)[mine])
            return Share(self.target, number, workers, lanes, warmup[mine], timed, talk=self.talk)
        times_s = self.times_s[mine]
        spare = spare_connections(times_s)
        most = None if cap is None else len(range(cap)[mine])
        return Share(
            self.target,
            number,
            workers,
            lanes=spare if most is None else min(spare, most),
            warmup=warmup[mine],
            requests=timed[mine],
            due_ns=array("q", (round(time_s * NS_PER_S) for time_s in times_s)),
            most_in_flight=most,
        )

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
        if index >= self.measured or self.prompts.counted_by != "server":
            return None
        if self.scenario.conversations or NOT_TOKENIZED & set(self.scenario.extra_body):
            return None
        return self.prompts.prompts[index].tokens

    @functools.cached_property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be written to files if a server echoes them: key and headers."""
        own = {name.lower() for name in self.scenario.headers} | {"authorization"}
        values = [value for name, value in self.target.headers if name.lower() in own]
        found = {v for value in values for v in (value, value.removeprefix("Bearer "))}
        # The longest first: otherwise a short one inside a long one would leave the rest visible.
        return tuple(sorted((v for v in found if len(v) >= SHORTEST_SECRET), key=len, reverse=True))

    @functools.cached_property
    def sha256(self) -> str:
        """Return the hash of what a run measures: every request's JSON, in order, and its time.

        The run's name isn't part of it: equal seeds and settings give an equal plan.
        """
        scenario, level = self.scenario, self.level
        said = {
            "body": body_fields(scenario, None, scenario.max_new_tokens),
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
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """The entry on the plan in the run's JSON."""
        times = schedule_facts(self.scenario, self.level, self.measured_s)
        share = self.trace_shared_share
        shared = {} if share is None else {"trace_shared_share": share}
        return {"sha256": self.sha256, **times, **shared}


COLUMNS = ("request_index", "t_scheduled_s", "prompt_id", "prompt_tokens", "max_tokens")


def write_plan(path: Path, plan: Plan) -> None:
    """Write one row per measured request; times in seconds from the start. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(plan))
    write_atomically(path, text.getvalue().encode(errors="backslashreplace"))


def _rows(plan: Plan) -> Iterator[tuple[object, ...]]:
    times_s = plan.measured_s
    for prompt, request in zip(plan.prompts.prompts, plan.requests, strict=False):
        # A closed loop has no times: a request goes when a stream is free.
        at = f"{times_s[request.index]:.9f}" if times_s else ""
        yield request.index, at, request.prompt_id, prompt.tokens, request.max_tokens
