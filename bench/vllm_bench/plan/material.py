"""What the requests of one run are made of: prompts, lengths, and those of the warm-up."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..prompts.conversations import (
    Conversation,
    ConversationSet,
    choose_conversations,
    holds_conversations,
    read_conversations,
)
from ..prompts.count import TokenCounter, best_counter
from ..prompts.fit import Draw, choose_prompts
from ..prompts.order import derive_seed, permutation
from ..prompts.prompt import Prompt, PromptSet, PromptSource, user_prompt
from ..scenario.load import LoadLevel, levels_of
from ..scenario.scenario import Scenario, ScenarioError
from ..vllm.server import Server
from .request import chat_messages, completion_text
from .timetable import Timetable, timetable_of
from .trace import Trace, TraceError, read_trace
from .trace_prompts import trace_prompts


def scenario_prompts(
    scenario: Scenario,
    source: PromptSource,
    counter: TokenCounter,
    count: int | None = None,
    repeat: int = 1,
) -> PromptSet:
    """Return `count` prompts of the scenario, in sending order; of its first level, unless given.

    Each repeat of a run has a draw of its own. Raises PromptError.
    """
    wanted = scenario.num_requests or 1 if count is None else count
    draw = Draw(source, wanted, prompts_seed(scenario, repeat), counter)
    return choose_prompts(draw, scenario.prompt_fit, scenario.prefill_tokens)


def prompts_seed(scenario: Scenario, repeat: int = 1) -> int:
    """Return the seed that a repeat's prompts are drawn by; repeats count from 1."""
    return derive_seed(scenario.seed, "prompts" if repeat == 1 else f"prompts of repeat {repeat}")


def scenario_counter(scenario: Scenario, server: Server | None, cache_dir: Path) -> TokenCounter:
    """Return the best counter for the scenario: its server, else a local tokenizer, else a guess.

    The server counts what a request of the scenario would hold, system prompt included.
    """

    def tokenize(prompt: Prompt) -> int | None:
        assert server is not None
        if scenario.endpoint == "chat":
            return server.tokenize(scenario.model, messages=chat_messages(scenario, prompt))
        return server.tokenize(scenario.model, prompt=completion_text(scenario, prompt))

    return best_counter(
        tokenize=tokenize if server is not None else None,
        models=(scenario.model,),
        cache_dir=cache_dir,
        scope=(scenario.model, scenario.endpoint, scenario.system_prompt or ""),
    )


FEWEST_WARMUPS, MOST_WARMUPS = 8, 64  # by default, of a trace; of any open loop


