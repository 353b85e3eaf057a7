"""The engine behind the wire: what a client and /metrics see of batches, queues and caches."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sim.batching import EnginePacing
from sim.engine.engine import EngineConfig, StepTimes

from tests.simulated import Simulated
from tests.test_sim_exact import read_counters

FLAGS = (
    "--profile", "tiny-cpu", "--max-model-len", "1024", "--max-num-seqs", "2",
    "--num-gpu-blocks", "128", "--enable-prompt-tokens-details",
)  # fmt: skip
PROMPT = "the same long prompt, again and again " * 12


class FakeChoice:
    """As much of a choice as the pacing looks at."""

    def __init__(self, prompt: tuple[int, ...], length: int) -> None:
        self.answer = self.caller = self.ask = self
        self.over = False
        self.cache_salt = None
        self.received_ns = time.perf_counter_ns()
        self.prompt = prompt
        self.length = length
        self.made = 0
        self.preemptions = 0
        self.cached: int | None = None

    def started(self, cached_tokens: int, now_ns: int) -> None:
        assert now_ns >= self.received_ns
        self.cached = cached_tokens

    def token(self) -> None:
        self.made += 1


def config(**more: Any) -> EngineConfig:
    times = StepTimes(base_s=1e-5, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0)
    defaults = {"max_num_batched_tokens": 64, "max_num_seqs": 4, "num_gpu_blocks": 6}
    return EngineConfig(**{**defaults, "max_model_len": 96, "step_times": times, **more})


def play(choices: list[FakeChoice], gone: FakeChoice | None = None) -> tuple[list[int], Any]:
    """The tokens of each step, and the engine's state after all choices have ended."""
    steps: list[int] = []

    async def run() -> Any:
        pacing = EnginePacing(asyncio.get_running_loop(), config(), steps.append)
        for choice in choices:
            pacing.start(choice)  # type: ignore[arg-type]
        if gone is not None:
            pacing.stop(gone)  # type: ignore[arg-type]
            pacing.stop(gone)  # type: ignore[arg-type]  # a second time is no error
        while any(choice.made < choice.length for choice in choices if choice is not gone):
            await asyncio.sleep(0.001)
        return pacing.state()

    return steps, asyncio.run(run())


def test_every_choice_gets_all_its_tokens_whatever_is_preempted() -> None:
    # 6 blocks of 16 tokens; each needs 3 of them at its end, so four don't fit together.
    choices = [FakeChoice((number,) * 16, 30) for number in range(4)]
    steps, state = play(choices)
    assert [choice.made for choice in choices] == [30] * 4
    assert sum(choice.preemptions for choice in choices) == state.preemptions > 0
    assert (state.running, state.waiting, state.kv_cache_usage) == (0, 0, 0)
    assert sum(steps) >= 4 * (16 + 29)  # what was preempted is computed again


def test_a_choice_that_was_stopped_gets_no_more_and_holds_nothing() -> None:
    choices = [FakeChoice((1,) * 16, 10), FakeChoice((2,) * 16, 10)]
    _, state = play(choices, gone=choices[0])
    assert choices[0].made == 0
    assert choices[1].made == 10
    assert (state.running, state.waiting, state.kv_cache_usage) == (0, 0, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    with Simulated(*FLAGS) as running:
        yield running


def completion(server: Simulated, **body: Any) -> dict[str, Any]:
    answer = server.client.post("/v1/completions", json={"prompt": PROMPT, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["usage"])


def cached(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_a_prompt_seen_before_is_cached_but_for_another_salt_or_after_a_reset(
    server: Simulated,
) -> None:
    reset = "/reset_prefix_cache"
    assert server.client.post(reset).json() == {"success": True}
    whole_blocks = (completion(server, max_tokens=2)["prompt_tokens"] - 1) // 16 * 16
    assert whole_blocks > 100
    assert cached(completion(server, max_tokens=2)) == whole_blocks
    assert cached(completion(server, max_tokens=2, cache_salt="a")) == 0
    assert cached(completion(server, max_tokens=2, cache_salt="a")) == whole_blocks
    assert server.client.post(reset).json() == {"success": True}
    assert cached(completion(server, max_tokens=2)) == 0


def test_what_does_not_fit_waits_its_turn_and_metrics_show_it(server: Simulated) -> None:
    before = read_counters(server.client.get("/metrics").text)
    answers: list[dict[str, Any]] = []
    ask = {"prompt": "hi", "max_tokens": 150, "ignore_eos": True}
    clients = [
        threading.Thread(target=lambda: answers.append(completion(server, **ask))) for _ in range(5)
    ]
    for client in clients:
        client.start()
    seen = {"running": set[float](), "waiting": set[float]()}
    refused = []
    while any(client.is_alive() for client in clients):
        counters = read_counters(server.client.get("/metrics").text)
        for name, values in seen.items():
            values.add(counters[f"vllm:num_requests_{name}"])
        if counters["vllm:num_requests_running"]:
            refused.append(server.client.post("/reset_prefix_cache").json()["success"])
    for client in clients:
        client.join()
    after = read_counters(server.client.get("/metrics").text)
    assert max(seen["running"]) == 2  # --max-num-seqs
    assert max(seen["waiting"]) >= 1
    assert False in refused  # blocks are held while requests run
    assert [usage["completion_tokens"] for usage in answers] == [150] * 5
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["vllm:generation_tokens_total"] == 750
    assert grown["vllm:request_queue_time_seconds_count"] == 5
    assert grown["vllm:request_queue_time_seconds_sum"] > 0
    steps = grown["vllm:iteration_tokens_total_count"]
    # Two at a time: three rounds of about 150 steps.
    assert 3 * 149 <= steps <= 5 * 150
    assert (
        grown["vllm:iteration_tokens_total_sum"]
        == 5 * (1 + 149)
        + grown["vllm:prompt_tokens_total"]
        - 5
        - grown["vllm:prompt_tokens_cached_total"]
    )


def test_the_cache_configuration_is_told(server: Simulated) -> None:
    text = server.client.get("/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("vllm:cache_config_info"))
    for label in ('num_gpu_blocks="128"', 'block_size="16"', 'kv_cache_size_tokens="2048"'):
        assert label in line


def test_a_stream_arrives_in_order_and_whole(server: Simulated) -> None:
    usage = {"include_usage": True, "continuous_usage_stats": True}
    got = server.stream(
        "/v1/completions", prompt="hi", max_tokens=25, ignore_eos=True, stream_options=usage
    )
    counts = [event["usage"]["completion_tokens"] for event in got[:-2]]
    assert counts == list(itertools.accumulate([1] * 25))
