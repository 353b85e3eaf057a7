"""Possible hits of played sessions: held against a cache that keeps each prompt that was sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.draw import plans_of
from vllm_bench.plan.drawing.part import Material
from vllm_bench.plan.part import Part
from vllm_bench.plan.sessions.hits import Cache, played_hits
from vllm_bench.plan.sessions.recorded import by_streams, primed, scripts_of
from vllm_bench.prompts.source import load_source
from vllm_bench.sessions.session import Session, Sessions, Turn

from tests.plan.test_draw import Words, plans
from tests.plan.test_draw import made as scenario_of
from tests.plan.test_recorded import part
from tests.sessions.made import DATA

BLOCK, OWN = 4, 2  # tokens of the server's blocks, and of the sessions'

Sent = tuple[str, tuple[object, ...]]  # a salt and the tokens


def found(sent: list[Sent], block: int) -> list[int]:
    """Return the hits of prompts of an endless cache, by the definition."""
    cache, hits = set[tuple[str, tuple[object, ...]]](), []
    for salt, tokens in sent:
        chains = [tokens[:end] for end in range(block, len(tokens) + 1, block)]
        there = [len(c) for c in chains if (salt, c) in cache and len(c) < len(tokens)]
        hits.append(max(there, default=0))
        cache.update((salt, chain) for chain in chains)
    return hits


@st.composite
def made(draw: st.DrawFn) -> Sessions:
    """Return sessions of blocks, whose ids say what stands before them."""
    sessions = []
    for number in range(draw(st.integers(1, 3))):
        turns: list[Turn] = []
        for place in range(draw(st.integers(1, 4))):
            chain = draw(st.lists(st.integers(1, 2), min_size=1, max_size=8))
            ids = tuple(int("".join(map(str, chain[: n + 1]))) for n in range(len(chain)))
            tokens = len(chain) * OWN + draw(st.integers(1 - OWN, OWN - 1))  # or a rest without id
            after = (place - 1,) if place else ()
            history = place - 1 if place else None
            turns.append(
                Turn(after, history=history, prompt_tokens=tokens, block_ids=ids, output_tokens=1)
            )
        sessions.append(Session(str(number), None, tuple(turns)))
    return Sessions("bailian", tuple(sessions), OWN, blocks_shared=draw(st.booleans()))


def tokens_of(sessions: Sessions, number: int, place: int) -> tuple[object, ...]:
    turn, scope = sessions.sessions[number].turns[place], "" if sessions.blocks_shared else number
    ids = turn.block_ids or ()
    known = [(scope, ids[at // OWN], at % OWN) for at in range(len(ids) * OWN)]
    rest = [("rest", number, place, at) for at in range((turn.prompt_tokens or 0) - len(known))]
    return (*known, *rest)[: turn.prompt_tokens]


@given(made(), st.data(), st.booleans())
def test_hits_are_those_of_all_that_was_sent_before(
    sessions: Sessions, data: st.DataObject, salted: bool
) -> None:
    scripts = scripts_of(sessions.sessions, 60.0)
    plays = by_streams(scripts, data.draw(st.integers(1, 7)), 1)
    streams = data.draw(st.integers(0, 7))
    begins = [data.draw(st.integers(0, len(plays.script(n).steps) - 1)) for n in range(streams)]
    plays = replace(plays, begins=tuple(begins))
    primes = primed(plays)
    possible = played_hits(sessions, plays, primes, Cache(BLOCK, salted=salted))

    def sent(play: int, place: int) -> Sent:
        a_round, at = divmod(play, len(plays.order))
        salt = f"use{a_round}" if salted else ""
        return salt, tokens_of(sessions, plays.order[at], place)

    def in_order() -> Iterator[Sent]:
        for play in range(12):
            for place in range(plays.begin(play), len(plays.script(play).steps)):
                yield sent(play, place)

    before = [sent(*prime) for prime in primes]
    hits = found([*before, *in_order()], BLOCK)
    assert possible.primed_cached_tokens == sum(hits[: len(before)])
    told = hits[len(before) :]
    assert [possible.of(number) for number in range(len(told))] == told


def words_of(part: Part) -> list[Sent]:
    """Return what a part sends: its priming, then its turns in the order of the plan."""
    requests = part.requests
    rest = range(requests.timed, len(requests))
    numbers = [n for n in rest if part.role(n) == "priming"]
    listed = [requests[n] for n in (*numbers, *range(part.measured))]
    prompts = {prompt.id: prompt for prompt in part.prompts.prompts}
    return [
        (request.cache_salt or "", (*"head", *prompts[request.prompt_id].text.split()))
        for request in listed
    ]


@pytest.mark.parametrize("name", ["weka", "bailian.jsonl", "tracelab.jsonl"])
@pytest.mark.parametrize("cache", ["run", "natural"])
@pytest.mark.parametrize("depth", ["first", "drawn"])
def test_a_plan_knows_what_of_its_texts_can_be_found(name: str, cache: str, depth: str) -> None:
    # Real text: of a set with few words pieces would be alike by chance.
    settings = {"trace": str(DATA / name), "num_requests": None, "depth": depth, "cache": cache}
    asked = scenario_of(concurrencies=[5], **settings)
    sample = load_source("sample", cache_dir=Path("nowhere"))
    (plan,) = plans_of(asked, [Material(asked, sample, Words())])
    made = plan.parts[0]
    assert made.possible is not None
    sent = words_of(made)
    hits = found(sent, 16)[len(sent) - made.measured :]
    told = [made.expectation(n, 0).possible_cached_tokens for n in range(made.measured)]
    for hit, possible in zip(hits, told, strict=True):
        assert hit == pytest.approx(possible, abs=16)  # a piece ends a little late
    facts = made.prefix_facts
    assert facts["block_size_known"] is False
    assert 0 < facts["wanted_share"] < 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("weka", {"history": "live", "depth": None}),
        ("weka", {"cache": "cold"}),
        ("mlperf.jsonl", {}),
        ("otel.json", {}),
    ],
)
def test_what_nobody_knows_before_is_left_empty(name: str, settings: dict[str, Any]) -> None:
    made = part(name, **settings)
    assert made.possible is None
    assert made.prefix_facts == {}
    assert made.expectation(0, 0).possible_cached_tokens is None


def test_of_a_trace_without_sessions_nothing_is_possible_under_cold(tmp_path: Path) -> None:
    row = '{"timestamp": 0, "input_length": 600, "output_length": 9, "hash_ids": [1, 2]}'
    (tmp_path / "trace.jsonl").write_text(f"{row}\n" * 3)
    settings = {"trace": str(tmp_path / "trace.jsonl"), "concurrencies": [], "num_requests": None}
    told = []
    for cache in ("run", "cold"):
        (made,) = plans(**settings, cache=cache)
        told.append([made.expectation(n, 0).possible_cached_tokens for n in range(3)])
    assert told == [[0, 592, 592], [None] * 3]


def test_by_the_clock_sessions_find_what_earlier_ones_left() -> None:
    made = part("bailian.jsonl", concurrencies=[], depth=None, speed=[2.0])
    told = [made.expectation(n, 0).possible_cached_tokens or 0 for n in range(made.measured)]
    tokens = sum(prompt.tokens or 0 for prompt in made.prompts.prompts)
    assert sum(told) / tokens == pytest.approx(made.prefix_facts["wanted_share"], abs=0.01)
    assert sum(told) > 0
