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
from ..scenario.load_keys import MOST_REQUESTS, History, Start
from ..scenario.scenario import Scenario
from ..scenario.secrets import secret_texts
from .arrivals import realised, schedule_sha256
from .dealt.held import held, in_place, joined
from .dealt.own import ALL, Own
from .pool import Marks, Piece, Pool, Uses, numbered
from .request import (
    NOT_TOKENIZED,
    body_fields,
    chat_messages,
    limit_field,
    make_piece,
    make_pool,
    marked,
)
from .requests import Requests, Role
from .sessions.hits import PlayedHits
from .sessions.script import Plays
from .share import NS_PER_S, Message, Share, Talk, Target
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
    machine: str | None = None  # that sends it; None: the only one


@dataclass(frozen=True)
class Part:
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

    @functools.cached_property
    def requests(self) -> Requests:
        """The measured requests, then the tail of an open loop, then the warm-up."""
        timed = self.most_measured if self.plays else len(self.times_s) or self.most_measured
        return Requests(
            run_id=self.whole.run_id,
            cache=self.scenario.cache,
            pool=self._pool,
            uses=self.uses_before,
            warmup=self._warming,
            measured=self.most_measured,
            timed=timed,
            plays=self.plays,
            indexes=range(timed + len(self.warmup) + len(self.primes)),
            traced=self.whole.traced,
            place=self.place,
            of=self.of,
            marks=self._marks,
            primed_uses=self._primed_uses,
        )

    @property
    def _warming(self) -> Sequence[Piece]:
        make = functools.partial(make_piece, self.scenario)
        warmup = in_place(self.warmup, tuple(map(make, held(self.warmup))))
        primes = in_place(self.primes, tuple(make(prompt, 1) for prompt in held(self.primes)))
        return joined(warmup, primes)

    @property
    def _primed_uses(self) -> tuple[int, ...]:
        """Of what primes caches: for which use of a prompt, or play of a session."""
        if self.grouped is not None:
            return (0,) * len(self.grouped.primers)
        return tuple(map(self.uses_before.earlier, self.prime_plays))

    @property
    def live(self) -> bool:
        """Whether prompts have this server's answers in them."""
        return self.plays is not None and self.plays.live

    @property
    def _pool(self) -> Pool:
        prompts = self.prompts.prompts
        pool = make_pool(self.scenario, prompts, self.output_tokens, turns=self.live)
        if self.grouped is None or not self.grouped.words:
            return pool
        here = (pool.pieces[place] for place in held(pool.order))
        parts = zip(here, held(prompts), held(self.grouped.own), strict=True)
        pieces = [marked(piece, prompt, own.at, own.word) for piece, prompt, own in parts]
        different, order = numbered(pieces, id)
        return Pool(different, in_place(prompts, order))

    @property
    def _marks(self) -> Marks | None:
        if self.grouped is None:
            return None
        return Marks(tuple(word.encode() for word in self.grouped.words), self.grouped.step)

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
    def prefix_facts(self) -> dict[str, Any]:
        """What of its prompts the plan knows to repeat, for the run's JSON."""
        if self.possible is None:
            return {}
        grouped, wanted = self.grouped, self._wanted_share
        return {
            "block_size": self.possible.block_size,
            "block_size_known": self.possible.known,
            **self._primed_facts,
            **({} if wanted is None else {"wanted_share": wanted}),
            **(grouped.facts if grouped else {}),
        }

    @property
    def _primed_facts(self) -> dict[str, int]:
        """What of the unmeasured requests for plays that begin deeper is found, of each other."""
        if not isinstance(self.possible, PlayedHits):
            return {}
        return {"primed_cached_tokens": self.possible.primed_cached_tokens}

    @property
    def _wanted_share(self) -> float | None:
        """The share that the scenario asks for, or that recorded sessions have; None: neither."""
        grouped, prefix = self.grouped, self.scenario.prefix
        if isinstance(self.possible, PlayedHits):
            return self.possible.wanted_share
        if prefix and prefix.hit_rate is not None:
            return prefix.hit_rate
        return grouped.crowd.wanted(grouped.beginning) if grouped else None

    def uses(self, sent: int) -> dict[str, int]:
        """Return how many different prompts `sent` requests had, and the uses of one at most."""
        found = {prompt.id for prompt in self.prompts.prompts[:sent]}
        begun = self.plays.until(sent) if self.plays else sent
        return {"distinct": len(found), "max_uses": self.uses_before.most(begun)}

    def role(self, index: int) -> Role:
        """Return what request `index` of the run is for, one of this part's."""
        return self.requests.role(index // self.of)

    @functools.cached_property
    def talk(self) -> Talk | None:
        """What the turns of live sessions are made of; None: there are none."""
        scenario, prompts = self.scenario, self.prompts.prompts
        if not self.live:
            return None
        return Talk(
            body=body_fields(scenario, scenario.max_new_tokens),
            opening=tuple(chat_messages(scenario, Prompt("nothing said yet", ()))),
            said=in_place(prompts, tuple(map(_said, held(prompts)))),
            limit=limit_field(scenario),
        )

    def share(self, number: int, workers: int) -> Share:
        """Return the share of process `number` of the `workers` of its machine."""
        own, requests = self.own.every(number, workers), self.requests
        both: dict[str, Any] = {
            "target": self.target,
            "lane_numbers": own.among(self.of, self.place),
            "warmup": requests[requests.timed :].at(own),
            "plays": self.plays,
            "talk": self.talk,
            "choices": int(self.scenario.extra_body.get("n") or 1),
        }
        if self.level.concurrency is not None:
            return Share(**both, **self._of_streams(self.level.concurrency, own))
        cap, times_s = self.scenario.max_in_flight, self._times_of(own)
        spare = spare_connections(times_s)
        most = None if cap is None else own.below(cap)
        return Share(
            **both,
            lanes=spare if most is None else min(spare, most),
            requests=requests[: requests.timed].at(ALL if self.plays else own),
            due_ns=nanoseconds(times_s),
            play_numbers=own,
            most_in_flight=most,
        )

    def _times_of(self, own: Own) -> array[float]:
        mine = own.upto(len(self.times_s))
        if isinstance(mine, range) and isinstance(self.times_s, array):
            return self.times_s[mine.start :: mine.step]
        return array("d", (self.times_s[number] for number in mine))

    def _of_streams(self, streams: int, own: Own) -> dict[str, Any]:
        """Return what a share of a closed loop has of its own: streams, and the machine's plays."""
        mine, fewest = own.upto(streams), self.measured
        measured = self.requests[: self.requests.measured]
        return {
            "lanes": len(mine),
            "requests": measured.at(ALL if self.plays else self.own),
            "play_numbers": self.own,
            "begins": tuple(self.begins[number] for number in mine) if self.begins else (),
            "duration_ns": _ns(self.duration_s),
            "plays_last_ns": _ns(self.plays_last_s),
            "fewest": self.own.below(self.plays.until(fewest) if self.plays else fewest),
        }

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
            machine=whole.machine,
            class_=self.name,
            concurrency=whole.concurrency,
            request_rate=whole.request_rate,
            request_id=request.request_id,
            trace_id=request.trace_id,
            prompt_id=request.prompt_id,
            conversation_id=request.conversation_id,
            turn=request.turn,
            **self._turn_facts(index // self.of),
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

    def _turn_facts(self, number: int) -> dict[str, Any]:
        """Return what is known of a turn before it is sent: whom it waits for, and how long."""
        plays = self.plays
        if plays is None or self.requests.role(number) != "measured":
            return {}
        play, place = plays.at(number)
        steps, begin = plays.script(play).steps, plays.begin(play)
        step = steps[place]
        after = [before for before in step.after if before >= begin]
        waited = bool(after) and step.wait_kind is not None
        return {
            "session_turns": len(steps),
            "agent": step.agent,
            "after": " ".join(str(before + 1) for before in after) or None,
            "planned_wait_s": step.wait_ns / NS_PER_S if waited else None,
            "wait_kind": step.wait_kind if waited else None,
        }

    @functools.cached_property
    def _form(self) -> AnswerForm | None:
        """The form that answers are held against."""
        asked = self.scenario.response_format
        return None if asked is None else form_of(asked)

    def _counted_by_the_server(self, number: int) -> int | None:
        """Return the tokens of a request, if the server said them and they are all that it has."""
        if self.requests.role(number) != "measured" or self.prompts.counted_by != "server":
            return None
        if self.live or NOT_TOKENIZED & set(self.scenario.extra_body):
            return None
        place = self.plays.position(*self.plays.at(number)) if self.plays else number
        return self.prompts.prompts[place % len(self.prompts.prompts)].tokens

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
            "conversations": scenario.conversations
            and scenario.conversations.model_dump(exclude_none=True),
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
        talks, plays = self.scenario.conversations, self.plays
        begun = plays.until(self.measured) if plays else self.measured
        begun = (
            self.measured // talks.turns if talks else begun
        )  # one that is cut short never counted
        if self.scenario.cache == "run" and self.uses_before.most(begun) > 1:
            found["salts"] = "one for each use"
        if plays is not None and not (talks and talks.tool_calls is None):
            found["sessions"] = plays.sha256
            found |= {"history": self.history, "max_gap_s": self.scenario.longest_gap_s}
        if self.scenario.prefix is not None:
            found["prefix"] = self.scenario.prefix.model_dump()
        return found

    @property
    def session_facts(self) -> dict[str, Any]:
        """The entries on sessions in the run's JSON: what decides their prompts and waits."""
        talks = self.scenario.conversations
        if self.plays is None or (talks and talks.tool_calls is None):
            return {} if self.plays is None else {"history": self.history}
        return {"history": self.history, "max_gap_s": self.scenario.longest_gap_s}

    @property
    def history(self) -> History | None:
        """What later turns have in place of earlier answers; None: no sessions."""
        return None if self.plays is None else "live" if self.plays.live else "recorded"


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * NS_PER_S)


def _said(prompt: Prompt) -> str | tuple[Message, ...]:
    """Return what a turn adds: of a person's words the text alone."""
    if len(prompt.messages) == 1 and prompt.messages[0].role == "user":
        return prompt.messages[0].content
    return tuple({"role": m.role, "content": m.content} for m in prompt.messages)


def exact_tokens(scenario: Scenario) -> bool:
    """Whether a response has to be as long as asked: nothing may end it but its limit."""
    stops = {"stop", "stop_token_ids"} & scenario.extra_body.keys()
    return scenario.endpoint == "responses" and scenario.ignore_eos and not stops
