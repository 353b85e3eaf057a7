"""What a server says beyond its load: several engines, speculation, transfers, adapters, refusals.

None of it changes when tokens come: it is what /metrics of such a server would say of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

# A counter's name, each engine's values by the value of a label, and that label, if it has one.
Counter = tuple[str, list[dict[str, int]], str | None]
LABELS = ("engine", "model_name")
ACCEPTED = 0.8  # of the drafted tokens at the first place; at each later one of those before
# vLLM's descriptions.
HELP = {
    "prompt_tokens_by_source": "Number of prompt tokens by source.",
    "external_prefix_cache_queries": "External prefix cache queries from KV connector "
    "cross-instance cache sharing, in terms of number of queried tokens.",
    "external_prefix_cache_hits": "External prefix cache hits from KV connector cross-instance "
    "cache sharing, in terms of number of cached tokens.",
    "spec_decode_num_drafts": "Number of spec decoding drafts.",
    "spec_decode_num_draft_tokens": "Number of draft tokens.",
    "spec_decode_num_accepted_tokens": "Number of accepted tokens.",
    "spec_decode_num_accepted_tokens_per_pos": "Accepted tokens per draft position.",
}
REJECTIONS = "Number of admission attempts rejected by a queue limit, by reason."
BY_REASON = (
    "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling "
    "capacity; 'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked "
    "status). Sum of all reasons equals vllm:num_requests_waiting."
)
STARTED = "Start time of the process since unix epoch in seconds."


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the load when /metrics is read: of each engine, and of all."""

    tokens: Sequence[tuple[int, int, int]]  # prompt, cached and generated ones
    finished: Sequence[int]  # requests
    waiting: Sequence[float]
    rejected: int
    runs: Sequence[str]  # the models of requests that run
    waits: Sequence[tuple[int, str]]  # the engines and models of those that wait


@dataclass(frozen=True, slots=True)
class Beyond:
    """The settings of it, and what /metrics then says."""

    engines: int = 1  # data-parallel ranks
    idle: bool = False  # the last engine gets no request
    drafted: int = 0  # tokens of each draft; 0: no speculation
    transferred: int = 0  # tokens of each prompt whose KV blocks came from elsewhere
    adapters: tuple[str, ...] = ()  # LoRA
    started_s: float = field(default_factory=time.time)

    @property
    def busy(self) -> int:
        """How many engines get requests."""
        return max(1, self.engines - self.idle)

    def families(self, model: str, seen: Seen) -> Iterator[Metric]:
        """Yield the metrics that are no `counters`."""
        refused = CounterMetricFamily(
            "vllm:admission_rejections", REJECTIONS, labels=["model_name", "reason"]
        )
        refused.add_metric([model, "max_num_queued_reqs"], seen.rejected)
        refused.add_metric([model, "max_num_queued_tokens"], 0)
        yield refused
        by_reason = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason", BY_REASON, labels=[*LABELS, "reason"]
        )
        for engine, value in enumerate(seen.waiting):
            deferred = sum(
                place == engine and self._lacks(name, seen) for place, name in seen.waits
            )
            by_reason.add_metric([str(engine), model, "capacity"], value - deferred)
            by_reason.add_metric([str(engine), model, "deferred"], deferred)
        yield by_reason
        yield from self._adapters(seen.runs)
        if self.engines == 1:  # with several, vLLM's API server has no figures of its process
            start = GaugeMetricFamily("process_start_time_seconds", STARTED)
            start.add_metric([], self.started_s)
            yield start

    def _lacks(self, name: str, seen: Seen) -> bool:
        """Whether a request waits for its adapter's place: others have it."""
        others = set(seen.runs) & set(self.adapters) - {name}
        return name in self.adapters and name not in seen.runs and bool(others)

    def counters(self, seen: Seen) -> Iterator[Counter]:
        """Yield every counter."""
        moved = [
            min(n * self.transferred, prompt - cached)
            for n, (prompt, cached, _) in zip(seen.finished, seen.tokens, strict=True)
        ]
        by_source = [
            {
                "local_compute": prompt - cached - away,
                "local_cache_hit": cached,
                "external_kv_transfer": away,
            }
            for (prompt, cached, _), away in zip(seen.tokens, moved, strict=True)
        ]
        yield "prompt_tokens_by_source", by_source, "source"
        for part, values in (("queries", [p - c for p, c, _ in seen.tokens]), ("hits", moved)):
            own = [{"": value if self.transferred else 0} for value in values]
            yield f"external_prefix_cache_{part}", own, None
        if self.drafted:
            yield from self._speculation([generated for _, _, generated in seen.tokens])

    def _speculation(self, generated: Sequence[int]) -> Iterator[Counter]:
        """Yield counters: a draft makes 1 + ACCEPTED + ACCEPTED² + … tokens."""
        places = [ACCEPTED ** (place + 1) for place in range(self.drafted)]
        drafts = [round(made / (1 + sum(places))) for made in generated]
        by_place = [{str(at): round(n * p) for at, p in enumerate(places)} for n in drafts]
        begin = "spec_decode_num"
        yield f"{begin}_drafts", [{"": n} for n in drafts], None
        yield f"{begin}_draft_tokens", [{"": n * self.drafted} for n in drafts], None
        yield f"{begin}_accepted_tokens", [{"": sum(own.values())} for own in by_place], None
        yield f"{begin}_accepted_tokens_per_pos", by_place, "position"

    def _adapters(self, runs: Sequence[str]) -> Iterator[Metric]:
        """Yield which adapters are in use: as vLLM, with the time as the value."""
        if not self.adapters:
            return
        running = ",".join(name for name in self.adapters if name in runs)
        kinds = ["max_lora", "running_lora_adapters", "waiting_lora_adapters"]
        family = GaugeMetricFamily(
            "vllm:lora_requests_info", "Running stats on lora requests.", labels=kinds
        )
        family.add_metric([str(len(self.adapters)), running, running], time.time())
        yield family
