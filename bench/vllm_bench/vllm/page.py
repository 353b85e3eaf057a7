"""A vLLM server's /metrics: by engine, with current and older names, and as counters."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..records.samples import ALL

# The server's names for a column, the newest first; the first one that is on the page is used.
NOW = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
}
TOTALS = {
    "preemptions_total": ("vllm:num_preemptions_total",),
    "prefix_cache_queries_total": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
    ),
    "prefix_cache_hits_total": (
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
    ),
    "prompt_tokens_total": ("vllm:prompt_tokens_total",),
    "generation_tokens_total": ("vllm:generation_tokens_total",),
}
HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds",),
    "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "queue": ("vllm:request_queue_time_seconds",),
    "prefill": ("vllm:request_prefill_time_seconds",),
    "decode": ("vllm:request_decode_time_seconds",),
}
VALUES = {**NOW, **TOTALS}
NAMES = {
    *(name for names in VALUES.values() for name in names),
    *(f"{n}_{part}" for names in HISTOGRAMS.values() for n in names for part in ("sum", "count")),
}
# The server's own counters; the check ledger_mismatch compares the first three. They are summed
# over all models, so that work for other clients shows.
COUNTERS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
)


class PageError(Exception):
    """A page that isn't Prometheus text; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, with its full name (`…_total`, `…_sum`)."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Spent:
    """A histogram's sum (seconds) and count."""

    seconds: float
    count: float


@dataclass(frozen=True, slots=True)
class Engine:
    """The page's values for one engine, by column and by histogram."""

    values: dict[str, float] = field(default_factory=dict)
    spent: dict[str, Spent] = field(default_factory=dict)


def samples(text: str, names: Collection[str]) -> Iterator[Sample]:
    """Return the samples of these names that are finite. Raises PageError."""
    from prometheus_client.parser import text_string_to_metric_families

    prefixes = tuple(names)
    lines = [line for line in text.splitlines() if line.startswith(prefixes)]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.name in names and math.isfinite(sample.value):
                    yield Sample(sample.name, sample.labels, sample.value)
    except (ValueError, IndexError) as e:
        problem = " ".join(str(e).split())[:200]
        raise PageError(f"not a page of Prometheus metrics: {problem}") from e


def read_page(text: str) -> dict[str, Engine]:
    """Return the page's engines by name. Raises PageError where it isn't Prometheus text."""
    by_engine: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples(text, NAMES):
        by_engine[_engine_of(sample)][sample.name].append(sample.value)
    return {name: _engine(by_engine[name]) for name in sorted(by_engine, key=_by_number)}


def together(engines: Mapping[str, Engine]) -> Engine:
    """Return all engines as one: sums, and the mean share of KV blocks."""
    parts = engines.values()
    values = {
        column: _merged(column, found)
        for column in VALUES
        if (found := [e.values[column] for e in parts if column in e.values])
    }
    spent = {
        name: Spent(sum(s.seconds for s in those), sum(s.count for s in those))
        for name in HISTOGRAMS
        if (those := [e.spent[name] for e in parts if name in e.spent])
    }
    return Engine(values, spent)


def summed(found: Iterable[Sample]) -> dict[str, float]:
    """Return the sums by name, over engines, models and finish reasons."""
    sums: dict[str, float] = {}
    for sample in found:
        sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def _engine_of(sample: Sample) -> str:
    name = sample.labels.get("engine", "0")  # older servers with one engine have no label
    return f"engine {name}" if name == ALL else name


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1 << 31, name)


def _engine(found: Mapping[str, list[float]]) -> Engine:
    values = {
        column: _merged(column, found[name])
        for column, names in VALUES.items()
        if (name := next((n for n in names if n in found), None))
    }
    spent = {
        column: Spent(sum(found[f"{name}_sum"]), sum(found[f"{name}_count"]))
        for column, names in HISTOGRAMS.items()
        if (name := next((n for n in names if f"{n}_sum" in found and f"{n}_count" in found), None))
    }
    return Engine(values, spent)


def _merged(column: str, values: list[float]) -> float:
    return sum(values) / (len(values) if column == "kv_cache_usage" else 1)
