"""The engine: which request computes what in which step, and how long a step takes.

Continuous batching as vLLM's V1 scheduler does it, without a model. Each step
has a budget of tokens. Running requests come first, in the order in which they
were admitted: one token for each that decodes, the next chunk for a prompt that
the last step cut. The rest of the budget goes to waiting requests, first come,
first served, or by priority. When a running request needs a KV block and none is free, the one
admitted last (by priority: the least urgent) loses its blocks and computes all of it again later.

Pure: it has no clock, and the same calls give the same steps. After `step` the
properties describe the engine at the end of that step.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .kv_blocks import KVBlocks, hash_blocks, root_hash
from .step import Batch, EngineRequest, Step, StepTimes, Tracked


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The settings of an engine, under the names of vLLM's flags."""

    max_num_batched_tokens: int
    max_num_seqs: int
    num_gpu_blocks: int
    block_size: int = 16
    max_model_len: int
    enable_prefix_caching: bool = True
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    max_loras: int = 1  # adapters that run at the same time
    step_times: StepTimes

    def __post_init__(self) -> None:
        # With less, a step has no room for one token of each running request.
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs "
                f"({self.max_num_seqs}); raise the first or lower the second"
            )

    @property
    def longest_request_tokens(self) -> int:
        """The most tokens, prompt and output together, that one request can have."""
        return min(self.max_model_len, self.num_gpu_blocks * self.block_size)


