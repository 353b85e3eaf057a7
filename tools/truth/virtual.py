"""Servers in virtual time, under Poisson arrivals, and what a run on them shows.

No request is sent: a run of 1,000 requests takes a tenth of a second. Of a queue with exponential
service the truth is a formula; of the simulator's engine a rate's true share late is that of a very
long run.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from sim.engine.engine import Engine, EngineConfig
from sim.engine.step import EngineRequest, StepTimes
from vllm_bench.figures.attained import attainment
from vllm_bench.figures.facts import Facts
from vllm_bench.plan.arrivals import arrival_times
from vllm_bench.prompts.order import derive_seed
from vllm_bench.records.row import Rows
from vllm_bench.records.run_info import ClockPair, RunInfo
from vllm_bench.scenario.load_keys import Arrivals
from vllm_bench.search.judged import lates
from vllm_bench.search.probe import Probe
from vllm_bench.search.sizes import Size
from vllm_bench.search.steps import Space, Step
from vllm_bench.stats.batches import Values
from vllm_bench.stats.distribution import Sample
from vllm_bench.verdict.finding import Severity
from vllm_bench.verdict.queue_checks import not_stationary

TIMES = StepTimes(
    base_s=10e-3, per_prefill_token_s=50e-6, per_sequence_s=0.5e-3, per_kv_token_s=1e-6
)


@dataclass(frozen=True)
class Virtual(ABC):
    """A server, and what its requests must meet."""

    name: str
    slo: dict[str, Any]
    low: float  # requests/s at which a search begins
    high: float

    @property
    def space(self) -> Space:
        return Space(low=self.low, high=self.high)

    @property
    @abstractmethod
    def capacity(self) -> float:
        """The true answer, in requests/s."""

    @abstractmethod
    def times(self, due_s: Values, seed: int) -> dict[str, Values]:
        """Return the times of requests that are due then, in ms."""

    def probe(self, number: int, step: Step, size: Size, seed: int) -> Probe:
        """Make a run in virtual time, and judge it as one on the wire is judged."""
        facts = self.facts(step.load, size, derive_seed(seed, f"probe {number}"))
        found = attainment(facts)
        assert found is not None
        samples = {
            name: Sample(facts.values(name))
            for name in ("ttft_from_schedule_ms", "tpot_ms", "latency_from_schedule_ms")
        }
        doubts = [not_stationary.grade(doubt) for doubt in not_stationary.doubts(facts)]
        grew = any(grade is not None and grade > Severity.NOTE for grade in doubts)
        return Probe(
            number=number,
            purpose=step.purpose,
            tier=step.tier,
            load=step.load,
            run_id=f"virtual-{number}",
            requests=size.requests,
            counted=len(facts.counted_rows),
            seconds=size.requests / step.load,
            late={"": lates(found, samples)},
            over="the queue grew" if grew else None,
        )

    def facts(self, rate: float, size: Size, seed: int) -> Facts:
        """Return the facts of a run of so many requests, of which the first aren't counted."""
        count = size.requests
        due_s = np.array(arrival_times(Arrivals("poisson", rate), seed=seed, count=count))
        times = self.times(due_s, seed)
        whole = {name: np.zeros(count) for name in ("send_lag_ms", "waited_ms")}
        nothing = {name: np.full(count, None) for name in ("error_kind", "error")}
        frame = Rows(
            {
                "request_index": np.arange(count),
                "t_scheduled_s": due_s,
                "t_sent_s": due_s,
                "t_end_s": due_s + times["latency_ms"] / 1000,
                "token_events": np.full(count, 2),
                **times,
                **whole,
                **nothing,
            }
        )
        return Facts(frame, self._info(rate, size))

    def _info(self, rate: float, size: Size) -> RunInfo:
        return RunInfo(
            run_id="virtual",
            status="complete",
            scenario={"name": self.name, "stream": True, "slo": self.slo},
            concurrency=None,
            num_requests=size.requests,
            seeds={},
            prompts={},
            server={"simulator": True},
            server_counters={},
            client={},
            clock_start=ClockPair(wall_s=0.0, monotonic_ns=0),
            request_rate=rate,
            plan={"shape": "poisson"},
            experiment={"kind": "capacity", "dropped": size.dropped},
        )


