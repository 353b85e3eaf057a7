"""The parts of a step: the requests in it, its length, and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """The length of a step in seconds: a linear model of reading weights, computing, reading KV."""

    base_s: float
    per_prefill_token_s: float
    per_sequence_s: float
    per_kv_token_s: float

    def duration_s(self, prefill_tokens: int, sequences: int, kv_tokens: int) -> float:
        """Return how long a step with these tokens and sequences lasts."""
        return (
            self.base_s
            + prefill_tokens * self.per_prefill_token_s
            + sequences * self.per_sequence_s
            + kv_tokens * self.per_kv_token_s
        )


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A request as the engine sees it; it will really generate `max_tokens` tokens."""

    request_id: str
    prompt_token_ids: Sequence[int]
    max_tokens: int
    cache_salt: str | None = None
    priority: int = 0  # under the policy `priority`: a lower number goes first
    adapter: str | None = None  # LoRA; its blocks are no other's


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: its length, and what happens in it. Requests are named by their ids."""

    duration_s: float
    tokens: tuple[str, ...]  # get one token each when the step ends
    finished: tuple[str, ...]  # got their last one
    started: tuple[str, ...]  # left the queue for the first time: their prefill begins here
    cached_tokens: Mapping[str, int]  # for those started: prompt tokens found in the prefix cache
    preempted: tuple[str, ...]  # lost their blocks and wait again, to be computed again
    num_batched_tokens: int  # tokens computed, prefill and decode
    num_seqs: int  # requests in it


@dataclass(slots=True, eq=False)
class Tracked:
    """A request in the engine, and its state."""

    request: EngineRequest
    hashes: list[bytes]  # of its full blocks, as far as they were needed
    num_prompt_tokens: int = field(init=False)
    num_tokens: int = field(init=False)  # prompt and output so far: all that has to be computed
    num_final_tokens: int = field(init=False)  # what num_tokens is when the last one is out
    num_computed: int = 0
    num_labelled: int = 0  # blocks that are in the prefix cache
    started: bool = False
    blocks: list[int] = field(default_factory=list)
    number: int = 0  # of its arrival

    def __post_init__(self) -> None:
        self.num_prompt_tokens = self.num_tokens = len(self.request.prompt_token_ids)
        self.num_final_tokens = self.num_tokens + self.request.max_tokens

    @property
    def urgency(self) -> tuple[int, int]:
        """Its place in a queue by priority: ties go by arrival."""
        return self.request.priority, self.number

    @property
    def is_finished(self) -> bool:
        """Whether the last token is out."""
        return self.num_tokens == self.num_final_tokens

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Return the token ids of some positions; output ids are unique to this request."""
        ids = list(self.request.prompt_token_ids[start:stop])
        # Far above any vocabulary, so that no prompt matches another request's output.
        digest = sha256(self.request.request_id.encode()).digest()
        first = (1 << 61) + (int.from_bytes(digest[:7], "big") << 4)
        return ids + [first + position for position in range(start + len(ids), stop)]


@dataclass(slots=True)
class Batch:
    """A step while it is put together."""

    budget: int
    prefill_tokens: int = 0
    kv_tokens: int = 0
    num_seqs: int = 0
    sampled: list[Tracked] = field(default_factory=list)
    started: list[Tracked] = field(default_factory=list)
    cached_tokens: dict[str, int] = field(default_factory=dict)
    preempted: list[str] = field(default_factory=list)
    shares: dict[Tracked, tuple[int, int]] = field(default_factory=dict)  # prefill and KV tokens

    def compute(self, sequence: Tracked, num_new: int) -> None:
        """Put the next `num_new` tokens of a sequence into the step."""
        outstanding = sequence.num_tokens - sequence.num_computed
        decodes = outstanding == 1 and sequence.num_tokens > sequence.num_prompt_tokens
        share = (0, sequence.num_tokens) if decodes else (num_new, 0)
        self.shares[sequence] = share
        self.prefill_tokens += share[0]
        self.kv_tokens += share[1]
        self.budget -= num_new
        self.num_seqs += 1
        sequence.num_computed += num_new
        if num_new == outstanding:
            self.sampled.append(sequence)

    def drop(self, sequence: Tracked) -> None:
        """Take a sequence out of the step again, if it is in it."""
        share = self.shares.pop(sequence, None)
        if share is None:
            return
        prefill, kv = share
        self.prefill_tokens -= prefill
        self.kv_tokens -= kv
        self.budget += prefill or 1
        self.num_seqs -= 1
        if sequence in self.sampled:
            self.sampled.remove(sequence)
