"""The plan of a run: which requests, in which order, when, over how many connections. Pure.

Everything is decided here, from seeds, before the first request is sent; `sha256` names it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from ..prompts.prompt import Prompt
from ..records.whole_file import write_whole
from ..reply.outcome import Expectation
from ..scenario.load import LoadLevel
from ..scenario.scenario import Scenario
from .arrivals import schedule_sha256
from .material import Material, Part
from .request import body_fields, chat_messages, make_body, make_target
from .timetable import Timetable
from .work import NS_PER_S, Manner, PlannedRequest, Talk, Timeouts

SHORTEST_SECRET = 4  # `X-Priority: 1` is none, and masked it would blot out every 1 of an error

Role = Literal["measured", "tail", "warm-up"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run to be.

    `requests` are the measured ones, then the tail of an open loop, then the warm-up, which goes
    first; only the measured have rows.
    """

    run_id: str
    scenario: Scenario
    level: LoadLevel
    repeat: int
    timetable: Timetable
    manner: Manner
    requests: tuple[PlannedRequest, ...]
    warmups: int
    talk: Talk | None = None

    @property
    def measured(self) -> int:
        """How many requests have rows."""
        return self.timetable.measured

    @property
    def timed(self) -> tuple[PlannedRequest, ...]:
        """The measured requests and the tail."""
        return self.requests[: len(self.requests) - self.warmups]

    @property
    def warmup(self) -> tuple[PlannedRequest, ...]:
        """The requests that come before all others."""
        return self.requests[len(self.requests) - self.warmups :]

    def role(self, index: int) -> Role:
        """Return what request `index` is for."""
        if index < self.measured:
            return "measured"
        return "tail" if index < len(self.requests) - self.warmups else "warm-up"

    @property
    def request_rate(self) -> float | None:
        """Requests a second asked for: of a trace its mean; None in a closed loop."""
        if self.level.concurrency is not None:
            return None
        return self.level.request_rate or self.timetable.rate

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be written down where a server echoes them: key and headers."""
        own = {name.lower() for name in self.scenario.headers} | {"authorization"}
        values = [value for name, value in self.manner.target.headers if name.lower() in own]
        found = {v for value in values for v in (value, value.removeprefix("Bearer "))}
        # The longest first: a short one that stands in a long one would leave its rest behind.
        return tuple(sorted((v for v in found if len(v) >= SHORTEST_SECRET), key=len, reverse=True))

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
            max_tokens=request.max_tokens,
            choices=int(self.scenario.extra_body.get("n") or 1),
            stream=self.scenario.stream,
            start_ns=start_ns,
            secrets=self.secrets,
        )


def make_plan(run_id: str, scenario: Scenario, part: Part, api_key: str | None) -> Plan:
    """Plan one run: a request for each prompt, in the prompts' order."""
    target = make_target(scenario, api_key)
    timeouts = Timeouts(
        scenario.timeout_first_token_s, scenario.timeout_stall_s, scenario.timeout_total_s
    )
    return Plan(
        run_id=run_id,
        scenario=scenario,
        level=part.level,
        repeat=part.repeat,
        timetable=part.timetable,
        manner=Manner(target, timeouts, scenario.stream),
        requests=tuple(_Requests(run_id, scenario, part).all()),
        warmups=len(part.material.warmup),
        talk=_talk(run_id, scenario, part.material),
    )