@dataclass(frozen=True)
class Queue(Virtual):
    """So many places, each of which takes an exponential time of 1 s on average: M/M/c."""

    places: int

    def times(self, due_s: Values, seed: int) -> dict[str, Values]:
        took_s = np.random.default_rng(derive_seed(seed, "times")).exponential(1.0, due_s.size)
        free, begin_s = [0.0] * self.places, np.empty(due_s.size)
        for at, (due, took) in enumerate(zip(due_s.tolist(), took_s.tolist(), strict=True)):
            begin_s[at] = max(heapq.heappop(free), due)
            heapq.heappush(free, begin_s[at] + took)
        wait_ms = 1000 * (begin_s - due_s)
        return {"ttft_ms": wait_ms, "tpot_ms": 1000 * took_s, "latency_ms": wait_ms + 1000 * took_s}

    @cached_property
    def capacity(self) -> float:
        """Where as many wait for longer than the limit as may.

        That share is C exp(-(c - rate) t), with Erlang's C for the share that waits at all.
        """
        ((name, limit_ms),) = self.slo["ttft_ms"].items()
        allowed, low, high = 1 - float(name[1:]) / 100, 0.0, float(self.places)
        while high > low * 1.00001:
            middle = (low + high) / 2
            late = self._waiting(middle) * math.exp(-(self.places - middle) * limit_ms / 1000)
            low, high = (low, middle) if late > allowed else (middle, high)
        return low

    def _waiting(self, rate: float) -> float:
        """Return Erlang's C, from his B by its recursion."""
        blocked = 1.0
        for places in range(1, self.places + 1):
            blocked = rate * blocked / (places + rate * blocked)
        return blocked / (1 - rate / self.places * (1 - blocked))


@dataclass(frozen=True)
class Batching(Virtual):
    """The simulator's engine, and the mean lengths of its requests, which are geometric."""

    config: EngineConfig
    prompt: float  # mean tokens
    reply: float

    def times(self, due_s: Values, seed: int) -> dict[str, Values]:
        rng = np.random.default_rng(derive_seed(seed, "lengths"))
        prompts = 1 + rng.geometric(1 / self.prompt, due_s.size)
        replies = 1 + rng.geometric(1 / self.reply, due_s.size)
        first_s, end_s = self._played(due_s.tolist(), prompts.tolist(), replies.tolist())
        ttft_ms, latency_ms = 1000 * (first_s - due_s), 1000 * (end_s - due_s)
        tpot_ms = (latency_ms - ttft_ms) / np.maximum(replies - 1, 1)
        return {"ttft_ms": ttft_ms, "tpot_ms": tpot_ms, "latency_ms": latency_ms}

    def _played(
        self, due_s: Sequence[float], prompts: Sequence[int], replies: Sequence[int]
    ) -> tuple[Values, Values]:
        """Return when each request got its first token and its last."""
        engine, now_s, at, count = Engine(self.config), 0.0, 0, len(due_s)
        first_s, end_s = np.full(count, np.nan), np.full(count, np.nan)
        while at < count or engine.num_running or engine.num_waiting:
            while at < count and due_s[at] <= now_s:
                engine.add(EngineRequest(str(at), range(prompts[at]), replies[at]))
                at += 1
            step = engine.step()
            if step is None:
                now_s = due_s[at]
                continue
            now_s += step.duration_s
            for name in step.tokens:
                if np.isnan(first_s[int(name)]):
                    first_s[int(name)] = now_s
            for name in step.finished:
                end_s[int(name)] = now_s
        return first_s, end_s

    def late(self, rate: float, requests: int, seed: int) -> float:
        """Return the share late of a long run over what is allowed, of the worst objective."""
        found = attainment(self.facts(rate, Size(requests, requests // 20), seed))
        assert found is not None
        return max(one.share.late / one.share.of / one.allowed for one in found.on_requests)

    @cached_property
    def capacity(self) -> float:
        """Where the share late of very long runs is what is allowed."""
        low, high = self.low, self.high
        for requests, until in ((20_000, 1.10), (100_000, 1.005)):
            low, high = low / 1.05, high * 1.05
            while high > low * until:
                middle = (low * high) ** 0.5
                over = self.late(middle, requests, seed=99) > 1
                low, high = (low, middle) if over else (middle, high)
        return float((low * high) ** 0.5)


def _engine(**changes: Any) -> EngineConfig:
    usual = EngineConfig(
        max_num_batched_tokens=512,
        max_num_seqs=16,
        num_gpu_blocks=4000,
        max_model_len=4096,
        enable_prefix_caching=False,
        step_times=TIMES,
    )
    return replace(usual, **changes)


QUEUE = Queue("queue", {"ttft_ms": {"p99": 700}}, 2, 200, 16)
SERVERS: tuple[Virtual, ...] = (
    QUEUE,
    # All places taken: the wait for one grows steeply.
    Batching("places", {"ttft_ms": {"p99": 500}}, 4, 400, _engine(), 60, 12),
    # Room in memory runs out first: requests wait for blocks, and some lose theirs.
    Batching(
        "memory",
        {"ttft_ms": {"p95": 300}, "success_rate": 0.999},
        *(4, 400),
        _engine(max_num_seqs=64, num_gpu_blocks=120),
        *(80, 12),
    ),
    # Nothing is full: each step takes longer the more requests share it.
    Batching("steps", {"tpot_ms": {"p95": 40}}, 4, 400, _engine(max_num_seqs=128), 60, 16),
)
