"""The simulator's KV blocks and prefix cache."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sim.engine.engine import Engine, EngineConfig
from sim.engine.kv_blocks import KVBlocks, hash_blocks, root_hash
from sim.engine.step import EngineRequest, StepTimes, Tracked

from tests.sim.virtual_engine import Trace, check_blocks, config, play, request

NUM_BLOCKS = 8


class BlocksAgainstALedger(RuleBasedStateMachine):
    """Hold, share, label and release at random; a plain list of the free blocks says what is due.

    The ledger is (block, its label) in the order of eviction, and who holds what.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kv = KVBlocks(NUM_BLOCKS)
        self.free = list(range(NUM_BLOCKS))
        self.labels: dict[int, bytes] = {}
        self.tables: list[list[int]] = []

    @rule(count=st.integers(0, NUM_BLOCKS))
    def take(self, count: int) -> None:
        count = min(count, len(self.free))
        blocks = self.kv.take(count)
        assert blocks == self.free[:count]
        self.free = self.free[count:]
        for block in blocks:
            self.labels.pop(block, None)
        self.tables.append(blocks)

    @precondition(lambda self: any(self.tables))
    @rule(data=st.data(), name=st.sampled_from([b"x", b"y", b"z"]))
    def label(self, data: st.DataObject, name: bytes) -> None:
        held = {block for table in self.tables for block in table} - set(self.labels)
        if held:
            block = data.draw(st.sampled_from(sorted(held)))
            self.kv.label(block, name)
            self.labels[block] = name

    @rule(names=st.lists(st.sampled_from([b"x", b"y", b"z"]), max_size=3, unique=True))
    def find_and_share(self, names: list[bytes]) -> None:
        found = self.kv.find(names)
        assert [self.labels[block] for block in found] == names[: len(found)]
        if len(found) < len(names):
            assert names[len(found)] not in self.labels.values()
        idle = [block for block in found if block in self.free]
        assert self.kv.num_missing(len(found) + 2, found) == len(idle) + 2
        self.kv.share(found)
        self.free = [block for block in self.free if block not in found]
        self.tables.append(found)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.kv.release(table)
        still_held = {block for other in self.tables for block in other}
        self.free += [block for block in reversed(table) if block not in still_held]

    @invariant()
    def what_is_free_is_as_in_the_ledger(self) -> None:
        assert list(self.kv._free) == self.free
        assert self.kv.num_free == len(self.free)
        assert self.kv.usage == 1 - len(self.free) / NUM_BLOCKS


TestBlocksAgainstALedger = BlocksAgainstALedger.TestCase
TestBlocksAgainstALedger.settings = settings(deadline=None, max_examples=60)


def test_the_tail_of_a_released_request_is_evicted_first() -> None:
    kv = KVBlocks(4)
    hashes = hash_blocks(root_hash(None), range(12), 4)
    blocks = kv.take(3)
    for block, block_hash in zip(blocks, hashes, strict=True):
        kv.label(block, block_hash)
    kv.release(blocks)
    kv.take(2)  # the one that was never used, then the tail
    assert kv.find(hashes) == blocks[:2]


def test_a_hash_stands_for_all_that_comes_before_and_the_salt() -> None:
    plain = hash_blocks(root_hash(None), [1, 2, 3, 4, 5], 2)
    assert len(plain) == 2
    assert plain[1] != hash_blocks(root_hash(None), [9, 2, 3, 4], 2)[1]
    assert plain[0] != hash_blocks(root_hash("s"), [1, 2], 2)[0]
    assert root_hash(None) != root_hash("")
    assert hash_blocks(plain[0], [3, 4], 2) == plain[1:]


def cached(trace: Trace) -> dict[str, int]:
    return {name: n for _, step in trace.steps for name, n in step.cached_tokens.items()}


@pytest.mark.parametrize(
    ("first", "second", "hit"),
    [
        (None, None, True),
        ("s", "s", True),
        ("s", "t", False),
        (None, "s", False),
        ("s", None, False),
    ],
)
def test_a_prefix_is_shared_among_equal_salts_only(
    first: str | None, second: str | None, hit: bool
) -> None:
    engine = Engine(config())
    prompt = range(100)
    arriving = [(0.0, request("a", prompt, salt=first)), (9.0, request("b", prompt, salt=second))]
    trace = play(engine, arriving)
    # 100 tokens are 6 full blocks and 4 tokens
    assert cached(trace) == {"a": 0, "b": 96 if hit else 0}
    assert (engine.prefix_cache_queries, engine.prefix_cache_hits) == (200, 96 if hit else 0)
    # 96 tokens x 0.1 ms less
    saved_s = 9.6e-3 if hit else 0.0
    assert trace.ttft_s("a") - trace.ttft_s("b") == pytest.approx(saved_s, abs=1e-9)


@pytest.mark.parametrize(("length", "hit"), [(15, 0), (16, 0), (17, 16), (32, 16), (33, 32)])
def test_only_full_blocks_hit_and_the_last_token_is_always_computed(length: int, hit: int) -> None:
    prompt = range(length)
    trace = play(Engine(config()), [(0.0, request("a", prompt)), (9.0, request("b", prompt))])
    assert cached(trace)["b"] == hit


