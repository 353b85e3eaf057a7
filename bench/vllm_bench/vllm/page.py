"""A vLLM server's /metrics: by engine, by the names of now whatever it calls them, as counters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ..records.beside.samples import ALL

# What the server calls a column's value.
NOW = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_cache_usage": "vllm:kv_cache_usage_perc",
}
TOTALS = {
    "preemptions_total": "vllm:num_preemptions_total",
    "prefix_cache_queries_total": "vllm:prefix_cache_queries_total",
    "prefix_cache_hits_total": "vllm:prefix_cache_hits_total",
    "prompt_tokens_total": "vllm:prompt_tokens_total",
    "generation_tokens_total": "vllm:generation_tokens_total",
}
HISTOGRAMS = {
    "ttft": "vllm:time_to_first_token_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
}
VALUES = {**NOW, **TOTALS}
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
STARTED = "process_start_time_seconds"  # of the server's process, on its wall clock
CACHE_CONFIG = "vllm:cache_config_info"
# What older servers call them (v0.4 to v0.11).
OLDER = {
    "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
    "vllm:prefix_cache_queries_total": "vllm:gpu_prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total": "vllm:gpu_prefix_cache_hits_total",
    "vllm:inter_token_latency_seconds": "vllm:time_per_output_token_seconds",
}
# Others whose pages begin alike, by how their metrics' names begin.
STRANGERS = {
    "sglang": "SGLang",
    "tgi_": "TGI",
    "llamacpp": "llama.cpp",
    "trtllm": "TensorRT-LLM",
    "nv_inference": "Triton",
    "lmdeploy": "LMDeploy",
    "ollama": "Ollama",
}
MOST_LINES = 20_000  # of one page that are asked for; fifty engines have two thousand
MOST_LINE = 1 << 14  # characters
MOST_NAME = 64  # characters of an engine's name
MOST_VALUE = 1e15  # of a counter: a million tokens per second for thirty years


class PageError(Exception):
    """A page that isn't Prometheus text, or not vLLM's; the text is one line for people."""


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


@dataclass(frozen=True, slots=True)
class ServerPage:
    """What one page of a server says."""

    engines: dict[str, Engine]
    started_s: float | None  # when the server's process began, on its wall clock
    odd: tuple[str, ...]  # lines that can't be true, or read


# ---- any page ----

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*'
LABELS = re.compile(rf"{{(?:{LABEL}(?:,|(?=}})))*}}")
SAMPLE = re.compile(r"\s*([^\s#]+)(?:\s+[^\s#]+)?\s*(?:#.*)?")  # a value, a time, an exemplar
ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def samples(text: str, names: Collection[str]) -> list[Sample]:
    """Return the samples of these names; a line that is none is left out.

    Raises PageError where no line of them is one.
    """
    return _read(text, lambda name: name if name in names else None, [])


def _read(text: str, named: Callable[[str], str | None], odd: list[str]) -> list[Sample]:
    """Return the samples whose names have a name here, each once; `odd` gets the other lines."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], Sample] = {}
    count = 0
    for line in text.split("\n"):
        begin = NAME.match(line)
        name = named(begin.group()) if begin else None
        if begin is None or name is None:
            continue
        count += 1
        if count > MOST_LINES:
            raise PageError(f"it has over {MOST_LINES:,} lines of metrics")
        sample = _sample(name, line, begin.end())
        key = (name, frozenset(sample.labels.items())) if sample else None
        if sample is None or key is None or key in found:
            odd.append(line[:120])
        else:
            found[key] = sample
    if odd and not found:
        raise PageError(f"not a page of Prometheus metrics: {odd[0]}")
    return list(found.values())


def _sample(name: str, line: str, at: int) -> Sample | None:
    """Return the sample on a line, after its name; None: it is none."""
    if len(line) > MOST_LINE:
        return None
    block = LABELS.match(line, at)
    rest = SAMPLE.fullmatch(line, block.end() if block else at)
    try:
        value = float(rest.group(1)) if rest else None
    except ValueError:
        return None
    if value is None:
        return None
    return Sample(name, _labels(block.group()) if block else {}, value)


def _labels(block: str) -> dict[str, str]:
    return {
        key: re.sub(r'\\[n"\\]', lambda found: ESCAPES[found.group()], value)
        for key, value in re.findall(LABEL, block)
    }


