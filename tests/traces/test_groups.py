"""Groups that begin alike: the formula, the texts and the plan, held against token ids."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.wire.tokens import chat_prompt, tokenize
from vllm_bench.plan.draw import plans_of
from vllm_bench.plan.drawing.part import Material
from vllm_bench.plan.part import Part
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.plan.share import PlannedRequest
from vllm_bench.prompts.count import CountedBy
from vllm_bench.prompts.prompt import Prompt
from vllm_bench.prompts.source import SAMPLE_FILE, load_source
from vllm_bench.scenario.nested.groups import Prefix
from vllm_bench.scenario.scenario import ScenarioError
from vllm_bench.traces.groups import Crowd, GroupsError, commons, drawn_groups, group_sizes
from vllm_bench.traces.possible import Seen, found, once

from tests.plan.test_request import scenario

SAMPLE = load_source("sample", cache_dir=SAMPLE_FILE.parent)


def endless(prompts: Sequence[tuple[str | None, Sequence[int]]], block: int) -> list[int]:
    """What a cache that never forgets finds of prompts under salts: whole blocks, by their ids."""
    seen: set[tuple[str | None, tuple[int, ...]]] = set()
    hits = []
    for salt, ids in prompts:
        chains = [(salt, tuple(ids[: block * k])) for k in range(1, len(ids) // block + 1)]
        usable = [chain for chain in chains if len(chain[1]) <= len(ids) - 1]
        hits.append(block * sum(1 for _ in itertools.takewhile(seen.__contains__, usable)))
        seen.update(chains)
    return hits


# ---- the formula ----


def tokens_of(
    groups: Sequence[int | None], beginning: int, head: int, length: int
) -> Iterator[list[int]]:
    """Yield prompts of ids: a head, a group's beginning, and what no other prompt has."""
    fresh = itertools.count(1_000_000)
    for group in groups:
        begins = [-1 - n for n in range(head)]
        if group is not None:
            begins += [group * 1000 + n for n in range(beginning - head)]
        yield begins + list(itertools.islice(fresh, length - len(begins)))


crowds = st.builds(
    dict,
    requests=st.integers(1, 60),
    groups=st.integers(1, 8),
    share=st.floats(0.05, 1),
    zipf=st.floats(0, 3),
    head=st.integers(0, 20),
    own=st.integers(1, 40),
    text=st.integers(1, 60),
    block=st.integers(1, 33),
    primed=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)


@settings(max_examples=200, deadline=None)
@given(crowds)
def test_what_is_possible_is_what_a_cache_finds_of_the_ids(drawn: dict[str, Any]) -> None:
    beginning = drawn["head"] + drawn["text"]
    length = beginning + drawn["own"]
    prefix = Prefix(groups=drawn["groups"], tokens=beginning, share=drawn["share"])
    prefix = prefix.model_copy(update={"zipf": drawn["zipf"], "primed": drawn["primed"]})
    sizes = group_sizes(prefix, drawn["requests"])
    assert sum(sizes) == round(drawn["share"] * drawn["requests"])
    assert list(sizes) == sorted(sizes, reverse=True)
    groups = drawn_groups(sizes, drawn["requests"], drawn["seed"])
    assert Counter(g for g in groups if g is not None) == {g: n for g, n in enumerate(sizes) if n}
    crowd = Crowd(drawn["requests"], sizes, length, drawn["head"], drawn["block"], drawn["primed"])
    before = [g for g, size in enumerate(sizes) if size] if drawn["primed"] else []
    ids = list(tokens_of([*before, *groups], beginning, drawn["head"], length))
    hits = endless([(None, prompt) for prompt in ids], drawn["block"])[len(before) :]
    if before or not drawn["primed"]:  # with no group at all nothing is sent before the start
        assert crowd.possible(beginning) == pytest.approx(
            sum(hits) / (drawn["requests"] * length), abs=1e-12
        )
        alike = commons(groups, beginning, drawn["head"], primed=drawn["primed"])
        assert list(once(alike, [length] * len(groups), drawn["block"]).first) == hits


