"""The simulator's prefix cache finds what a real vLLM found in the same cases, to the token.

The figures are those of vLLM 0.32 on a CPU, with blocks of 32 tokens and prompts of token ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from sim.engine.engine import Engine, EngineConfig
from sim.engine.step import EngineRequest, StepTimes

TIMES = StepTimes(base_s=0.01, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)


def engine(blocks: int = 4096, block_size: int = 32) -> Engine:
    return Engine(
        EngineConfig(
            max_num_batched_tokens=2048,
            max_num_seqs=128,
            num_gpu_blocks=blocks,
            block_size=block_size,
            max_model_len=blocks * block_size,
            step_times=TIMES,
        )
    )


def served(
    prompts: Sequence[Sequence[int]],
    *,
    at_once: int = 1,
    salts: Sequence[str | None] = (None,),
    made: Engine | None = None,
) -> list[int]:
    """Return the tokens found of each prompt, so many of which are sent together."""
    sim, found = made or engine(), dict[str, int]()
    for first in range(0, len(prompts), at_once):
        for number, prompt in enumerate(prompts[first : first + at_once], first):
            salt = salts[number % len(salts)]
            sim.add(EngineRequest(str(number), prompt, 4, salt))
        while step := sim.step():
            found.update(step.cached_tokens)
    return [found[str(number)] for number in range(len(prompts))]


def groups(number: int, each: int, beginning: int, own: int) -> list[list[int]]:
    ids = itertools.count(1)
    begins = [list(itertools.islice(ids, beginning)) for _ in range(number)]
    return [begins[n % number] + list(itertools.islice(ids, own)) for n in range(number * each)]


@pytest.mark.parametrize(
    ("prompts", "at_once", "hits", "queries"),
    [
        (groups(4, 8, 100, 50), 1, 2688, 4800),
        (groups(4, 8, 96, 50), 1, 2688, 4672),
        (groups(1, 5, 96, 0), 1, 256, 480),
        (groups(1, 5, 97, 0), 1, 384, 485),
        (groups(1, 16, 512, 16), 16, 7680, 8448),
        (groups(4, 8, 100, 50), 8, 2688, 4800),
    ],
    ids=["groups", "whole_blocks", "same", "same_and_one", "at_once", "groups_at_once"],
)
def test_groups_are_found_in_whole_blocks(
    prompts: list[list[int]], at_once: int, hits: int, queries: int
) -> None:
    sim = engine()
    assert sum(served(prompts, at_once=at_once, made=sim)) == hits
    assert (sim.prefix_cache_hits, sim.prefix_cache_queries) == (hits, queries)


def test_the_same_prompt_is_found_but_for_its_last_block_and_under_its_own_salt() -> None:
    prompts = groups(1, 3, 1024, 0)
    assert served(prompts, salts=("x", "x", "y")) == [0, 992, 0]


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    sim = engine(blocks=12)
    three = groups(3, 1, 128, 0)
    assert served(three, made=sim) == [0, 0, 0]
    # Three prompts of four blocks and a few tokens don't fit: the first has lost its end.
    again = served([three[2]], made=sim)
    assert again == [96]
    assert served([three[0]], made=sim)[0] < 96
