"""The simulator's engine driven by a virtual clock, and what has to hold for its blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from sim.engine.engine import Engine, EngineConfig
from sim.engine.step import EngineRequest, Step, StepTimes

# Round numbers, so that a test can show its arithmetic.
TIMES = StepTimes(
    base_s=10e-3, per_prefill_token_s=100e-6, per_sequence_s=1e-3, per_kv_token_s=1e-6
)


def config(**changes: object) -> EngineConfig:
    """A roomy engine, but for what a test changes."""
    settings = {
        "max_num_batched_tokens": 256,
        "max_num_seqs": 32,
        "num_gpu_blocks": 1000,
        "max_model_len": 4096,
        "step_times": TIMES,
    }
    return EngineConfig(**(settings | changes))


def request(
    name: str, prompt: int | Iterable[int], max_tokens: int = 4, salt: str | None = None
) -> EngineRequest:
    """A request; a prompt given by its length is like no other."""
    if isinstance(prompt, int):
        first = sum(ord(letter) << 16 + 8 * place for place, letter in enumerate(name[:4]))
        prompt = range(first, first + prompt)
    return EngineRequest(name, tuple(prompt), max_tokens, salt)


@dataclass
class Trace:
    """What happened, and when, in virtual seconds."""

    steps: list[tuple[float, Step]] = field(default_factory=list)
    arrived_s: dict[str, float] = field(default_factory=dict)
    token_times_s: dict[str, list[float]] = field(default_factory=dict)

    def ttft_s(self, name: str) -> float:
        return self.token_times_s[name][0] - self.arrived_s[name]

    def gaps_s(self, name: str) -> list[float]:
        times = self.token_times_s[name]
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def mean_ttft_s(self) -> float:
        return fmean(self.ttft_s(name) for name in self.arrived_s)

    @property
    def mean_tpot_s(self) -> float:
        return fmean(fmean(gaps) for name in self.arrived_s if (gaps := self.gaps_s(name)))

    @property
    def worst_gap_s(self) -> float:
        return max(max(self.gaps_s(name), default=0.0) for name in self.arrived_s)

    @property
    def tokens_per_s(self) -> float:
        tokens = sum(len(times) for times in self.token_times_s.values())
        last_start_s, last = self.steps[-1]
        return tokens / (last_start_s + last.duration_s)

    def ids(self, what: str) -> list[str]:
        return [name for _, step in self.steps for name in getattr(step, what)]


def play(
    engine: Engine,
    arrivals: Iterable[tuple[float, EngineRequest]],
    after_step: Callable[[Step], object] = lambda step: None,
) -> Trace:
    """Let requests arrive at their times, and step until nothing is left."""
    trace, now_s = Trace(), 0.0
    pending = sorted(arrivals, key=lambda arrival: arrival[0])
    while True:
        while pending and pending[0][0] <= now_s:
            at_s, arriving = pending.pop(0)
            engine.add(arriving)
            trace.arrived_s[arriving.request_id] = at_s
        step = engine.step()
        if step is None:
            if not pending:
                return trace
            now_s = pending[0][0]
            continue
        trace.steps.append((now_s, step))
        now_s += step.duration_s
        for name in step.tokens:
            trace.token_times_s.setdefault(name, []).append(now_s)
        after_step(step)


def closed_loop(engine: Engine, concurrency: int, requests: Iterator[EngineRequest]) -> Trace:
    """Keep `concurrency` requests in the engine until there are no more."""
    trace, now_s = Trace(), 0.0

    def send(count: int) -> None:
        for _, arriving in zip(range(count), requests, strict=False):
            engine.add(arriving)
            trace.arrived_s[arriving.request_id] = now_s

    send(concurrency)
    while step := engine.step():
        trace.steps.append((now_s, step))
        now_s += step.duration_s
        for name in step.tokens:
            trace.token_times_s.setdefault(name, []).append(now_s)
        send(len(step.finished))
    return trace


def check_blocks(engine: Engine) -> None:
    """Assert that each block is free or rightly counted, and shared by equal content alone."""
    kv, size = engine._kv, engine.config.block_size
    holders = Counter(block for sequence in engine._running for block in sequence.blocks)
    assert [holders[block] for block in range(kv.num_blocks)] == kv._ref_counts
    assert set(kv._free) == set(range(kv.num_blocks)) - set(holders)
    assert not any(sequence.blocks for sequence in engine._waiting)
    labels = {b: h for h, copies in kv._cached.items() for b in copies}
    assert labels == {b: h for b, h in enumerate(kv._hashes) if h is not None}
    contents: dict[int, object] = {}
    for sequence in engine._running:
        assert len(sequence.blocks) == -(-sequence.num_computed // size)
        assert len(set(sequence.blocks)) == len(sequence.blocks)
        for index, block in enumerate(sequence.blocks):
            content = _content(sequence.request, (index + 1) * size)
            if holders[block] > 1:
                assert contents.setdefault(block, content) == content
                assert (index + 1) * size <= sequence.num_computed


def _content(request: EngineRequest, length: int) -> tuple[object, ...]:
    """All that a block stands for: everything before its end, under the salt."""
    prompt = tuple(request.prompt_token_ids[:length])
    outputs = ((request.request_id, place) for place in range(len(prompt), length))
    return (request.cache_salt, *prompt, *outputs)