@settings(max_examples=200, deadline=None)
@given(crowds, st.floats(0.01, 0.99))
def test_a_wanted_share_is_had_within_a_block(drawn: dict[str, Any], wanted: float) -> None:
    length = 40 + 4 * drawn["text"]
    prefix = Prefix(groups=drawn["groups"], hit_rate=wanted, share=drawn["share"])
    sizes = group_sizes(prefix, drawn["requests"])
    crowd = Crowd(drawn["requests"], sizes, length, drawn["head"], drawn["block"], drawn["primed"])
    least = (drawn["head"] // drawn["block"] + 1) * drawn["block"]
    lowest, highest = crowd.possible(least), crowd.possible(length - 1)
    if not crowd.hits or not lowest <= wanted <= highest:
        refused_if_far_off(crowd, prefix, wanted, lowest, highest)
        return
    beginning = crowd.beginning(prefix)
    assert drawn["head"] < beginning < length
    assert beginning % drawn["block"] == 0
    assert -1e-9 <= wanted - crowd.possible(beginning) <= drawn["block"] / length + 1e-9


def refused_if_far_off(
    crowd: Crowd, prefix: Prefix, wanted: float, lowest: float, highest: float
) -> None:
    """Out of reach by more than the rest of a block it must be refused."""
    if crowd.hits and lowest - 1e-9 <= wanted <= highest + crowd.block / crowd.length:
        return
    with pytest.raises(GroupsError, match="hit_rate"):
        crowd.beginning(prefix)


@pytest.mark.parametrize(
    ("groups", "each", "beginning", "own", "hits", "queries"),
    [(4, 8, 100, 50, 2688, 4800), (4, 8, 96, 50, 2688, 4672), (1, 16, 512, 16, 7680, 8448)],
)
def test_the_figures_of_a_real_server(
    groups: int, each: int, beginning: int, own: int, hits: int, queries: int
) -> None:
    crowd = Crowd(groups * each, (each,) * groups, beginning + own, 0, 32, False)
    assert crowd.possible(beginning) == hits / queries


def test_an_equal_prompt_is_found_but_for_its_last_block() -> None:
    assert [found(n, n, 32) for n in (96, 97, 1024, 1)] == [64, 96, 992, 0]
    assert found(0, 100, 32) == found(31, 100, 32) == 0


def test_a_rate_out_of_reach_is_refused_with_the_highest() -> None:
    crowd = Crowd(160, (4,) * 40, 480, 0, 16, False)
    with pytest.raises(GroupsError, match=r"at most 0\.7250"):
        crowd.beginning(Prefix(groups=40, hit_rate=0.8))
    assert crowd.beginning(Prefix(groups=40, hit_rate=0.72)) == 448


def test_no_room_for_a_groups_own_text_is_refused() -> None:
    with pytest.raises(GroupsError, match="begin with 30 tokens"):
        Crowd(8, (8,), 100, 30, 16, False).beginning(Prefix(groups=1, tokens=30))
    with pytest.raises(GroupsError, match="find nothing"):
        Crowd(1, (1,), 100, 0, 16, False).beginning(Prefix(groups=1, hit_rate=0.5))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(1, 9),
)
def test_chains_of_blocks_are_found_as_far_as_they_are_alike(
    prompts: list[list[int]], block: int, cache_block: int
) -> None:
    seen = Seen()
    alike = [seen.common(ids, len(ids) * block, block) for ids in prompts]
    ids = [[100 * b + n for b in prompt for n in range(block)] for prompt in prompts]
    lengths = list(map(len, ids))
    expected = endless([(None, prompt) for prompt in ids], cache_block)
    assert list(once(alike, lengths, cache_block).first) == expected


# ---- texts and plans ----


class SimulatedCounter:
    """Counts as the simulator does, chat template included, or without it."""

    method: CountedBy = "server"
    notes: tuple[str, ...] = ()

    def __init__(self, endpoint: str) -> None:
        self.chat = endpoint == "chat"

    def ids(self, prompt: Prompt) -> list[int]:
        return tokenize(chat_prompt([("user", prompt.text)]) if self.chat else prompt.text)

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        return [len(self.ids(prompt)) for prompt in prompts]


def part_of(**keys: Any) -> Part:
    """Return the only part of a scenario's first run, on a server like the simulator."""
    asked = scenario(**{"concurrencies": [2], "num_requests": 24, "prefill_tokens": 90, **keys})
    counter = SimulatedCounter(asked.endpoint)
    material = Material(asked, SAMPLE, counter, block_size=16, token_ids=counter.ids)
    return plans_of(asked, [material])[0].parts[0]


