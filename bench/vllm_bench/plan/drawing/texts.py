"""The prompts of a scenario's runs: how many, which, and what counts their tokens."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

from ...prompts.count import TokenCounter, best_counter
from ...prompts.fit import ANY_LENGTH, Draw, choose_natural, choose_prompts
from ...prompts.order import derive_seed, permutation
from ...prompts.own.conversations import ConversationSet
from ...prompts.own.rows import NOBODY
from ...prompts.prompt import Prompt, PromptError, PromptSet, PromptSource, user_prompt
from ...scenario.load import LoadLevel
from ...scenario.scenario import Scenario
from ...vllm.server import Server
from ..request import chat_messages, completion_text, tokenized_fields

FEWEST_WARMUPS, MOST_WARMUPS = 8, 64  # by default, of a trace; of any open loop
# Drawn for a closed loop that goes by time, whose number of requests nobody knows.
FEWEST_DRAWN, DRAWN_A_STREAM = 400, 25


def unlike_the_measured(scenario: Scenario, source: PromptSource, count: int) -> tuple[Prompt, ...]:
    """Return prompts that begin unlike all measured ones: no prefix cache finds them."""
    order = permutation(len(source.prompts), derive_seed(scenario.seed, "warm-up"))
    indexes = itertools.islice(itertools.cycle(order), count)
    texts = [source.prompts[index].text for index in indexes]
    return tuple(
        user_prompt(f"warm-up:{n}", f"({n}) {text}") for n, text in enumerate(texts, start=1)
    )


def as_prompts(chosen: ConversationSet, source: PromptSource, requests: int) -> PromptSet:
    """Return the prompt of each request, turn by turn; the last conversation may be cut short."""
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
        counted_by="nobody",  # a turn's prompt contains answers that don't exist yet
        notes=chosen.notes,  # the source's are of first turns: equal ones aren't left out here
        # Conversations in which nobody says anything, and those that were left out here.
        left_out={
            **{why: n for why, n in source.left_out.items() if why == NOBODY},
            **chosen.left_out,
        },
    )


def turns_of(scenario: Scenario) -> int:
    """Return the requests of a conversation; without conversations 1."""
    return scenario.conversations.turns if scenario.conversations else 1


def prompts_drawn(scenario: Scenario, level: LoadLevel) -> int:
    """Return how many prompts a closed loop draws: one per request.

    If it goes by time, it draws some, of complete conversations, and uses them again.
    """
    if scenario.duration_s is None:
        return scenario.num_requests or 0
    drawn = max(scenario.num_requests or FEWEST_DRAWN, DRAWN_A_STREAM * (level.concurrency or 0))
    turns = turns_of(scenario)
    return math.ceil(drawn / turns) * turns


def warmup_count(scenario: Scenario, level: LoadLevel) -> int:
    """Return how many requests warm the server up: one per stream, or one second of the rate."""
    if scenario.warmup_requests is not None:
        return scenario.warmup_requests
    if level.concurrency is not None:
        return level.concurrency
    return min(MOST_WARMUPS, math.ceil(level.request_rate or FEWEST_WARMUPS))


def scenario_prompts(
    scenario: Scenario,
    source: PromptSource,
    counter: TokenCounter,
    count: int | None = None,
    repeat: int = 1,
) -> PromptSet:
    """Return `count` prompts of the scenario (default: of its first level), in sending order.

    Each repeat of a run has its own draw. Raises PromptError.
    """
    wanted = scenario.num_requests or 1 if count is None else count
    if scenario.quality is not None:
        return _questions(scenario, source, counter, wanted)
    draw = Draw(source, wanted, prompts_seed(scenario, repeat), counter)
    return choose_prompts(draw, scenario.prompt_fit, scenario.prefill_tokens)


def _questions(
    scenario: Scenario, source: PromptSource, counter: TokenCounter, count: int
) -> PromptSet:
    """Return questions, whatever their length, the same ones in each run.

    More than are asked are for the warm-up. Raises PromptError where there are too few.
    """
    asked = scenario.num_requests or 0
    draw = Draw(source, count, prompts_seed(scenario), counter)
    found = choose_natural(draw, ANY_LENGTH)
    if found.distinct < min(asked, count):
        raise PromptError(
            f"{source.dataset}: {found.distinct} questions can be asked, fewer than {asked}: set "
            "quality.questions"
        )
    return found


def prompts_seed(scenario: Scenario, repeat: int = 1) -> int:
    """Return the seed that a repeat's prompts are drawn by; repeats count from 1."""
    return derive_seed(scenario.seed, "prompts" if repeat == 1 else f"prompts of repeat {repeat}")


def scenario_counter(scenario: Scenario, server: Server | None, cache_dir: Path) -> TokenCounter:
    """Return the best counter: the scenario's server, else a local tokenizer, else an estimate.

    The server counts a request of the scenario, with chat template and system prompt.
    """

    fields = tokenized_fields(scenario)

    def tokenize(prompt: Prompt) -> int | None:
        assert server is not None
        if scenario.endpoint != "completions":
            messages = chat_messages(scenario, prompt)
            return server.tokenize(scenario.model, messages=messages, fields=fields)
        text = completion_text(scenario, prompt)
        return server.tokenize(scenario.model, prompt=text, fields=fields)

    return best_counter(
        tokenize=tokenize if server is not None else None,
        models=(scenario.model,),
        cache_dir=cache_dir,
        scope=(
            *(scenario.model, scenario.endpoint, scenario.system_prompt or ""),
            *([json.dumps(fields, sort_keys=True)] if fields else []),
        ),
    )
