"""The simulator's engine: who computes what in which step."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.engine.engine import Engine, EngineConfig
from sim.engine.step import EngineRequest, Step

from tests.sim.virtual_engine import check_blocks, config, play, request

LONGEST = 60  # tokens of a drawn request


@st.composite
def engine_configs(draw: st.DrawFn) -> EngineConfig:
    """Small engines, down to one that only just holds the longest request."""
    seqs = draw(st.integers(1, 6))
    return config(
        max_num_seqs=seqs,
        max_num_batched_tokens=draw(st.integers(seqs, 40)),
        block_size=4,
        num_gpu_blocks=draw(st.integers(LONGEST // 4, 40)),
        enable_prefix_caching=draw(st.booleans()),
    )


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[float, EngineRequest]]:
    """Requests that often begin alike, close together or far apart."""
    loads = []
    for number in range(draw(st.integers(1, 12))):
        prompt = [0] * draw(st.integers(0, 24)) + draw(st.lists(st.integers(0, 1), max_size=16))
        max_tokens = draw(st.integers(1, LONGEST - 40))
        salt = draw(st.sampled_from([None, "a", "b"]))
        arriving = EngineRequest(f"r{number}", [*prompt, number % 2], max_tokens - 1 or 1, salt)
        loads.append((draw(st.sampled_from([0.0, 0.0, 0.05, 0.2, 3.0])), arriving))
    return loads


@settings(deadline=None, max_examples=150)
@given(engine_configs(), arrivals())
def test_each_request_gets_its_tokens_and_no_step_goes_over_a_limit(
    settings: EngineConfig, loads: list[tuple[float, EngineRequest]]
) -> None:
    engine = Engine(settings)

    def check(step: Step) -> None:
        assert 0 < step.num_batched_tokens <= settings.max_num_batched_tokens
        assert 0 < step.num_seqs <= settings.max_num_seqs
        assert engine.num_running <= settings.max_num_seqs
        assert len(set(step.tokens)) == len(step.tokens)
        assert set(step.finished) <= set(step.tokens)
        check_blocks(engine)

    trace = play(engine, loads, check)
    wanted = {r.request_id: r.max_tokens for _, r in loads}
    assert Counter(trace.ids("tokens")) == wanted
    assert sorted(trace.ids("finished")) == sorted(wanted)
    assert sum(len(step.preempted) for _, step in trace.steps) == engine.num_preemptions
    assert (engine.num_running, engine.num_waiting, engine.kv_cache_usage) == (0, 0, 0.0)


@settings(deadline=None, max_examples=100)
@given(engine_configs(), arrivals())
def test_requests_start_in_the_order_in_which_they_came(
    settings: EngineConfig, loads: list[tuple[float, EngineRequest]]
) -> None:
    trace = play(Engine(settings), loads)
    assert trace.ids("started") == list(trace.arrived_s)


@settings(deadline=None, max_examples=100)
@given(engine_configs(), arrivals())
def test_who_decodes_gets_a_token_in_each_step_until_preempted(
    settings: EngineConfig, loads: list[tuple[float, EngineRequest]]
) -> None:
    decoding: set[str] = set()

    def check(step: Step) -> None:
        nonlocal decoding
        decoding -= set(step.preempted)
        assert decoding <= set(step.tokens)
        decoding = (decoding | set(step.tokens)) - set(step.finished)

    play(Engine(settings), loads, check)


@pytest.mark.process
@settings(deadline=None, max_examples=50)
@given(engine_configs(), arrivals())
def test_the_same_calls_give_the_same_steps(
    settings: EngineConfig, loads: list[tuple[float, EngineRequest]]
) -> None:
    assert play(Engine(settings), loads) == play(Engine(settings), loads)


@settings(deadline=None, max_examples=100)
@given(engine_configs(), arrivals(), st.data())
def test_an_abort_at_any_moment_frees_everything_and_disturbs_nobody_else(
    settings: EngineConfig, loads: list[tuple[float, EngineRequest]], data: st.DataObject
) -> None:
    engine = Engine(settings)
    everyone = [r.request_id for _, r in loads]
    moments = data.draw(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(everyone))))
    aborted: set[str] = set()
    steps = 0

    def abort(step: Step) -> None:
        nonlocal steps
        for moment, name in moments:
            if moment == steps:
                engine.abort(name)
                aborted.add(name)
        steps += 1
        check_blocks(engine)

    trace = play(engine, loads, abort)
    wanted = {r.request_id: r.max_tokens for _, r in loads}
    got = Counter(trace.ids("tokens"))
    assert all(got[name] == wanted[name] for name in set(everyone) - aborted)
    assert all(got[name] <= wanted[name] for name in aborted)
    assert (engine.num_running, engine.num_waiting, engine.kv_cache_usage) == (0, 0, 0.0)


def test_a_step_lasts_as_long_as_its_parts() -> None:
    trace = play(Engine(config()), [(0.0, request("a", 20, max_tokens=3))])
    # 10 ms + 20 prompt tokens x 0.1 ms + 1 ms; then 10 ms + 1 ms + 21 or 22 KV tokens x 1 us
    durations_ms = [round(step.duration_s * 1e3, 6) for _, step in trace.steps]
    assert durations_ms == [13.0, 11.021, 11.022]


def test_a_long_prompt_is_cut_and_decoding_goes_on_beside_it() -> None:
    engine = Engine(config(max_num_batched_tokens=33))
    trace = play(engine, [(0.0, request("short", 8, 9)), (0.001, request("long", 100, 2))])
    # 8; then 1 + 32 of the long prompt three times, its last 4 with the 5th token of the short one
    assert [step.num_batched_tokens for _, step in trace.steps[:6]] == [8, 33, 33, 33, 5, 2]
    assert [step.tokens for _, step in trace.steps[3:5]] == [("short",), ("short", "long")]


def test_what_a_finished_prompt_leaves_of_the_budget_goes_to_the_next_one() -> None:
    engine = Engine(config(max_num_batched_tokens=50))
    trace = play(engine, [(0.0, request("a", 30, 1)), (0.0, request("b", 30, 1))])
    assert [(s.num_batched_tokens, s.started, s.tokens) for _, s in trace.steps] == [
        (50, ("a", "b"), ("a",)),
        (10, (), ("b",)),
    ]


def test_beyond_max_num_seqs_requests_wait() -> None:
    engine = Engine(config(max_num_seqs=2))
    for name in "abc":
        engine.add(request(name, 10, 3))
    engine.step()
    assert (engine.num_running, engine.num_waiting) == (2, 1)


def test_without_blocks_the_request_admitted_last_is_computed_again() -> None:
    engine = Engine(config(num_gpu_blocks=4, enable_prefix_caching=False))
    arriving = [(0.0, request("a", 30, 20)), (0.0, request("b", 30, 20))]
    trace = play(engine, arriving, lambda step: check_blocks(engine))
    # Each holds 2 blocks up to 32 tokens. For its 33rd "a" takes those of "b", which has 3 tokens
    # by then and comes back when "a" is done: 30 + 3 tokens of prefill.
    assert trace.ids("preempted") == ["b"]
    assert trace.ids("started") == ["a", "b"]
    assert engine.num_preemptions == 1
    assert trace.token_times_s["b"][2] < trace.token_times_s["a"][-1] < trace.token_times_s["b"][3]
    assert [s.num_batched_tokens for _, s in trace.steps if s.num_batched_tokens > 2] == [60, 33]
    assert {name: len(times) for name, times in trace.token_times_s.items()} == {"a": 20, "b": 20}


def test_a_preempted_request_goes_before_those_that_never_ran() -> None:
    engine = Engine(config(num_gpu_blocks=4, max_num_seqs=2))
    arriving = [(0.0, request(name, 30, 20)) for name in "abc"]
    trace = play(engine, arriving)
    assert "b" in trace.ids("preempted")
    assert trace.ids("finished") == ["a", "b", "c"]


def test_a_prompt_is_admitted_only_when_all_of_it_fits() -> None:
    engine = Engine(config(num_gpu_blocks=10, max_num_batched_tokens=64))
    engine.add(request("a", 60, 40))
    engine.add(request("b", 120, 40))
    engine.step()
    engine.step()
    # "a" holds 4 of 10 blocks: the 4 of a first chunk would fit, the 8 of the prompt don't.
    assert (engine.num_running, engine.num_waiting) == (1, 1)
    assert engine.kv_cache_usage == pytest.approx(0.4)


def test_no_request_means_no_step() -> None:
    engine = Engine(config())
    assert engine.step() is None
    engine.abort("never seen")
    assert engine.step() is None


def test_the_longest_request_is_bounded_by_the_context_or_by_the_cache() -> None:
    assert config(num_gpu_blocks=10).longest_request_tokens == 160
    assert config(max_model_len=100).longest_request_tokens == 100


def test_a_step_must_hold_a_token_for_each_running_request() -> None:
    with pytest.raises(ValueError, match=r"max_num_batched_tokens \(31\) is below max_num_seqs"):
        config(max_num_batched_tokens=31, max_num_seqs=32)