def ids_of(request: PlannedRequest) -> tuple[str | None, list[int]]:
    """Return what the server makes of a request: its salt, and its prompt's tokens."""
    body = json.loads(request.body)
    if "messages" in body:
        turns = [(turn["role"], turn["content"]) for turn in body["messages"]]
        return body.get("cache_salt"), tokenize(chat_prompt(turns))
    return body.get("cache_salt"), tokenize(body["prompt"])


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize(
    "prefix",
    [
        {"groups": 3, "tokens": 40},
        {"groups": 3, "tokens": 47, "share": 0.6},
        {"groups": 5, "tokens": 31, "zipf": 1.5, "primed": True},
        {"groups": 2, "hit_rate": 0.5},
        {"groups": 4, "tokens": 82},
        {"groups": 30, "tokens": 40},
    ],
    ids=str,
)
@pytest.mark.parametrize("cache", ["run", "natural"])
def test_requests_are_as_long_as_asked_and_share_what_the_plan_says(
    endpoint: str, prefix: dict[str, Any], cache: str
) -> None:
    part = part_of(prefix=prefix, endpoint=endpoint, cache=cache, duration_s=5)
    assert part.grouped is not None
    requests, pool = part.requests, len(part.prompts.prompts)
    primers = [requests[requests.timed + n] for n in range(len(part.warmup))]
    rounds = [requests[n] for n in range(3 * pool)]  # a loop by time uses its prompts again
    sent = [ids_of(request) for request in (*primers, *rounds)]
    assert {len(ids) for _, ids in sent} == {90}
    hits = endless(sent, 16)[len(primers) :]
    planned = [part.expectation(n, 0).possible_cached_tokens for n in range(3 * pool)]
    assert planned == hits
    assert part.grouped.crowd.possible(part.grouped.beginning) == pytest.approx(
        sum(hits[:pool]) / (90 * pool)
    )
    assert len({salt for salt, _ in sent[len(primers) :]}) == 1


@pytest.mark.parametrize("primed", [False, True])
@pytest.mark.parametrize("size", [60, 300])
def test_a_beginning_that_lacks_a_token_to_a_block_may_get_it(size: int, primed: bool) -> None:
    prefix = {"groups": 1, "tokens": 47, "primed": primed}
    part = part_of(prefix=prefix, endpoint="completions", num_requests=size, duration_s=5)
    assert part.grouped is not None
    pool, words = len(part.prompts.prompts), len(part.grouped.words)
    assert (size > words) == (size == 300)  # then words come twice in a group at once
    primers = [part.requests[part.requests.timed + n] for n in range(len(part.warmup))]
    uses = [part.requests[n] for n in range((12 if size == 60 else 3) * pool)]
    hits = endless([ids_of(request) for request in (*primers, *uses)], 16)[len(primers) :]
    planned = [part.possible.of(n) for n in range(len(uses))] if part.possible else []
    assert planned == hits
    assert set(hits) == ({32, 48} if primed else {0, 32, 48})


def test_no_two_prompts_and_no_two_uses_of_one_go_on_alike() -> None:
    part = part_of(prefix={"groups": 4, "tokens": 48}, endpoint="completions", duration_s=5)
    pool = len(part.prompts.prompts)
    bodies = [ids_of(part.requests[n])[1] for n in range(4 * pool)]
    assert len(set(map(tuple, bodies))) == len(bodies)
    owns = Counter(tuple(ids[:50]) for ids in bodies)  # two tokens of their own
    assert max(owns.values()) <= 4 * pool // 24
    assert len({tuple(ids[:48]) for ids in bodies}) == 4
    begins = {tuple(ids[:48]) for ids in bodies}
    assert len({ids[:1] for ids in begins}) == 4  # no two groups begin alike


class Characters(SimulatedCounter):
    """Has no token of more than a character: no word can tell two uses apart."""

    def ids(self, prompt: Prompt) -> list[int]:
        return list(map(ord, prompt.text))