@dataclass(frozen=True, slots=True)
class Material:
    """Prompts of the measured requests, in order, and of those before them.

    In conversations a prompt is what the person says in one turn; `conversation_ids` names each
    conversation, which has the scenario's number of turns.
    """

    prompts: PromptSet
    warmup: tuple[Prompt, ...]
    output_tokens: tuple[int | None, ...] = ()  # a request each; empty: as the scenario says
    conversation_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One run to be, but for its name and its time of day."""

    level: LoadLevel
    repeat: int  # from 1
    timetable: Timetable
    material: Material


def parts_of(
    scenario: Scenario, source: PromptSource, counter: TokenCounter, max_model_len: int | None
) -> list[Part]:
    """Return a scenario's runs in their order: all levels once, then all of them again.

    Repeats that were run back to back would share a slow minute of the machine, and look alike.
    Raises ScenarioError, PromptError.
    """
    maker = _Maker(scenario, source, counter, max_model_len)
    repeats = range(1, scenario.repeats + 1)
    return [maker.part(level, repeat) for repeat in repeats for level in levels_of(scenario)]


class _Maker:
    def __init__(
        self,
        scenario: Scenario,
        source: PromptSource,
        counter: TokenCounter,
        max_model_len: int | None,
    ) -> None:
        self._scenario = scenario
        self._source = source
        self._counter = counter
        self._max_model_len = max_model_len
        self._drawn = functools.cache(self._draw)  # levels of equal length share their prompts

    def part(self, level: LoadLevel, repeat: int) -> Part:
        """Return one run."""
        trace = self._trace(level) if level.speed is not None else None
        timetable = timetable_of(self._scenario, level, repeat, trace)
        if timetable.measured == 0:
            raise ScenarioError(
                f"scenario {self._scenario.name}: no request falls into duration_s: "
                f"{self._scenario.duration_s:g}; make it longer"
            )
        warmups = warmup_count(self._scenario, level)
        if trace is not None:
            material = self._of_trace(trace, repeat, warmups)
        elif self._scenario.conversations is not None:
            material = self._of_conversations(timetable.measured, repeat, warmups)
        else:
            material = self._of_prompts(timetable.measured, repeat, warmups)
        return Part(level, repeat, timetable, material)

    def _draw(self, count: int, repeat: int) -> PromptSet:
        return scenario_prompts(self._scenario, self._source, self._counter, count, repeat)

    def _of_prompts(self, count: int, repeat: int, warmups: int) -> Material:
        # The first of a longer draw are those of a shorter one: what follows is not measured.
        longest = max(warmup_count(self._scenario, level) for level in levels_of(self._scenario))
        more = self._drawn(count + longest, repeat).prompts if longest else ()
        return Material(self._drawn(count, repeat), more[count : count + warmups])

    def _trace(self, level: LoadLevel) -> Trace:
        scenario = self._scenario
        assert scenario.trace is not None
        assert level.speed is not None
        try:
            trace = read_trace(
                Path(scenario.trace).expanduser(),
                speed=level.speed,
                limit_s=scenario.duration_s,
                limit_count=scenario.num_requests,
            )
        except TraceError as e:
            raise ScenarioError(f"scenario {scenario.name}: trace: {e}") from e
        if self._max_model_len is not None:
            trace = trace.within(self._max_model_len)
        if not trace.requests:
            raise ScenarioError(
                f"scenario {scenario.name}: trace {scenario.trace}: no request of it fits the "
                f"server's max_model_len of {self._max_model_len}"
            )
        return trace

    def _of_trace(self, trace: Trace, repeat: int, warmups: int) -> Material:
        seed = prompts_seed(self._scenario, repeat)
        prompts = trace_prompts(trace, self._source, self._counter, seed)
        return Material(
            replace(prompts, notes=(*prompts.notes, *trace.notes)),
            tuple(self._unlike_the_measured(warmups)),
            tuple(request.output_tokens for request in trace.requests),
        )

    def _of_conversations(self, requests: int, repeat: int, warmups: int) -> Material:
        settings = self._scenario.conversations
        assert settings is not None
        warmup = tuple(self._unlike_the_measured(warmups))
        if self._pool is None:
            drawn = self._drawn(requests, repeat)
            note = "conversations: turns are prompts that have nothing to do with each other"
            ids = [prompt.id for prompt in drawn.prompts[:: settings.turns]]
            prompts = replace(drawn, notes=(*drawn.notes, note))
            return Material(prompts, warmup, conversation_ids=_told_apart(ids))
        chosen = choose_conversations(
            self._pool,
            count=math.ceil(requests / settings.turns),
            turns=settings.turns,
            seed=prompts_seed(self._scenario, repeat),
        )
        ids = [conversation.id for conversation in chosen.conversations]
        prompts = _as_prompts(chosen, self._source, requests)
        return Material(prompts, warmup, conversation_ids=_told_apart(ids))

    @functools.cached_property
    def _pool(self) -> tuple[Conversation, ...] | None:
        """Whole conversations, where the data set is a file of such; None: its prompts are used."""
        dataset, scenario = self._scenario.dataset, self._scenario
        if scenario.prefill_tokens is not None or not dataset.startswith("file:"):
            return None
        path = Path(dataset.removeprefix("file:")).expanduser()
        return read_conversations(path) if holds_conversations(path) else None

    def _unlike_the_measured(self, count: int) -> Iterator[Prompt]:
        """Yield prompts that begin like none that is measured: no prefix cache finds them there."""
        seed = derive_seed(self._scenario.seed, "warm-up")
        order = permutation(len(self._source.prompts), seed)
        for number, index in enumerate(itertools.islice(itertools.cycle(order), count), start=1):
            text = self._source.prompts[index].text
            yield user_prompt(f"warm-up:{number}", f"({number}) {text}")


def _as_prompts(chosen: ConversationSet, source: PromptSource, requests: int) -> PromptSet:
    """Return what is said in each request, turn by turn; the last conversation may be cut short."""
    said = [
        user_prompt(f"{conversation.id}#{turn}", text)
        for conversation in chosen.conversations
        for turn, text in enumerate(conversation.user_turns, start=1)
    ][:requests]
    uses = Counter(prompt.id for prompt in said)
    return PromptSet(
        dataset=source.dataset,
        prompts=tuple(said),
        sha256=chosen.sha256,
        distinct=len(uses),
        max_uses=max(uses.values()),
        source_count=len(source.prompts),
        counted_by="nobody",  # a turn's prompt holds answers that nobody has heard yet
        notes=(*source.notes, *chosen.notes),
    )


def _told_apart(ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids, a number behind those that come again."""
    seen: Counter[str] = Counter()
    found = []
    for name in ids:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return tuple(found)


def warmup_count(scenario: Scenario, level: LoadLevel) -> int:
    """Return how many requests warm the server up: as many as streams, or a second's worth."""
    if scenario.warmup_requests is not None:
        return scenario.warmup_requests
    if level.concurrency is not None:
        return level.concurrency
    return min(MOST_WARMUPS, math.ceil(level.request_rate or FEWEST_WARMUPS))
