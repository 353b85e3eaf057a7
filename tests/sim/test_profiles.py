"""The simulator's profiles: curves of the right shape, and settings that do what TUNING.md says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from sim.engine.engine import Engine, EngineConfig
from sim.engine.profiles import PROFILES, Profile
from sim.engine.step import EngineRequest

from tests.sim.virtual_engine import Trace, closed_loop, play, request

each_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


def machine(profile: Profile, **changes: object) -> EngineConfig:
    """A profile with all its defaults, but for what a test changes."""
    settings = EngineConfig(
        max_num_batched_tokens=profile.max_num_batched_tokens,
        max_num_seqs=profile.max_num_seqs,
        num_gpu_blocks=profile.num_gpu_blocks(),
        max_model_len=profile.max_model_len,
        step_times=profile.step_times,
    )
    return replace(settings, **changes)


def chats(count: int, prompt: int = 200, output: int = 40) -> Iterator[EngineRequest]:
    """Requests of roughly that size, no two alike in their first block."""
    random = Random(7)
    for number in range(count):
        length = random.randint(prompt // 2, prompt * 3 // 2)
        tokens = [random.randrange(1 << 40) for _ in range(length)]
        yield EngineRequest(f"r{number}", tokens, random.randint(output // 2, output * 3 // 2))


def load(settings: EngineConfig, concurrency: int, prompt: int = 200, output: int = 40) -> Trace:
    return closed_loop(Engine(settings), concurrency, chats(4 * concurrency, prompt, output))


@each_profile
def test_throughput_rises_and_flattens_while_ttft_rises(profile: Profile) -> None:
    traces = [load(machine(profile), concurrency) for concurrency in (1, 4, 16, 64)]
    rates = [trace.tokens_per_s for trace in traces]
    gains = [after / before for before, after in pairwise(rates)]
    assert all(gain > 1 for gain in gains)
    assert gains == sorted(gains, reverse=True)
    ttfts_s = [trace.mean_ttft_s for trace in traces]
    assert ttfts_s == sorted(ttfts_s)
    tpots_s = [trace.mean_tpot_s for trace in traces]
    assert tpots_s == sorted(tpots_s)


@each_profile
def test_beyond_max_num_seqs_more_load_is_only_more_queue(profile: Profile) -> None:
    settings = machine(profile, max_num_seqs=16)
    full, twice, four_times = (load(settings, concurrency) for concurrency in (16, 32, 64))
    assert twice.tokens_per_s == pytest.approx(full.tokens_per_s, rel=0.15)
    assert four_times.tokens_per_s == pytest.approx(twice.tokens_per_s, rel=0.1)
    assert four_times.mean_ttft_s > 1.5 * twice.mean_ttft_s > 3 * full.mean_ttft_s
    assert four_times.mean_tpot_s == pytest.approx(full.mean_tpot_s, rel=0.25)


@each_profile
def test_fewer_sequences_decode_faster_and_wait_longer(profile: Profile) -> None:
    few = load(machine(profile, max_num_seqs=8), 64)
    many = load(machine(profile, max_num_seqs=64), 64)
    assert few.mean_tpot_s < many.mean_tpot_s
    assert few.mean_ttft_s > many.mean_ttft_s
    assert few.tokens_per_s < many.tokens_per_s


@each_profile
def test_a_larger_token_budget_gets_prompts_through_and_makes_gaps(profile: Profile) -> None:
    small, large = (
        load(machine(profile, max_num_batched_tokens=n, max_num_seqs=32), 32, 800)
        for n in (128, 4096)
    )
    assert large.mean_ttft_s < small.mean_ttft_s
    assert large.tokens_per_s > small.tokens_per_s
    assert large.worst_gap_s > small.worst_gap_s


def test_a_budget_below_the_prompt_takes_more_steps_for_it() -> None:
    steps = {}
    for budget in (256, 1024):
        settings = machine(PROFILES["llama-8b-a100"], max_num_batched_tokens=budget)
        steps[budget] = len(play(Engine(settings), [(0.0, request("a", 1024, 1))]).steps)
    assert steps == {256: 4, 1024: 1}


@each_profile
def test_more_cache_means_fewer_preemptions_and_more_throughput_under_load(
    profile: Profile,
) -> None:
    # 64 requests of about 240 tokens want 960 blocks and more
    engines = [Engine(machine(profile, num_gpu_blocks=n)) for n in (150, 400, 2000)]
    traces = [closed_loop(engine, 64, chats(256)) for engine in engines]
    rates = [trace.tokens_per_s for trace in traces]
    assert rates == sorted(rates)
    assert engines[0].num_preemptions > 0
    assert engines[2].num_preemptions == 0
    assert traces[0].mean_ttft_s > traces[2].mean_ttft_s


def test_far_below_the_ceiling_neither_cache_nor_context_changes_anything() -> None:
    profile = PROFILES["llama-8b-a100"]
    plain = load(machine(profile), 4)
    assert load(machine(profile, num_gpu_blocks=profile.num_gpu_blocks(0.85)), 4) == plain
    assert load(machine(profile, max_model_len=2048), 4) == plain


@each_profile
def test_prefix_caching_shortens_ttft_of_prompts_that_begin_alike(profile: Profile) -> None:
    def alike() -> Iterator[EngineRequest]:
        for chat in chats(64):
            yield replace(chat, prompt_token_ids=[*range(512), *chat.prompt_token_ids])

    on, off = (
        closed_loop(Engine(machine(profile, enable_prefix_caching=setting)), 8, alike())
        for setting in (True, False)
    )
    assert on.mean_ttft_s < 0.7 * off.mean_ttft_s
    assert on.tokens_per_s > off.tokens_per_s


@each_profile
def test_fp8_doubles_the_cache_and_speeds_up_long_contexts(profile: Profile) -> None:
    assert profile.num_gpu_blocks(kv_cache_dtype="fp8") // 2 == profile.num_gpu_blocks()
    plain, fp8 = profile.step_times_with("auto"), profile.step_times_with("fp8_e4m3")
    assert plain == profile.step_times
    assert fp8.per_kv_token_s == plain.per_kv_token_s / 2
    assert replace(fp8, per_kv_token_s=plain.per_kv_token_s) == plain


@each_profile
def test_blocks_grow_with_the_memory_share_and_shrink_with_the_budget(profile: Profile) -> None:
    shares = [profile.num_gpu_blocks(share) for share in (0.9, 0.92, 0.95)]
    assert shares == sorted(set(shares))
    # Weights come off first: 5.6 % more memory is more than 5.6 % more cache.
    assert shares[2] / shares[0] > 0.95 / 0.9
    assert profile.num_gpu_blocks(max_num_batched_tokens=16384) < profile.num_gpu_blocks()
    assert profile.num_gpu_blocks(block_size=32) == profile.num_gpu_blocks() // 2


def test_settings_that_leave_no_cache_are_refused() -> None:
    profile = PROFILES["llama-8b-a100"]
    with pytest.raises(ValueError, match="leaves no memory for the KV cache"):
        profile.num_gpu_blocks(0.2)
    with pytest.raises(ValueError, match="has to be over 0, up to 1"):
        profile.num_gpu_blocks(90)
    with pytest.raises(ValueError, match="'fp16'; the profiles know auto, bfloat16, fp8"):
        profile.num_gpu_blocks(kv_cache_dtype="fp16")


def test_a_profile_has_vllms_defaults_for_its_class() -> None:
    defaults = {n: (p.max_num_batched_tokens, p.max_num_seqs) for n, p in PROFILES.items()}
    assert defaults == {
        "gpt-oss-20b-h100": (8192, 1024),
        "llama-8b-a100": (2048, 256),
        "tiny-cpu": (2048, 128),
    }


@each_profile
def test_each_profile_can_serve_a_request_of_its_full_context(profile: Profile) -> None:
    assert machine(profile).longest_request_tokens == profile.max_model_len


def test_the_tiny_profile_meets_the_figures_that_it_was_taken_from() -> None:
    settings = machine(PROFILES["tiny-cpu"])
    for streams, tokens_per_s in ((1, 550), (8, 3300)):
        arriving = [(0.0, request(f"{n}", 10, 500)) for n in range(streams)]
        assert play(Engine(settings), arriving).tokens_per_s == pytest.approx(
            tokens_per_s, rel=0.05
        )
    for prompt in (75, 300):
        trace = play(Engine(settings), [(0.0, request("a", prompt, 1))])
        assert 6e-3 <= trace.ttft_s("a") <= 20e-3