class _Requests:
    """Makes a plan's requests. A body that is sent again is kept once."""

    def __init__(self, run_id: str, scenario: Scenario, part: Part) -> None:
        self._run_id = run_id
        self._scenario = scenario
        self._measured = part.timetable.measured
        self._timed = len(part.timetable.times_s) or self._measured
        self._material = part.material
        self._bodies: dict[tuple[int, int, str | None], bytes] = {}

    def all(self) -> Iterator[PlannedRequest]:
        """Yield the measured, the tail, the warm-up."""
        for index in range(self._measured):
            turn = self._turn(index)
            yield self._request(index, self._prompts[index], self._output(index), turn)
        for index in range(self._measured, self._timed):
            of = index % self._measured
            yield self._request(index, self._prompts[of], self._output(of), None, "tail")
        for index, prompt in enumerate(self._material.warmup, start=self._timed):
            tokens = self._scenario.max_new_tokens
            yield self._request(index, prompt, tokens, None, "warmup")

    @property
    def _prompts(self) -> Sequence[Prompt]:
        return self._material.prompts.prompts

    def _output(self, index: int) -> int:
        lengths = self._material.output_tokens
        return (lengths[index] if lengths else None) or self._scenario.max_new_tokens

    def _turn(self, index: int) -> tuple[str, int] | None:
        settings = self._scenario.conversations
        if settings is None:
            return None
        number, turn = divmod(index, settings.turns)
        return self._material.conversation_ids[number], turn + 1

    def _request(
        self,
        index: int,
        prompt: Prompt,
        tokens: int,
        turn: tuple[str, int] | None,
        kind: str | None = None,
    ) -> PlannedRequest:
        salt = cache_salt(self._scenario, self._run_id, index, kind)
        return PlannedRequest(
            index=index,
            request_id=f"{self._run_id}-{index}",
            prompt_id=prompt.id,
            body=b"" if turn else self._body(prompt, tokens, salt),
            max_tokens=tokens,
            conversation_id=turn[0] if turn else None,
            turn=turn[1] if turn else None,
        )

    def _body(self, prompt: Prompt, tokens: int, salt: str | None) -> bytes:
        key = (id(prompt), tokens, salt)
        if key not in self._bodies:
            self._bodies[key] = make_body(self._scenario, prompt, salt, tokens)
        return self._bodies[key]


def _talk(run_id: str, scenario: Scenario, material: Material) -> Talk | None:
    settings = scenario.conversations
    if settings is None:
        return None
    return Talk(
        body=body_fields(scenario, cache_salt(scenario, run_id, 0), scenario.max_new_tokens),
        opening=tuple(chat_messages(scenario, Prompt("nothing said yet", ()))),
        said=tuple(prompt.text for prompt in material.prompts.prompts),
        turns=settings.turns,
        think_ns=int(settings.think_time_s * NS_PER_S),
        stream=scenario.stream,
        salt_each=scenario.cache == "cold",
    )


def cache_salt(scenario: Scenario, run_id: str, index: int, kind: str | None = None) -> str | None:
    """Return the salt that keeps the prefix cache honest: prefixes match among equal salts only.

    What isn't measured has a `kind`, and salts of its own: it prepares no prompt that is.
    """
    if scenario.cache == "natural":
        return None
    if scenario.cache == "cold":
        return f"{run_id}-{index}"
    return f"{run_id}-{kind}" if kind else run_id


def plan_sha256(scenario: Scenario, part: Part) -> str:
    """Name what a run measures: every request's JSON, in order, and when it goes.

    The run's own name is no part of it: equal seeds and settings give an equal plan.
    """
    talk = scenario.conversations.model_dump() if scenario.conversations else None
    said = {
        "body": body_fields(scenario, None, scenario.max_new_tokens),
        "system_prompt": scenario.system_prompt,
        "endpoint": scenario.endpoint,
        "cache": scenario.cache,
        "conversations": talk,
        "prompts": part.material.prompts.sha256,
        "output_tokens": part.material.output_tokens,
        "requests": part.timetable.measured,
        "level": part.level,
        "max_in_flight": scenario.max_in_flight,
        "schedule": schedule_sha256(part.timetable.measured_s),
    }
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def plan_facts(scenario: Scenario, part: Part) -> dict[str, Any]:
    """Return what the run's JSON says of its plan."""
    return {"sha256": plan_sha256(scenario, part), **part.timetable.facts}


def run_id_for(scenario: Scenario, level: LoadLevel, time_utc: str) -> str:
    """Return `<scenario>-cc<N>-pref<P>-max<M>-<time>`; a name for files, never parsed back.

    An open loop has `rate<R>` or `trace-x<speed>` in the place of `cc<N>`.
    """
    prefill = scenario.prefill_tokens or "any"
    return f"{scenario.name}-{level.label}-pref{prefill}-max{scenario.max_new_tokens}-{time_utc}"


COLUMNS = ("request_index", "t_scheduled_s", "prompt_id", "prompt_tokens", "max_tokens")


def write_plan(path: Path, part: Part, plan: Plan) -> None:
    """Write a row a measured request; times in seconds from the start. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(part, plan))
    write_whole(path, text.getvalue().encode(errors="backslashreplace"))


def _rows(part: Part, plan: Plan) -> Iterator[tuple[object, ...]]:
    times_s = part.timetable.measured_s
    for index, prompt in enumerate(part.material.prompts.prompts):
        # A closed loop has no times: a request goes when a stream is free.
        at = f"{times_s[index]:.9f}" if times_s else ""
        request = plan.requests[index]
        yield index, at, request.prompt_id, prompt.tokens, request.max_tokens
