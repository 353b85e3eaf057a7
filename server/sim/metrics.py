"""/metrics: the counters of vLLM's engine, kept so that a token costs nothing.

Nothing is counted token by token. Choices keep the times of their tokens; those of
a finished choice are folded into the histograms when it ends, those of a running
one when somebody reads /metrics. So a counter is exact at any moment, and after the
last request it agrees with the truth file to the token.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .http_metrics import HttpMetrics
from .metric_names import CACHE_CONFIG, COUNTERS, GAUGES, HISTOGRAMS, Row, length_buckets
from .wire.settings import Settings

if TYPE_CHECKING:  # answers know their metrics; this is for the type checker alone
    from .answers import Answer, Choice
from .engine.engine import EngineState

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"


class Histogram:
    """Counts by bucket, for many values at a time."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start empty; a value equal to a bound lies under it."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Add values."""
        for value in values:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.total += value

    def buckets(self) -> list[tuple[str, int]]:
        """Return (upper bound, values up to it), as Prometheus wants them."""
        names = [*map(str, self.bounds), "+Inf"]
        sums = [sum(self.counts[: index + 1]) for index in range(len(names))]
        return list(zip(names, sums, strict=True))


class Metrics(Collector):
    """The figures of one server; `collect` is called for each reading of /metrics."""

    def __init__(self, settings: Settings) -> None:
        """Start all counters at 0."""
        self._labels = {"engine": "0", "model_name": settings.name}
        lengths = length_buckets(settings.max_model_len)
        self._histograms = {
            name: Histogram(lengths if bounds is None else bounds)
            for name, (_, bounds) in HISTOGRAMS.items()
        }
        self.begun = 0  # answers so far
        self._live: dict[Answer, None] = {}  # in order of arrival
        self._folded: dict[Choice, int] = {}  # tokens of a live choice already in the histograms
        self._finished = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self._prompt = self._cached = self._generated = 0  # tokens
        self._born = time.time()
        self.read_engine: Callable[[], EngineState] = EngineState  # until there is a pacing
        self.http = HttpMetrics()
        self._registry = CollectorRegistry()
        for collect in (GCCollector, PlatformCollector, ProcessCollector):
            collect(registry=self._registry)
        self._registry.register(self)
        self.http.register(self._registry)

    def text(self) -> bytes:
        """Return the answer to GET /metrics."""
        return generate_latest(self._registry)

    # what answers report

    def begin(self, answer: Answer) -> None:
        """Take note of an answer that is being generated."""
        self.begun += 1
        self._live[answer] = None
        for choice in answer.choices:
            self._folded[choice] = 0

    def end(self, answer: Answer) -> None:
        """Take an answer that is over into the histograms."""
        if answer not in self._live:  # refused before it began
            return
        del self._live[answer]
        self._count_http(answer)
        for choice in answer.choices:
            self._fold(choice)
            del self._folded[choice]
            whole = choice.made == choice.length
            self._finished[choice.reply.finish_reason if whole else "abort"] += 1
            if whole:
                self._finish(choice)

    def step(self, tokens: int) -> None:
        """Take note of an engine step of so many tokens, prefill and decode together."""
        self._histograms["vllm:iteration_tokens_total"].observe((tokens,))

    @property
    def load(self) -> int:
        """Answers under way."""
        return len(self._live)

    def unfinished(self) -> list[Answer]:
        """Return the answers under way."""
        return list(self._live)

    def _count_http(self, answer: Answer) -> None:
        request = answer.caller.request
        seconds = (time.perf_counter_ns() - request.received_ns) / 1e9
        self.http.answered("POST", request.path, 200, (len(request.body), 0), seconds)

    def _fold(self, choice: Choice) -> None:
        """Take the tokens that a choice got since the last time."""
        known = self._folded[choice]
        times = choice.times_ns
        if len(times) == known:
            return
        if not known:
            self._prompt += len(choice.prompt)
            self._cached += choice.cached_tokens
            ttft_s = (times[0] - choice.answer.caller.received_ns) / 1e9
            self._histograms["vllm:time_to_first_token_seconds"].observe((ttft_s,))
        since = max(known - 1, 0)
        gaps = ((b - a) / 1e9 for a, b in zip(times[since:], times[since + 1 :], strict=False))
        self._histograms["vllm:inter_token_latency_seconds"].observe(gaps)
        self._generated += len(times) - known
        self._folded[choice] = len(times)

    def _finish(self, choice: Choice) -> None:
        """Take the figures that a choice has once it is complete."""
        times = choice.times_ns
        received = choice.answer.caller.received_ns
        ask = choice.answer.ask
        tokens = len(times)
        asked = ask.max_tokens[choice.index // ask.n]
        decode_s = (times[-1] - times[0]) / 1e9
        figures: dict[str, float] = {
            "request_prompt_tokens": len(choice.prompt),
            "request_generation_tokens": tokens,
            "request_max_num_generation_tokens": tokens,
            "request_params_n": ask.n,
            "request_params_max_tokens": asked,
            "request_time_per_output_token_seconds": decode_s / (tokens - 1) if tokens > 1 else 0,
            "e2e_request_latency_seconds": (times[-1] - received) / 1e9,
            "request_queue_time_seconds": (choice.started_ns - received) / 1e9,
            "request_inference_time_seconds": (times[-1] - choice.started_ns) / 1e9,
            "request_prefill_time_seconds": (times[0] - choice.started_ns) / 1e9,
            "request_decode_time_seconds": decode_s,
            "request_num_preemptions": choice.preemptions,
            "request_prefill_kv_computed_tokens": len(choice.prompt) - choice.cached_tokens,
        }
        for name, value in figures.items():
            self._histograms[f"vllm:{name}"].observe((value,))

    # what a reader of /metrics gets

    def collect(self) -> Iterator[Metric]:
        """Yield every family, brought up to this moment."""
        for choice in self._folded:
            self._fold(choice)
        figures = self._figures()
        for row in GAUGES:
            yield self._family("gauge", row, figures)
        for row in COUNTERS:
            yield self._family("counter", row, figures)
        for name, (words, _) in HISTOGRAMS.items():
            yield self._histogram(name, words)
        info = {"engine": "0", **CACHE_CONFIG, **self.read_engine().cache_config}
        cache = Metric(
            "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", "gauge"
        )
        cache.add_sample("vllm:cache_config_info", info, 1.0)
        yield cache

    def _figures(self) -> dict[tuple[str, str], float]:
        """Return what isn't 0, by name and value of the family's own label."""
        engine = self.read_engine()
        live = len(self._folded) if engine.running is None else engine.running
        figures: dict[tuple[str, str], float] = {
            ("num_requests_running", ""): live,
            ("num_requests_waiting", ""): engine.waiting,
            ("num_requests_waiting_by_reason", "capacity"): engine.waiting,
            ("engine_sleep_state", "awake"): 1,
            ("kv_cache_usage_perc", ""): engine.kv_cache_usage,
            ("prefix_cache_queries", ""): engine.prefix_cache_queries,
            ("prefix_cache_hits", ""): engine.prefix_cache_hits,
            ("num_preemptions", ""): engine.preemptions,
            ("prompt_tokens", ""): self._prompt,
            ("prompt_tokens_by_source", "local_compute"): self._prompt - self._cached,
            ("prompt_tokens_by_source", "local_cache_hit"): self._cached,
            ("prompt_tokens_cached", ""): self._cached,
            ("prompt_tokens_cached_by_source", "device"): self._cached,
            ("generation_tokens", ""): self._generated,
        }
        return figures | {("request_success", why): n for why, n in self._finished.items()}

    def _family(self, kind: str, row: Row, figures: Mapping[tuple[str, str], float]) -> Metric:
        family = Metric(row.name, row.help, kind)
        labels = self._labels if row.per_engine else {"model_name": self._labels["model_name"]}
        for value in row.values or ("",):
            own = {**labels, row.label: value} if row.label else labels
            figure = float(figures.get((row.name.removeprefix("vllm:"), value), 0))
            if kind == "gauge":
                family.add_sample(row.name, own, figure)
            else:
                family.add_sample(f"{row.name}_total", own, figure)
                family.add_sample(f"{row.name}_created", own, self._born)
        return family

    def _histogram(self, name: str, words: str) -> Metric:
        histogram = self._histograms[name]
        family = Metric(name, words, "histogram")
        buckets = histogram.buckets()
        for bound, count in buckets:
            family.add_sample(f"{name}_bucket", {**self._labels, "le": bound}, count)
        family.add_sample(f"{name}_count", self._labels, buckets[-1][1])
        family.add_sample(f"{name}_sum", self._labels, histogram.total)
        family.add_sample(f"{name}_created", self._labels, self._born)
        return family
