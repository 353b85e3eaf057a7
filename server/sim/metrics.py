"""/metrics: the counters of vLLM's engine, without work per token.

Nothing is counted token by token. Choices keep the times of their tokens; those of a
finished choice are added to the histograms when it ends, those of a running one when
/metrics is read. So a counter is exact at any moment, and after the last request it agrees
exactly with the truth file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from . import beyond
from .beyond import LABELS, Beyond, Seen
from .choice import Choice
from .engine.engine import EngineState
from .wire.settings import Settings

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

# vLLM's descriptions of the metrics that a client reads.
HELP = {
    "num_requests_running": "Number of requests in model execution batches.",
    "num_requests_waiting": "Number of requests waiting to be processed.",
    "kv_cache_usage_perc": "KV-cache usage. 1 means 100 percent usage.",
    "prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
    "mm_cache_queries": "Multi-modal cache queries, in terms of number of queried items.",
    "mm_cache_hits": "Multi-modal cache hits, in terms of number of cached items.",
    "num_preemptions": "Cumulative number of preemption from the engine.",
    "prompt_tokens": "Number of prefill tokens processed.",
    "generation_tokens": "Number of generation tokens processed.",
    "request_success": "Count of successfully processed requests.",
    "time_to_first_token_seconds": "Histogram of time to first token in seconds.",
    "inter_token_latency_seconds": "Histogram of inter-token latency in seconds.",
    "request_queue_time_seconds": "Histogram of time spent in WAITING phase for request.",
    "request_prefill_time_seconds": "Histogram of time spent in PREFILL phase for request.",
    "request_decode_time_seconds": "Histogram of time spent in DECODE phase for request.",
    **beyond.HELP,
}
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")
# Upper bounds in seconds.
FIRST_TOKEN_BOUNDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_BOUNDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
REQUEST_BOUNDS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
# The labels of vllm:cache_config_info, for a server without an engine.
CACHE_CONFIG = {
    "block_size": "16", "cache_dtype": "auto", "enable_prefix_caching": "False",
    "gpu_memory_utilization": "None", "kv_cache_max_concurrency": "None",
    "kv_cache_size_tokens": "None", "num_gpu_blocks": "None",
}  # fmt: skip


class Histogram:
    """Counts by bucket, for many values at a time."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Add values; a value equal to a bound belongs below it."""
        for value in values:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, values up to it), as Prometheus needs them."""
        names = [*map(str, self.bounds), "+Inf"]
        return [(name, sum(self.counts[: index + 1])) for index, name in enumerate(names)]


class Counts:
    """What one engine has counted."""

    def __init__(self) -> None:
        self.finished = dict.fromkeys(FINISHED_REASONS, 0)
        self.prompt_tokens = self.generated_tokens = self.cached_tokens = 0
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS)
        self.gaps = Histogram(TOKEN_BOUNDS)
        self.queue = Histogram(REQUEST_BOUNDS)
        self.prefill = Histogram(REQUEST_BOUNDS)
        self.decode = Histogram(REQUEST_BOUNDS)


class Metrics(Collector):
    """The figures of one server; `collect` is called for each reading of /metrics."""

    def __init__(
        self,
        settings: Settings,
        read_engine: Callable[[], EngineState],
        beyond: Beyond = Beyond(),  # noqa: B008 (a value)
    ) -> None:
        self._name = settings.name
        self._read_engine = read_engine
        self._beyond = beyond
        self._begun = 0
        self.rejected = 0  # requests that were turned away, as from a full queue
        self._pictures: set[str] = set()  # that the processor's cache has
        self._pictures_asked = self._pictures_found = 0
        # Each with its engine and the number of its tokens already added.
        self._live: dict[Choice, tuple[int, int]] = {}
        self._engines = [Counts() for _ in range(beyond.engines)]
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def begin(self, choice: Choice) -> None:
        """Note a choice that is being generated: the engines get them in turn."""
        self._live[choice] = (self._begun % self._beyond.busy, 0)
        self._begun += 1

    def see(self, pictures: Iterable[str]) -> None:
        """Note a request's pictures. The processor's cache has room for all that ever came."""
        for picture in pictures:
            self._pictures_asked += 1
            self._pictures_found += picture in self._pictures
            self._pictures.add(picture)

    def end(self, choice: Choice) -> None:
        """Add the figures of a choice that has ended, complete or not."""
        self._fold(choice)
        place, _ = self._live.pop(choice)
        own = self._engines[place]
        own.finished[choice.reply.finish_reason if choice.is_complete else "abort"] += 1
        if choice.is_complete:
            started, first, last = choice.started_ns, choice.times_ns[0], choice.times_ns[-1]
            own.queue.observe(((started - choice.received_ns) / 1e9,))
            own.prefill.observe(((first - started) / 1e9,))
            own.decode.observe(((last - first) / 1e9,))

    def _fold(self, choice: Choice) -> None:
        """Add the tokens that a choice got since the last time."""
        place, known = self._live[choice]
        times, own = choice.times_ns, self._engines[place]
        if len(times) == known:
            return
        if not known:
            own.prompt_tokens += len(choice.ask.prompt)
            own.cached_tokens += choice.cached_tokens
            own.first_token.observe(((times[0] - choice.received_ns) / 1e9,))
        since = max(known - 1, 0)
        gaps = ((b - a) / 1e9 for a, b in zip(times[since:], times[since + 1 :], strict=False))
        own.gaps.observe(gaps)
        own.generated_tokens += len(times) - known
        self._live[choice] = (place, len(times))

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, up to date."""
        for choice in self._live:
            self._fold(choice)
        engine, own = self._read_engine(), self._engines
        running, waiting = self._at_work(engine)
        yield self._gauge("num_requests_running", running)
        yield self._gauge("num_requests_waiting", waiting)
        yield self._gauge("kv_cache_usage_perc", [engine.kv_cache_usage] * len(own))
        alone = len(own) == 1
        queries = [engine.prefix_cache_queries] if alone else [e.prompt_tokens for e in own]
        hits = [engine.prefix_cache_hits] if alone else [e.cached_tokens for e in own]
        preempted = [engine.preemptions, *[0] * (len(own) - 1)]
        yield self._counter("prefix_cache_queries", [{"": n} for n in queries])
        yield self._counter("prefix_cache_hits", [{"": n} for n in hits])
        rest = [{"": 0}] * (len(own) - 1)  # the API server's processor is no engine's
        yield self._counter("mm_cache_queries", [{"": self._pictures_asked}, *rest])
        yield self._counter("mm_cache_hits", [{"": self._pictures_found}, *rest])
        yield self._counter("num_preemptions", [{"": n} for n in preempted])
        yield self._counter("prompt_tokens", [{"": e.prompt_tokens} for e in own])
        yield self._counter("generation_tokens", [{"": e.generated_tokens} for e in own])
        yield self._counter("request_success", [e.finished for e in own], "finished_reason")
        yield self._histogram("time_to_first_token_seconds", [e.first_token for e in own])
        yield self._histogram("inter_token_latency_seconds", [e.gaps for e in own])
        yield self._histogram("request_queue_time_seconds", [e.queue for e in own])
        yield self._histogram("request_prefill_time_seconds", [e.prefill for e in own])
        yield self._histogram("request_decode_time_seconds", [e.decode for e in own])
        yield from self._infos(engine)
        tokens = [(e.prompt_tokens, e.cached_tokens, e.generated_tokens) for e in own]
        finished = [sum(e.finished.values()) for e in own]
        runs = [c.ask.model for c in self._live if c.started_ns]
        waits = [(place, c.ask.model) for c, (place, _) in self._live.items() if not c.started_ns]
        seen = Seen(tokens, finished, waiting, self.rejected, runs, waits)
        for name, values, label in self._beyond.counters(seen):
            yield self._counter(name, values, label)
        yield from self._beyond.families(self._name, seen)

    def _at_work(self, engine: EngineState) -> tuple[list[float], list[float]]:
        """Return how many requests run, and how many wait, on each engine."""
        if len(self._engines) == 1:
            running = len(self._live) if engine.running is None else engine.running
            return [running], [engine.waiting]
        begun = [(place, bool(choice.started_ns)) for choice, (place, _) in self._live.items()]
        return (
            [begun.count((place, True)) for place in range(len(self._engines))],
            [begun.count((place, False)) for place in range(len(self._engines))],
        )

    def _infos(self, engine: EngineState) -> Iterator[Metric]:
        info = {"engine": "0", **CACHE_CONFIG, **engine.cache_config}
        words = "Information of the LLMEngine CacheConfig"
        cache = GaugeMetricFamily("vllm:cache_config_info", words, labels=list(info))
        for place in range(len(self._engines)):
            cache.add_metric([str(place), *list(info.values())[1:]], 1)
        yield cache

    def _gauge(self, name: str, values: Sequence[float]) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", HELP[name], labels=LABELS)
        for place, value in enumerate(values):
            family.add_metric([str(place), self._name], value)
        return family

    def _counter(
        self, name: str, values: Sequence[Mapping[str, int]], label: str | None = None
    ) -> Metric:
        """Return a counter; with a label, one series per value of the label."""
        own = [label] if label else []
        family = CounterMetricFamily(f"vllm:{name}", HELP[name], labels=[*LABELS, *own])
        for place, found in enumerate(values):
            for key, value in found.items():
                family.add_metric([str(place), self._name, *([key] if label else [])], value)
        return family

    def _histogram(self, name: str, histograms: Sequence[Histogram]) -> Metric:
        family = HistogramMetricFamily(f"vllm:{name}", HELP[name], labels=LABELS)
        for place, one in enumerate(histograms):
            family.add_metric([str(place), self._name], one.buckets(), one.total)
        return family