@dataclass(frozen=True, slots=True)
class EngineState:
    """What /metrics shows of an engine; the defaults are for a server without one."""

    running: int | None = None  # None: the number of choices in progress
    waiting: int = 0
    kv_cache_usage: float = 0.0  # 0..1
    prefix_cache_queries: int = 0  # tokens
    prefix_cache_hits: int = 0  # tokens
    preemptions: int = 0
    cache_config: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """Requests in, steps out."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.prefix_cache_queries = 0  # tokens looked up, without those of resumed requests
        self.prefix_cache_hits = 0  # tokens found
        self.num_preemptions = 0
        self._kv = KVBlocks(config.num_gpu_blocks)
        self._sequences: dict[str, Tracked] = {}
        self._waiting: deque[Tracked] = deque()
        self._running: list[Tracked] = []  # in the order of admission
        self._arrived = 0

    def state(self) -> EngineState:
        """Return what /metrics shows, at the end of the last step."""
        config = self.config
        size_tokens = config.num_gpu_blocks * config.block_size
        return EngineState(
            self.num_running,
            self.num_waiting,
            self.kv_cache_usage,
            self.prefix_cache_queries,
            self.prefix_cache_hits,
            self.num_preemptions,
            {
                "block_size": str(config.block_size),
                "enable_prefix_caching": str(config.enable_prefix_caching),
                "kv_cache_max_concurrency": str(size_tokens / config.max_model_len),
                "kv_cache_size_tokens": str(size_tokens),
                "num_gpu_blocks": str(config.num_gpu_blocks),
            },
        )

    @property
    def num_running(self) -> int:
        """Requests that use KV blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests in the queue, preempted ones included."""
        return len(self._waiting)

    @property
    def kv_cache_usage(self) -> float:
        """Share of the KV blocks that are in use, 0 to 1."""
        return self._kv.usage

    def add(self, request: EngineRequest) -> None:
        """Queue a request of at most `longest_request_tokens`, with a unique id."""
        hashes: list[bytes] = []
        if self.config.enable_prefix_caching:
            root = root_hash(request.cache_salt, request.adapter)
            hashes = hash_blocks(root, request.prompt_token_ids, self.config.block_size)
        self._arrived += 1
        sequence = Tracked(request, hashes, number=self._arrived)
        self._sequences[request.request_id] = sequence
        if self._by_priority:
            bisect.insort(self._waiting, sequence, key=lambda each: each.urgency)
        else:
            self._waiting.append(sequence)

    @property
    def _by_priority(self) -> bool:
        return self.config.scheduling_policy == "priority"

    def abort(self, request_id: str) -> None:
        """Drop a request and free its blocks; nothing happens if it is already gone."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return
        queue = self._running if sequence in self._running else self._waiting
        queue.remove(sequence)
        self._kv.release(sequence.blocks)

    def step(self) -> Step | None:
        """Run one step; None when there is nothing to do."""
        if not self._sequences:
            return None
        batch = Batch(self.config.max_num_batched_tokens)
        self._schedule_running(batch)
        if not batch.preempted:  # as in vLLM, a step that had to preempt admits no request
            self._schedule_waiting(batch)
        return self._finish(batch)

    def _schedule_running(self, batch: Batch) -> None:
        index = 0
        while index < len(self._running) and batch.budget > 0:
            sequence = self._running[index]
            num_new = min(sequence.num_tokens - sequence.num_computed, batch.budget)
            if not (self._allocate(sequence, num_new) or self._make_room(sequence, num_new, batch)):
                break
            batch.compute(sequence, num_new)
            index = self._running.index(sequence) + 1  # others before it may have lost their place

    def _make_room(self, sequence: Tracked, num_new: int, batch: Batch) -> bool:
        """Get blocks for a running sequence by preempting others, or itself (False)."""
        while not self._allocate(sequence, num_new):
            running = self._running
            least = (
                max(running, key=lambda each: each.urgency) if self._by_priority else running[-1]
            )
            victim = running.pop(running.index(least))
            batch.drop(victim)
            self._preempt(victim)
            batch.preempted.append(victim.request.request_id)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Tracked) -> None:
        self._kv.release(sequence.blocks)
        sequence.blocks = []
        sequence.num_computed = sequence.num_labelled = 0
        if self._by_priority:
            bisect.insort(self._waiting, sequence, key=lambda each: each.urgency)
        else:
            self._waiting.appendleft(sequence)
        self.num_preemptions += 1

    def _schedule_waiting(self, batch: Batch) -> None:
        place = 0  # those before it wait for an adapter's place
        while (
            place < len(self._waiting)
            and batch.budget > 0
            and self.num_running < self.config.max_num_seqs
        ):
            sequence = self._waiting[place]
            if self._lacks_a_place(sequence.request.adapter):
                place += 1
                continue
            if not self._admit(sequence):
                break  # those behind it wait too, even if they need less
            del self._waiting[place]
            self._running.append(sequence)
            if not sequence.started:
                sequence.started = True
                batch.started.append(sequence)
                batch.cached_tokens[sequence.request.request_id] = sequence.num_computed
            num_new = min(sequence.num_tokens - sequence.num_computed, batch.budget)
            self._allocate(sequence, num_new)
            batch.compute(sequence, num_new)

    def _lacks_a_place(self, adapter: str | None) -> bool:
        """Whether as many other adapters run as may: its requests wait until one's have ended."""
        used = {each.request.adapter for each in self._running} - {None}
        return adapter is not None and adapter not in used and len(used) >= self.config.max_loras

    def _admit(self, sequence: Tracked) -> bool:
        """Give a waiting sequence its cached blocks, if there is room for all of its prompt."""
        size = self.config.block_size
        # The last token is always computed: its result is the next token.
        found = self._kv.find(sequence.hashes[: (sequence.num_tokens - 1) // size])
        needed = -(-sequence.num_tokens // size)
        # Room for the first chunk would be enough to begin; vLLM requires it for the full prompt:
        # otherwise half-computed prompts preempt each other.
        if self._kv.num_missing(needed, found) > self._kv.num_free:
            return False
        self._kv.share(found)
        sequence.blocks = found
        sequence.num_labelled = len(found)
        sequence.num_computed = len(found) * size
        if self.config.enable_prefix_caching and not sequence.started:
            self.prefix_cache_queries += sequence.num_tokens
            self.prefix_cache_hits += sequence.num_computed
        return True

    def _allocate(self, sequence: Tracked, num_new: int) -> bool:
        """Extend a sequence's blocks for its next tokens; False when too few are free."""
        size = self.config.block_size
        end = sequence.num_computed + num_new
        missing = -(-end // size) - len(sequence.blocks)
        if missing > 0:
            if missing > self._kv.num_free:
                return False
            sequence.blocks += self._kv.take(missing)
        if self.config.enable_prefix_caching and end // size > sequence.num_labelled:
            self._label(sequence, end // size)
        return True

    def _label(self, sequence: Tracked, num_full: int) -> None:
        """Put the first `num_full` blocks, full at the step's end, into the prefix cache."""
        size, hashes = self.config.block_size, sequence.hashes
        while len(hashes) < num_full:
            request = sequence.request
            parent = hashes[-1] if hashes else root_hash(request.cache_salt, request.adapter)
            start = len(hashes) * size
            hashes += hash_blocks(parent, sequence.token_ids(start, start + size), size)
        for index in range(sequence.num_labelled, num_full):
            self._kv.label(sequence.blocks[index], hashes[index])
        sequence.num_labelled = num_full

    def _finish(self, batch: Batch) -> Step:
        """Hand out the step's tokens and remove the requests that are complete."""
        for sequence in batch.sampled:
            sequence.num_tokens += 1
        finished = [sequence for sequence in batch.sampled if sequence.is_finished]
        for sequence in finished:
            self._kv.release(sequence.blocks)
            del self._sequences[sequence.request.request_id]
        if finished:
            self._running = [sequence for sequence in self._running if not sequence.is_finished]
        num_batched = self.config.max_num_batched_tokens - batch.budget
        times = self.config.step_times
        return Step(
            duration_s=times.duration_s(batch.prefill_tokens, batch.num_seqs, batch.kv_tokens),
            tokens=tuple(sequence.request.request_id for sequence in batch.sampled),
            finished=tuple(sequence.request.request_id for sequence in finished),
            started=tuple(sequence.request.request_id for sequence in batch.started),
            cached_tokens=batch.cached_tokens,
            preempted=tuple(batch.preempted),
            num_batched_tokens=num_batched,
            num_seqs=batch.num_seqs,
        )
