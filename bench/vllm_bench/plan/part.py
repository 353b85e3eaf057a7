"""A part of a plan: its requests, its shares, what is known of a reply before it comes. Pure."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence
from typing import Any

from ..prompts.prompt import Prompt
from ..reply.outcome import Expectation
from ..scenario.forms.answer_form import AnswerForm, form_of
from ..scenario.scenario import Scenario
from .dealt.held import held, in_place, joined
from .dealt.own import ALL, Own
from .parts.described import Described
from .pool import Marks, Piece, Pool, numbered
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
from .share import NS_PER_S, Message, Share, Talk
from .times import nanoseconds, spare_connections


class Part(Described):
    """One kind of traffic of a run: all of it, or a class of its users."""

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
        own, requests = self.own_of(number, workers), self.requests
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