@pytest.mark.parametrize("cache", ["run", "natural"])
def test_without_words_of_one_token_each_use_has_a_salt_of_its_own(cache: str) -> None:
    asked = scenario(
        **{"concurrencies": [2], "duration_s": 5, "num_requests": 24, "prefill_tokens": 400},
        **{"prefix": {"groups": 3, "tokens": 330}, "endpoint": "completions", "cache": cache},
    )
    counter = Characters("completions")
    material = Material(asked, SAMPLE, counter, block_size=16, token_ids=counter.ids)
    part = plans_of(asked, [material])[0].parts[0]
    assert part.grouped is not None
    assert part.grouped.words == ()
    pool = len(part.prompts.prompts)
    bodies = [json.loads(part.requests[n].body) for n in range(2 * pool)]
    sent = [(body.get("cache_salt"), list(map(ord, body["prompt"]))) for body in bodies]
    assert {len(ids) for _, ids in sent} == {400}
    assert len({salt for salt, _ in sent}) == (2 if cache == "run" else 1)
    planned = [part.expectation(n, 0).possible_cached_tokens for n in range(2 * pool)]
    assert planned == endless(sent, 16)


def test_a_plan_is_the_same_each_time_and_another_with_other_groups() -> None:
    one, again = (part_of(prefix={"groups": 3, "tokens": 40}) for _ in range(2))
    assert one.sha256 == again.sha256
    others = [
        part_of(prefix={"groups": 3, "tokens": 41}),
        part_of(prefix={"groups": 3, "tokens": 40, "primed": True}),
        part_of(prefix={"groups": 3, "tokens": 40}, seed=1),
    ]
    assert len({one.sha256, *(other.sha256 for other in others)}) == 4


def test_the_warm_up_is_found_by_nobody_and_what_primes_by_its_group() -> None:
    part = part_of(prefix={"groups": 3, "tokens": 48, "primed": True}, warmup_requests=4)
    salts = [
        json.loads(part.requests[part.requests.timed + n].body)["cache_salt"] for n in range(7)
    ]
    run = json.loads(part.requests[0].body)["cache_salt"]
    assert salts[4:] == [run] * 3
    assert len({*salts[:4], run}) == 5
    assert len(part.warmup) == 7
    roles = [part.requests.role(part.requests.timed + n) for n in range(7)]
    assert roles == ["warm-up"] * 4 + ["priming"] * 3
    assert part.prefix_facts["primed"] == 3
    assert part.expectation(part.requests.timed, 0).possible_cached_tokens is None


def test_the_facts_say_what_was_wanted_and_what_is_possible() -> None:
    facts = part_of(prefix={"groups": 3, "hit_rate": 0.5}, endpoint="completions").prefix_facts
    assert facts["wanted_share"] == 0.5
    assert 0.5 - 16 / 90 <= facts["possible_share"] <= 0.5
    assert facts["working_set_tokens"] == 3 * facts["tokens"]
    assert (facts["block_size"], facts["block_size_known"]) == (16, True)
    by_tokens = part_of(prefix={"groups": 3, "tokens": 40}, endpoint="completions").prefix_facts
    assert by_tokens["wanted_share"] == pytest.approx(21 * 40 / (24 * 90))


def test_no_room_behind_the_beginning_is_refused() -> None:
    with pytest.raises(ScenarioError, match="at most 82"):  # behind a text come 7 tokens
        part_of(prefix={"groups": 2, "tokens": 83})


def test_an_unknown_block_size_is_said() -> None:
    asked = scenario(
        num_requests=4, concurrencies=[1], prefill_tokens=90, prefix={"groups": 1, "tokens": 40}
    )
    (plan,) = plans_of(asked, [Material(asked, SAMPLE, SimulatedCounter("chat"))])
    assert plan_facts(plan)["prefix"]["block_size"] == 16
    assert plan_facts(plan)["prefix"]["block_size_known"] is False
    assert any("block size" in note for note in plan.parts[0].prompts.notes)


def test_a_rate_that_cannot_be_had_is_a_mistake_in_the_scenario() -> None:
    with pytest.raises(ScenarioError, match=r"scenario chat: prefix\.hit_rate: 0\.95 .* at most 0"):
        part_of(prefix={"groups": 3, "hit_rate": 0.95})


def test_beginnings_that_a_tokenizer_joins_are_refused() -> None:
    asked = scenario(
        num_requests=8, concurrencies=[1], prefill_tokens=90, prefix={"groups": 2, "tokens": 40}
    )
    counter = SimulatedCounter("chat")

    def joined(prompt: Prompt) -> list[int]:
        ids = counter.ids(prompt)
        return ids if len(prompt.text) < 20 else [*ids[:30], hash(prompt.text), *ids[31:]]

    material = Material(asked, SAMPLE, counter, token_ids=joined)
    with pytest.raises(Exception, match="begin with 30 equal tokens, not with 40"):
        plans_of(asked, [material])
