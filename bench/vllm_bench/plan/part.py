"""A part of a plan: one kind of traffic, as a scenario describes it, before it starts. Pure.

A run without classes has one part. With classes each has its own: its prompts, its streams or its
share of the arrivals, its endpoint and limits. Parts know nothing of each other; request i of a
part is request i * of + place of the run, so that every number is one part's.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from ..prompts.prompt import Prompt, PromptSet
from ..reply.outcome import Expectation
from ..scenario.forms.answer_form import AnswerForm, form_of
from ..scenario.load import LoadLevel
from ..scenario.load_keys import MOST_REQUESTS, Start
from ..scenario.scenario import Scenario
from ..scenario.secrets import secret_texts
from .arrivals import realised, schedule_sha256
from .pool import Marks, Pool, Uses, numbered
from .request import NOT_TOKENIZED, body_fields, chat_messages, make_piece, make_pool, marked
from .requests import Requests, Role
from .share import NS_PER_S, Share, Talk, Target
from .times import nanoseconds, spare_connections, stream_begins

if TYPE_CHECKING:  # of a trace, or of groups
    from ..traces.group_prompts import Grouped
    from ..traces.possible import Possible


@dataclass(frozen=True, slots=True)
class Whole:
    """What a part must know of the run that it belongs to."""

    run_id: str = "RUN"
    scenario: str = ""
    concurrency: int | None = None
    request_rate: float | None = None
    traced: bool = False  # whether each request carries a traceparent


@dataclass(frozen=True)
class Part:
    """One kind of traffic of a run: all of it, or a class of its users."""

    scenario: Scenario  # of a class: with the class's own keys
    level: LoadLevel  # of a class: its own streams, or its share of the rate
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
    possible: Possible | None = None  # hits of each request; None: it isn't known what repeats
    grouped: Grouped | None = None  # prompts in groups that begin alike
    name: str | None = None  # of the class; None: the scenario has none
    place: int = 0  # among the scenario's classes
    of: int = 1
    whole: Whole = Whole()
    answers: Mapping[str, str] = field(default_factory=dict)  # to questions, by the prompt's id

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
            run_id=self.whole.run_id,
            cache=self.scenario.cache,
            pool=self._pool,
            uses=self._uses,
            warmup=tuple(make_piece(self.scenario, prompt) for prompt in self.warmup),
            measured=self.most_measured,
            timed=timed,
            turns=self.turns,
            conversation_ids=self.conversation_ids,
            indexes=range(timed + len(self.warmup)),
            traced=self.whole.traced,
            place=self.place,
            of=self.of,
            marks=self._marks,
            primers=len(self.grouped.primers) if self.grouped else 0,
        )

    @property
    def _pool(self) -> Pool:
        pool = make_pool(self.scenario, self.prompts.prompts, self.output_tokens)
        if self.grouped is None or not self.grouped.words:
            return pool
        parts = zip(pool, self.prompts.prompts, self.grouped.own, strict=True)
        pieces = tuple(marked(piece, prompt, own.at, own.word) for piece, prompt, own in parts)
        return Pool(*numbered(pieces, id))

    @property
    def _marks(self) -> Marks | None:
        if self.grouped is None:
            return None
        return Marks(tuple(word.encode() for word in self.grouped.words), self.grouped.step)

    @functools.cached_property
    def _uses(self) -> Uses:
        """Of each prompt, or conversation: it is its first turn that a prefix cache finds."""
        openings = self.prompts.prompts[:: self.turns]
        if self.level.speed is not None:  # what a trace repeats was repeated
            return Uses.of(range(len(openings)))
        return Uses.of(numbered(openings, lambda prompt: prompt.messages)[1])

    @functools.cached_property
    def prefix_facts(self) -> dict[str, Any]:
        """What of its prompts the plan knows to repeat, for the run's JSON."""
        if self.possible is None:
            return {}
        grouped, prefix = self.grouped, self.scenario.prefix
        wanted = prefix.hit_rate if prefix else None
        if grouped and wanted is None:
            wanted = grouped.crowd.wanted(grouped.beginning)
        return {
            "block_size": self.possible.block_size,
            "block_size_known": self.possible.known,
            **({"wanted_share": wanted} if grouped else {}),
            **(grouped.facts if grouped else {}),
        }

    def uses(self, sent: int) -> dict[str, int]:
        """Return how many different prompts `sent` requests had, and the uses of one at most."""
        found = {prompt.id for prompt in self.prompts.prompts[:sent]}
        return {"distinct": len(found), "max_uses": self._uses.most(-(-sent // self.turns))}

    def role(self, index: int) -> Role:
        """Return what request `index` of the run is for, one of this part's."""
        return self.requests.role(index // self.of)

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
            *self._lane_numbers(number, workers),
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
            *self._lane_numbers(number, workers),
            lanes=len(range(self.level.concurrency or 0)[mine]),
            warmup=self.requests[measured:][mine],
            requests=self.requests[:measured],
            talk=self.talk,
            begins=self.begins[mine],
            duration_ns=None if self.duration_s is None else int(self.duration_s * NS_PER_S),
            fewest=-(-self.measured // self.turns),
        )

    def _lane_numbers(self, number: int, workers: int) -> tuple[int, int]:
        """Return the first lane's number, and the step: no two lanes of a run have one number."""
        return number * self.of + self.place, workers * self.of

    @functools.cached_property
    def begins(self) -> tuple[float, ...]:
        """When each stream begins, as a share of the start's spread; none: all together."""
        streams = (self.level.concurrency or 0) if self.start == "staggered" else 0
        return stream_begins(self.scenario, streams, self.repeat)

    def expectation(self, index: int, start_ns: int) -> Expectation:
        """Return what is known of request `index` of the run before its reply."""
        request, whole = self.requests[index // self.of], self.whole
        return Expectation(
            run_id=whole.run_id,
            scenario=whole.scenario,
            class_=self.name,
            concurrency=whole.concurrency,
            request_rate=whole.request_rate,
            request_id=request.request_id,
            trace_id=request.trace_id,
            prompt_id=request.prompt_id,
            conversation_id=request.conversation_id,
            turn=request.turn,
            prompt_tokens=self._counted_by_the_server(index // self.of),
            possible_cached_tokens=self._possible(index // self.of),
            max_tokens=request.max_tokens,
            choices=int(self.scenario.extra_body.get("n") or 1),
            stream=self.scenario.stream,
            exact_tokens=exact_tokens(self.scenario),
            start_ns=start_ns,
            secrets=self.secrets,
            keep_text=self._form is not None or bool(self.answers),
            form=self._form,
        )

    @functools.cached_property
    def _form(self) -> AnswerForm | None:
        """The form that answers are held against."""
        asked = self.scenario.response_format
        return None if asked is None else form_of(asked)

    def _counted_by_the_server(self, number: int) -> int | None:
        """Return the tokens of a request, if the server said them and they are all that it has."""
        if self.requests.role(number) != "measured" or self.prompts.counted_by != "server":
            return None
        if self.scenario.conversations or NOT_TOKENIZED & set(self.scenario.extra_body):
            return None
        return self.prompts.prompts[number % len(self.prompts.prompts)].tokens

    def _possible(self, number: int) -> int | None:
        if self.possible is None or self.requests.role(number) != "measured":
            return None
        return self.possible.of(number)

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
        # Two servers that want another name for the same limit are sent the same.
        named = scenario.model_copy(update={"max_tokens_field": "max_tokens"})
        said = {
            "body": body_fields(named, scenario.max_new_tokens),
            "system_prompt": scenario.system_prompt,
            "endpoint": scenario.endpoint,
            "cache": scenario.cache,
            "conversations": scenario.conversations and scenario.conversations.model_dump(),
            "prompts": self.prompts.sha256,
            "output_tokens": self.output_tokens,
            "requests": self.measured,
            "level": dataclasses.asdict(level),
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
        if self.scenario.prefix is not None:
            found["prefix"] = self.scenario.prefix.model_dump()
        return found


def exact_tokens(scenario: Scenario) -> bool:
    """Whether a response has to be as long as asked: nothing may end it but its limit."""
    stops = {"stop", "stop_token_ids"} & scenario.extra_body.keys()
    return scenario.endpoint == "responses" and scenario.ignore_eos and not stops


def turns_of(scenario: Scenario) -> int:
    """Return the requests of a conversation; without conversations 1."""
    return scenario.conversations.turns if scenario.conversations else 1