def test_requests_that_run_together_hold_a_common_prefix_once() -> None:
    engine = Engine(config())
    for name in "abc":
        engine.add(request(name, [*range(64), ord(name)], 2))
    step = engine.step()
    assert step is not None
    assert step.cached_tokens == {"a": 0, "b": 64, "c": 64}
    assert engine.kv_cache_usage == pytest.approx((4 + 3) / 1000)
    check_blocks(engine)
    engine.abort("a")
    check_blocks(engine)
    assert engine.kv_cache_usage == pytest.approx((4 + 2) / 1000)


def test_without_prefix_caching_nothing_is_looked_up() -> None:
    engine = Engine(config(enable_prefix_caching=False))
    trace = play(engine, [(0.0, request("a", range(64))), (9.0, request("b", range(64)))])
    assert cached(trace) == {"a": 0, "b": 0}
    assert (engine.prefix_cache_queries, engine.prefix_cache_hits) == (0, 0)
    assert trace.ttft_s("a") == pytest.approx(trace.ttft_s("b"))


def test_a_cached_prefix_is_lost_when_its_room_is_needed() -> None:
    arriving = [
        (0.0, request("a", range(64), 1)),
        (9.0, request("large", 120, 1)),
        (18.0, request("b", range(64), 1)),
    ]
    assert cached(play(Engine(config(num_gpu_blocks=12)), arriving))["b"] == 48
    # "large" needs 8 of 8 blocks
    assert cached(play(Engine(config(num_gpu_blocks=8)), arriving))["b"] == 0


def test_a_preempted_request_finds_what_is_left_of_its_own_blocks() -> None:
    computed = {}
    for caching in (False, True):
        engine = Engine(config(num_gpu_blocks=5, enable_prefix_caching=caching))
        trace = play(engine, [(0.0, request("a", 30, 20)), (0.0, request("b", 30, 20))])
        assert engine.num_preemptions == 1
        assert engine.prefix_cache_queries == (60 if caching else 0)  # a resumed one isn't counted
        computed[caching] = sum(step.num_batched_tokens for _, step in trace.steps)
    assert computed[True] == computed[False] - 16


def test_an_aborted_prompt_leaves_only_what_was_computed_of_it() -> None:
    engine = Engine(config(max_num_batched_tokens=40))
    engine.add(request("a", range(100)))
    engine.step()
    engine.abort("a")
    assert engine.kv_cache_usage == 0
    # 40 tokens are 2 full blocks and half of a third
    assert cached(play(engine, [(1.0, request("b", range(100)))])) == {"b": 32}


def test_output_ids_are_a_requests_own_and_stay_the_same() -> None:
    one, other = (Tracked(request(name, range(3)), []) for name in "ab")
    assert one.token_ids(0, 3) == other.token_ids(0, 3) == [0, 1, 2]
    assert not set(one.token_ids(3, 500)) & set(other.token_ids(3, 500))
    assert one.token_ids(2, 4) + one.token_ids(4, 9) == one.token_ids(2, 9)
    assert len(set(one.token_ids(0, 500))) == 500


@pytest.mark.process
@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 1), min_size=1, max_size=20), st.sampled_from([None, "s"])
        ),
        max_size=12,
    )
)
def test_with_room_for_all_the_hit_is_the_longest_common_run_of_blocks(
    prompts: list[tuple[list[int], str | None]],
) -> None:
    engine = Engine(config(block_size=2))
    loads = [
        (float(number), request(f"r{number}", prompt, 1, salt))
        for number, (prompt, salt) in enumerate(prompts)
    ]
    expected = {}
    for number, (prompt, salt) in enumerate(prompts):
        hit = 0
        for earlier, other_salt in prompts[:number]:
            while_equal = [prompt[: 2 * n] == earlier[: 2 * n] for n in range(1, 11)]
            blocks = min(sum(while_equal), len(earlier) // 2, (len(prompt) - 1) // 2)
            hit = max(hit, 2 * blocks * (salt == other_salt))
        expected[f"r{number}"] = hit
    assert cached(play(engine, loads)) == expected
    assert engine.prefix_cache_hits == sum(expected.values())


# ---- what a real vLLM found: 0.32 on a CPU, blocks of 32 tokens, prompts of token ids ----

TIMES = StepTimes(base_s=0.01, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)


def real_blocks(blocks: int = 4096, block_size: int = 32) -> Engine:
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
    sim, found = made or real_blocks(), dict[str, int]()
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
    sim = real_blocks()
    assert sum(served(prompts, at_once=at_once, made=sim)) == hits
    assert (sim.prefix_cache_hits, sim.prefix_cache_queries) == (hits, queries)


def test_the_same_prompt_is_found_but_for_its_last_block_and_under_its_own_salt() -> None:
    prompts = groups(1, 3, 1024, 0)
    assert served(prompts, salts=("x", "x", "y")) == [0, 992, 0]


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    sim = real_blocks(blocks=12)
    three = groups(3, 1, 128, 0)
    assert served(three, made=sim) == [0, 0, 0]
    # Three prompts of four blocks and a few tokens don't fit: the first has lost its end.
    again = served([three[2]], made=sim)
    assert again == [96]
    assert served([three[0]], made=sim)[0] < 96
