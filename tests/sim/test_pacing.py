"""When tokens come: the timer, deadlines of exact mode, the engine's steps and what they queue."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sim.choice import Choice
from sim.engine import timer
from sim.engine.engine import EngineConfig
from sim.engine.step import StepTimes
from sim.engine.timer import Timer, precise_timer
from sim.pacing import PERIOD_NS, EnginePacing, ExactPacing, Pauses
from sim.wire.generation import COMPLETIONS, read_request
from sim.wire.replies import Reply
from sim.wire.settings import ExactPace, Settings

from tests.sim.simulated import Simulated, read_counters

MS = 1_000_000


@pytest.fixture(params=["linux", "darwin"], ids=["timerfd", "loop"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer.sys, "platform", request.param)


def fired(
    deadlines_ms: list[int], again: Callable[[Timer, int], None] | None = None, awaited: int = 1
) -> list[int]:
    """When the timer fired, in ns from the start; the deadlines are set one after the other.

    It is closed once it has fired as often as awaited, and a while later.
    """
    fires: list[int] = []
    start_ns = time.perf_counter_ns()

    async def run() -> None:
        def fire() -> None:
            fires.append(time.perf_counter_ns() - start_ns)
            if again is not None:
                again(clock, len(fires))

        clock = precise_timer(asyncio.get_running_loop(), fire)
        for deadline_ms in deadlines_ms:
            clock.arm(start_ns + deadline_ms * MS)
        while len(fires) < awaited:
            await asyncio.sleep(0.001)
        if awaited:
            await asyncio.sleep(0.03)
        clock.close()
        await asyncio.sleep(0.03)

    asyncio.run(run())
    return fires


@pytest.mark.usefixtures("system")
class TestTimer:
    def test_it_fires_once_after_its_deadline(self) -> None:
        (at_ns,) = fired([3])
        assert at_ns >= 3 * MS - MS  # the loop's own timer may be early by its resolution

    def test_only_the_last_deadline_counts(self) -> None:
        (at_ns,) = fired([1, 20])
        assert at_ns >= 19 * MS
        assert len(fired([20, 1])) == 1

    def test_a_deadline_in_the_past_fires_at_once(self) -> None:
        assert len(fired([-1000])) == 1

    def test_it_can_be_set_again_while_it_fires(self) -> None:
        def again(clock: Timer, fires: int) -> None:
            if fires < 3:
                clock.arm(time.perf_counter_ns() + MS)

        assert len(fired([1], again, awaited=3)) == 3

    def test_it_never_fires_once_closed(self) -> None:
        assert fired([20], awaited=0) == []


def choice(
    received_ns: int, length: int, on_token: Callable[[Choice], None], token: int = 1
) -> Choice:
    ask = read_request(COMPLETIONS, {"prompt": [token] * 16}, Settings("m", ("m",)))
    reply = Reply([0] * length, [b""] * length, "length", 0)
    return Choice(0, ask, reply, received_ns, on_token)


def exact(
    pace: ExactPace, offsets_ns: dict[str, int], length: int, still_ns: int = 0
) -> list[tuple[str, int]]:
    """Who gets a token when in exact mode; requests came at offsets from a common start, in ns.

    The server stands still for the first `still_ns` of it.
    """
    log: list[tuple[str, int]] = []
    start_ns = time.perf_counter_ns()
    pauses = Pauses(still_ns / 1e9, start_ns + still_ns)

    def note(name: str) -> Callable[[Choice], None]:
        return lambda _: log.append((name, time.perf_counter_ns() - start_ns))

    async def run() -> None:
        pacing = ExactPacing(asyncio.get_running_loop(), pace, 1, pauses)
        for name, offset in offsets_ns.items():
            pacing.start(choice(start_ns + offset, length, note(name)))
        while len(log) < length * len(offsets_ns):
            await asyncio.sleep(0.001)

    asyncio.run(run())
    return log


def test_no_token_comes_before_its_deadline_and_deadlines_do_not_drift() -> None:
    log = exact(ExactPace(10 * MS, 2 * MS), {"a": 0, "b": 1 * MS}, 10)
    for name, offset in (("a", 0), ("b", 1 * MS)):
        times = [at for who, at in log if who == name]
        deadlines = [offset + 10 * MS + 2 * MS * token for token in range(10)]
        assert all(at >= due for at, due in zip(times, deadlines, strict=True))


def test_what_is_overdue_comes_at_once_in_the_order_of_the_deadlines() -> None:
    # All deadlines lie in the past, b's first and a's and b's in turn: no waiting, that order.
    log = exact(ExactPace(10 * MS, 2 * MS), {"a": -1000 * MS, "b": -1001 * MS}, 4)
    assert "".join(name for name, _ in log) == "babababa"


def test_jitter_moves_deadlines_alike_in_every_run() -> None:
    pace = ExactPace(0, 10 * MS, 9 * MS)
    # Long overdue, so only the order of the deadlines shows, and jitter makes it.
    offsets = dict.fromkeys("abcd", -1000 * MS)
    orders = [[name for name, _ in exact(pace, offsets, 5)] for _ in range(2)]
    assert orders[0] == orders[1]
    assert orders[0] != [name for name, _ in exact(ExactPace(0, 10 * MS), offsets, 5)]


def test_a_server_that_stands_still_makes_no_token() -> None:
    log = exact(ExactPace(1 * MS, 2 * MS), {"a": 0}, 20, still_ns=30 * MS)
    assert min(at for _, at in log) >= 30 * MS
    assert log[-1][1] >= 39 * MS  # deadlines count from the request, so what waited comes at once


def test_pauses_lie_at_the_end_of_each_period() -> None:
    pauses = Pauses(2.0, since_ns=5)
    for period in range(3):
        begins = 5 + period * PERIOD_NS
        assert pauses.wait(begins) == begins
        assert pauses.wait(begins + 7_999_999_999) == begins + 7_999_999_999
        assert pauses.wait(begins + 8_000_000_000) == begins + PERIOD_NS
        assert pauses.wait(begins + PERIOD_NS - 1) == begins + PERIOD_NS
    assert Pauses(0.0, since_ns=5).wait(4 + PERIOD_NS) == 4 + PERIOD_NS


def batched(choices: list[Choice], gone: Choice | None = None, pauses: Pauses | None = None) -> Any:
    """The engine's state after all choices have ended."""
    times = StepTimes(base_s=1e-5, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0)
    # 6 blocks of 16 tokens
    config = EngineConfig(
        max_num_batched_tokens=64,
        max_num_seqs=4,
        num_gpu_blocks=6,
        max_model_len=96,
        step_times=times,
    )

    async def run() -> Any:
        pacing = EnginePacing(asyncio.get_running_loop(), config, pauses)
        for one in choices:
            pacing.start(one)
        if gone is not None:
            pacing.stop(gone)
            pacing.stop(gone)  # a second time is no error
        while not all(one.is_complete for one in choices if one is not gone):
            await asyncio.sleep(0.001)
        return pacing.state()

    return asyncio.run(run())


