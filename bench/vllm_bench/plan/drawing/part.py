"""One part of a run, drawn: prompts and lengths, times, sessions, groups, and its warm-up."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...prompts.count import TokenCounter
from ...prompts.fit import overhead_of
from ...prompts.own.conversations import (
    Conversation,
    choose_conversations,
    holds_conversations,
    read_conversations,
)
from ...prompts.prompt import Prompt, PromptSet, PromptSource
from ...scenario.datasets import own_file
from ...scenario.load import LoadLevel, levels_of
from ...scenario.scenario import Scenario, ScenarioError
from ...sessions.session import SessionError, Sessions
from ..classes import Flow
from ..part import Part
from ..request import make_target
from ..sessions.conversations import conversation_plays
from ..times import drawn_times, replay_notes, schedule_seed, trace_times
from .texts import (
    as_prompts,
    prompts_drawn,
    prompts_seed,
    scenario_prompts,
    turns_of,
    unlike_the_measured,
    warmup_count,
)

if TYPE_CHECKING:  # read where a scenario has a trace
    from ...traces.group_prompts import Grouped, TokenIds
    from ...traces.possible import Possible
    from ...traces.trace import Trace


@dataclass(frozen=True)
class Material:
    """What the requests of a scenario, or of one of its classes, are drawn from."""

    scenario: Scenario
    source: PromptSource
    counter: TokenCounter
    max_model_len: int | None = None  # the longest prompt and reply together, in tokens
    api_key: str | None = None
    block_size: int | None = None  # of the server's prefix cache, in tokens
    token_ids: TokenIds | None = None  # how the server says them
    answers: Mapping[str, str] = field(default_factory=dict)  # to questions, by the prompt's id


@dataclass(frozen=True)
class PartDraw(Material):
    """Draws the parts of a scenario's runs, or of a class's."""

    def part(self, level: LoadLevel, repeat: int, flow: Flow | None = None) -> Part:
        """Return a part of a run; `flow`: its share of the run's arrivals, where it is a class."""
        scenario = self.scenario
        if flow is not None and flow.lasts_s is not None:
            scenario = scenario.model_copy(update={"duration_s": flow.lasts_s})
        target = make_target(scenario, self.api_key)
        made = functools.partial(Part, scenario, level, repeat, target, answers=self.answers)
        warmups = warmup_count(scenario, level)
        if scenario.trace is not None:
            return self._recorded(made, scenario, level, repeat)
        if level.request_rate is not None:
            measured, times_s = (
                (flow.measured, flow.times_s) if flow else self._times(level, repeat)
            )
            if scenario.prefix is not None:
                return self._in_groups(made, measured, repeat, warmups, times_s)
            return made(*self._prompts(measured, repeat, warmups), times_s)
        if scenario.prefix is not None:
            return self._in_groups(made, prompts_drawn(scenario, level), repeat, warmups)
        count = self._in_the_set(prompts_drawn(scenario, level), repeat)
        if scenario.conversations is None:
            return made(*self._prompts(count, repeat, warmups))
        said, ids = self._conversations(scenario.conversations.turns, count, repeat)
        seed, longest_s = schedule_seed(scenario, repeat), scenario.longest_gap_s
        plays = conversation_plays(scenario.conversations, ids, count, longest_s, seed)
        return made(said, unlike_the_measured(self.scenario, self.source, warmups), plays=plays)

    def _recorded(
        self, made: Callable[..., Part], scenario: Scenario, level: LoadLevel, repeat: int
    ) -> Part:
        """Return a part that replays the trace: its requests, or its sessions."""
        if self._sessions is not None:
            return self._play(self._sessions, scenario, level, repeat)
        trace = self._trace(level.speed or 1.0)
        return self._replay(made, trace, repeat, warmup_count(scenario, level))

    @functools.cached_property
    def _sessions(self) -> Sessions | None:
        """The sessions of the trace; None: there is no trace, or none of sessions."""
        if self.scenario.trace is None:
            return None
        where, found = f"scenario {self.scenario.name}", recorded_sessions(self.scenario)
        keys = ("history", "max_gap_s", "depth", "length_divisor")
        asked = [key for key in keys if getattr(self.scenario, key) is not None]
        if found is None and (asked or self.scenario.concurrencies):
            what = f"{asked[0]} goes" if asked else "concurrencies go"
            raise ScenarioError(
                f"{where}: trace: {self.scenario.trace} has requests and no sessions: {what} only "
                "with a trace of sessions"
            )
        return None if found is None else self._as_sent(found)

    def _as_sent(self, sessions: Sessions) -> Sessions:
        """Return sessions as long as they are for this server. Raises ScenarioError."""
        from ...sessions.lengths import divided, with_lengths

        try:
            shorter = divided(sessions, self.scenario.length_divisor or 1)
        except SessionError as e:
            raise ScenarioError(f"scenario {self.scenario.name}: {e}") from e
        return with_lengths(shorter, self.counter)

    def _play(self, sessions: Sessions, scenario: Scenario, level: LoadLevel, repeat: int) -> Part:
        """Return a part that plays recorded sessions."""
        from ..sessions.drawn import Wish, played
        from ..sessions.hits import Cache

        if not scenario.lives:  # answers as long as the recorded ones
            scenario = scenario.model_copy(update={"ignore_eos": True})
        texts = functools.partial(self._session_texts, prompts_seed(scenario, repeat))
        seed = schedule_seed(scenario, repeat)
        cache = Cache(self.block_size, self._head, salted=scenario.cache != "natural")
        found = played(sessions, Wish(scenario, level, seed, texts, self.max_model_len, cache))
        return Part(
            scenario,
            level,
            repeat,
            make_target(scenario, self.api_key),
            found.prompts,
            unlike_the_measured(self.scenario, self.source, warmup_count(scenario, level)),
            found.times_s,
            output_tokens=found.output_tokens,
            plays=found.plays,
            primes=found.primes,
            prime_plays=found.prime_plays,
            about_s=found.about_s,
            possible=found.possible,
        )

    @functools.cached_property
    def _head(self) -> int:
        """About how many tokens all prompts begin with: of a template some come after the text."""
        from ...traces.blocks import AFTER

        return max(0, overhead_of(self.counter) - AFTER)

    def _session_texts(self, seed: int, sessions: Sessions) -> PromptSet:
        from ...sessions.texts import session_prompts

        lives = self.scenario.lives
        return session_prompts(sessions, self.source, self.counter, seed, live=lives)

    def _in_groups(
        self,
        made: Callable[..., Part],
        count: int,
        repeat: int,
        warmups: int,
        times_s: array[float] | None = None,
    ) -> Part:
        """Return a part whose prompts begin alike in groups; a loop by time uses them again."""
        found = self._grouped(count, repeat, warmups)
        return made(
            found.prompts,
            (*found.unmeasured, *found.primers),
            times_s or array("d"),
            possible=found.possible,
            grouped=found,
        )

    @functools.cached_property
    def _grouped(self) -> Callable[[int, int, int], Grouped]:
        from ...traces.group_prompts import Wish, grouped_prompts
        from ...traces.groups import GroupsError

        scenario, prefix = self.scenario, self.scenario.prefix

        def draw(count: int, repeat: int, warmups: int) -> Grouped:
            assert prefix is not None
            wish = Wish(
                prefix=prefix,
                tokens=scenario.prefill_tokens or 0,
                count=count,
                unmeasured=warmups,
                seed=prompts_seed(scenario, repeat),
                block=self.block_size,
                salted=scenario.cache == "run",
            )
            try:
                return grouped_prompts(wish, self.source, self.counter, self.token_ids)
            except GroupsError as e:
                raise ScenarioError(f"scenario {scenario.name}: {e}") from e

        return functools.cache(draw)  # levels of equal length share their prompts

    def _replay(self, made: Callable[..., Part], trace: Trace, repeat: int, warmups: int) -> Part:
        from ...traces.prompts import trace_prompts

        seed = prompts_seed(self.scenario, repeat)
        prompts = trace_prompts(trace, self.source, self.counter, seed)
        return made(
            replace(prompts, notes=(*prompts.notes, *trace.notes)),
            unlike_the_measured(self.scenario, self.source, warmups),
            trace_times(trace),
            output_tokens=tuple(request.output_tokens for request in trace.requests),
            trace_shared_share=trace.shared_share,
            possible=self._possible_of(trace, prompts),
        )

    def _possible_of(self, trace: Trace, prompts: PromptSet) -> Possible | None:
        """Return what of a trace's prompts can be found again.

        None where it doesn't name blocks, and under `cold`, where nothing is found.
        """
        from ...traces.possible import once

        if trace.shared_share is None or self.scenario.cache == "cold":
            return None
        lengths = [prompt.tokens or 0 for prompt in prompts.prompts]
        return once(trace.commons(), lengths, self.block_size)

    def _times(self, level: LoadLevel, repeat: int) -> tuple[int, array[float]]:
        """Return how many requests are measured at a rate, and the times of all."""
        measured, times_s = drawn_times(self.scenario, level.request_rate or 0.0, repeat)
        if measured == 0:
            raise ScenarioError(
                f"scenario {self.scenario.name}: no request falls into duration_s: "
                f"{self.scenario.duration_s:g}; make it longer"
            )
        return measured, times_s

    @functools.cached_property
    def _drawn(self) -> Callable[[int, int], PromptSet]:
        draw = functools.partial(scenario_prompts, self.scenario, self.source, self.counter)
        return functools.cache(draw)  # levels of equal length share their prompts

    def _prompts(self, count: int, repeat: int, warmups: int) -> tuple[PromptSet, Sequence[Prompt]]:
        """Return prompts to measure, and those of the warm-up."""
        # A longer draw begins with the shorter one; the rest isn't measured.
        longest = max(warmup_count(self.scenario, level) for level in levels_of(self.scenario))
        more = self._drawn(count + longest, repeat).prompts if longest else ()
        return self._drawn(count, repeat), more[count : count + warmups]

    def _in_the_set(self, wanted: int, repeat: int) -> int:
        """Return how many prompts to draw for a closed loop; by time, not more than the set has.

        They are used again anyway, in equal turns.
        """
        if self.scenario.duration_s is None or self._pool is not None:
            return wanted
        found = self._drawn(wanted, repeat).distinct
        turns = turns_of(self.scenario)
        return min(wanted, max(turns, found - found % turns))

    def _trace(self, speed: float) -> Trace:
        scenario = self.scenario
        trace = recorded_requests(scenario, speed)
        if self.max_model_len is not None:
            trace = trace.within(self.max_model_len)
        if trace.requests:
            return replace(trace, notes=(*trace.notes, *replay_notes(trace, speed)))
        raise ScenarioError(
            f"scenario {scenario.name}: trace {scenario.trace}: no request of it fits the "
            f"server's max_model_len of {self.max_model_len}"
        )

    def _conversations(self, turns: int, requests: int, repeat: int) -> tuple[PromptSet, list[str]]:
        """Return the prompt of each request, and the data set's name of each conversation."""
        if self._pool is None:
            drawn = self._drawn(requests, repeat)
            note = "conversations: turns are unrelated prompts"
            ids = [prompt.id for prompt in drawn.prompts[::turns]]
            return replace(drawn, notes=(*drawn.notes, note)), ids
        chosen = choose_conversations(
            self._pool,
            count=math.ceil(requests / turns),
            turns=turns,
            seed=prompts_seed(self.scenario, repeat),
        )
        ids = [conversation.id for conversation in chosen.conversations]
        return as_prompts(chosen, self.source, requests), ids

    @functools.cached_property
    def _pool(self) -> tuple[Conversation, ...] | None:
        """The conversations, if the data set is a file of them; None: its prompts are used."""
        dataset, scenario = self.scenario.dataset, self.scenario
        whole = scenario.conversations is not None and scenario.prefill_tokens is None
        path = own_file(dataset) if whole else None
        if path is None:
            return None
        path = path.expanduser()
        return read_conversations(path) if holds_conversations(path) else None


def recorded_sessions(scenario: Scenario) -> Sessions | None:
    """Read the sessions of a scenario's trace; None: it has requests. Raises ScenarioError."""
    from ...sessions.read import is_session_trace, read_sessions

    path = Path(scenario.trace or "").expanduser()
    try:
        return read_sessions(path) if path.is_dir() or is_session_trace(path) else None
    except SessionError as e:
        raise ScenarioError(f"scenario {scenario.name}: trace: {e}") from e


def recorded_requests(scenario: Scenario, speed: float = 1.0) -> Trace:
    """Read the requests of a scenario's trace, as far as they are sent. Raises ScenarioError."""
    from ...traces.trace import TraceError, read_trace

    try:
        return read_trace(
            Path(scenario.trace or "").expanduser(),
            speed=speed,
            limit_s=scenario.duration_s,
            limit_count=scenario.num_requests,
        )
    except TraceError as e:
        raise ScenarioError(f"scenario {scenario.name}: trace: {e}") from e