# ---- a vLLM server's ----


def _spellings() -> dict[str, tuple[str, int]]:
    """Return each name that a value can have: its name here, and which of two goes first."""
    plain = (*NOW.values(), *COUNTERS, STARTED, CACHE_CONFIG)
    parts = [f"{name}_{part}" for name in HISTOGRAMS.values() for part in ("sum", "count")]
    found: dict[str, tuple[str, int]] = {}
    for name in (*plain, *parts):
        base, part = (name.rsplit("_", 1)) if name in parts else (name, "")
        older = OLDER.get(base)
        spelled = [name, *([older + f"_{part}" * bool(part)] if older else [])]
        # A collector on the way may leave the ending out.
        spelled += [one.removesuffix("_total") for one in spelled]
        for rank, one in enumerate(spelled):
            found.setdefault(one, (name, rank))
    return found


SPELLINGS = _spellings()


def _spelled(name: str) -> str | None:
    """Return a known name as vLLM spells it; Ray's exporter makes `ray_vllm_` of `vllm:`."""
    plain = re.sub(r"^(?:ray_)?vllm[:_]", "vllm:", name)
    return plain if plain in SPELLINGS else None


def vllm_samples(text: str, odd: list[str] | None = None) -> list[Sample]:
    """Return the samples that are known here, by the names of now. Raises PageError.

    `odd` gets the lines that can't be read, and values that can't be true.
    """
    odd = [] if odd is None else odd
    found = []
    for sample in _read(text, _spelled, odd):
        most = 1.0 if SPELLINGS[sample.name][0] == NOW["kv_cache_usage"] else MOST_VALUE
        if 0 <= sample.value <= most:
            found.append(sample)
        else:
            odd.append(f"{sample.name} {sample.value:g}")
    if all(sample.name == STARTED for sample in found) and (stranger := _stranger(text)):
        raise PageError(f"it has {stranger}'s metrics, not vLLM's")
    first: dict[str, int] = {}  # the best spelling of each value on this page
    for sample in found:
        name, rank = SPELLINGS[sample.name]
        first[name] = min(rank, first.get(name, rank))
    named = ((SPELLINGS[s.name], s) for s in found)
    return [Sample(n, s.labels, s.value) for (n, rank), s in named if rank == first[n]]


def _stranger(text: str) -> str | None:
    """Return whose metrics these are, where they are another server's."""
    for begin, name in STRANGERS.items():
        if re.search(rf"^{begin}", text, re.MULTILINE):
            return name
    return None


def read_page(text: str) -> ServerPage:
    """Return what a page says. Raises PageError where it isn't Prometheus text, or a stranger's."""
    odd: list[str] = []
    by_engine: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    started_s = None
    for sample in vllm_samples(text, odd):
        if sample.name == STARTED:
            started_s = max(sample.value, started_s or 0.0)
        elif sample.name != CACHE_CONFIG:
            by_engine[_engine_of(sample)][sample.name].append(sample.value)
    engines = {name: _engine(by_engine[name]) for name in sorted(by_engine, key=_by_number)}
    shown = {name: engine for name, engine in engines.items() if engine.values or engine.spent}
    return ServerPage(shown, started_s, tuple(odd))


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
    """Return the sums by name, over engines, models and finish reasons; of a start the last."""
    sums: dict[str, float] = {}
    for sample in found:
        so_far = sums.get(sample.name, 0.0)
        latest = sample.name == STARTED
        sums[sample.name] = max(so_far, sample.value) if latest else so_far + sample.value
    return sums


def _engine_of(sample: Sample) -> str:
    name = sample.labels.get("engine", "0")  # older servers with one engine have no label
    return f"engine {name}" if name == ALL else name[:MOST_NAME]


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (1 << 31, name)


def _engine(found: Mapping[str, list[float]]) -> Engine:
    values = {
        column: _merged(column, found[name]) for column, name in VALUES.items() if name in found
    }
    spent = {
        column: Spent(sum(found[f"{name}_sum"]), sum(found[f"{name}_count"]))
        for column, name in HISTOGRAMS.items()
        if f"{name}_sum" in found and f"{name}_count" in found
    }
    return Engine(values, spent)


def _merged(column: str, values: list[float]) -> float:
    return sum(values) / (len(values) if column == "kv_cache_usage" else 1)