def test_every_choice_gets_all_its_tokens_whatever_is_preempted() -> None:
    # Each needs 3 of the 6 blocks at its end, so four don't fit together.
    now_ns = time.perf_counter_ns()
    choices = [choice(now_ns, 30, lambda _: None, number) for number in range(4)]
    state = batched(choices)
    assert [one.made for one in choices] == [30] * 4
    assert all(one.started_ns >= now_ns for one in choices)
    assert state.preemptions > 0
    assert (state.running, state.waiting, state.kv_cache_usage) == (0, 0, 0)


def test_an_engine_that_stands_still_ends_no_step() -> None:
    now_ns = time.perf_counter_ns()
    one = choice(now_ns, 10, lambda _: None)
    batched([one], pauses=Pauses(0.03, now_ns + 30 * MS))
    assert one.times_ns[0] - now_ns >= 30 * MS
    assert one.times_ns[-1] > one.times_ns[0]


def test_a_choice_that_was_stopped_gets_no_more_and_holds_nothing() -> None:
    choices = [choice(0, 10, lambda _: None, number) for number in range(2)]
    state = batched(choices, gone=choices[0])
    assert [one.made for one in choices] == [0, 10]
    assert (state.running, state.waiting, state.kv_cache_usage) == (0, 0, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    flags = ("--max-model-len", "1024", "--max-num-seqs", "2", "--num-gpu-blocks", "128")
    with Simulated("--profile", "tiny-cpu", *flags, "--enable-prompt-tokens-details") as running:
        yield running


def completion(server: Simulated, **body: Any) -> dict[str, Any]:
    answer = server.client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["usage"])


def test_a_prompt_seen_before_is_cached_but_for_another_salt(server: Simulated) -> None:
    def cached(**body: Any) -> int:
        prompt = "the same long prompt, again and again " * 12
        usage = completion(server, prompt=prompt, max_tokens=2, **body)
        assert usage["prompt_tokens"] > 100
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached() == 0
    whole_blocks = cached()
    assert whole_blocks > 100
    assert whole_blocks % 16 == 0
    assert cached(cache_salt="a") == 0
    assert cached(cache_salt="a") == whole_blocks


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
    while any(client.is_alive() for client in clients):
        counters = read_counters(server.client.get("/metrics").text)
        for name, values in seen.items():
            values.add(counters[f"vllm:num_requests_{name}"])
    for client in clients:
        client.join()
    after = read_counters(server.client.get("/metrics").text)
    assert max(seen["running"]) == 2  # --max-num-seqs
    assert max(seen["waiting"]) >= 1
    assert [usage["completion_tokens"] for usage in answers] == [150] * 5
    grown = {name: after[name] - before[name] for name in after}
    assert grown["vllm:generation_tokens_total"] == 750
    assert grown["vllm:request_queue_time_seconds_count"] == 5
    assert grown["vllm:request_queue_time_seconds_sum"] > 0


def test_the_cache_configuration_is_shown(server: Simulated) -> None:
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
