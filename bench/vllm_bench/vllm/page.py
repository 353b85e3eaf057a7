"""A vLLM server's /metrics: by engine, by the names of now whatever it calls them, as counters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ..records.beside.families import (
    CACHE_CONFIG,
    HISTOGRAMS,
    SPELLINGS,
    STARTED,
    VALUES,
    most_of,
    plain,
)
from ..records.beside.labels import LABELS, labels_of
from ..records.beside.samples import by_number, engine_name

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
SAMPLE = re.compile(r"\s*([^\s#]+)(?:\s+[^\s#]+)?\s*(?:#.*)?")  # a value, a time, an exemplar


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
        sample = sample_of(name, line, begin.end())
        key = (name, frozenset(sample.labels.items())) if sample else None
        if sample is None or key is None or key in found:
            odd.append(line[:120])
        else:
            found[key] = sample
    if odd and not found:
        raise PageError(f"not a page of Prometheus metrics: {odd[0]}")
    return list(found.values())


def sample_of(name: str, line: str, at: int) -> Sample | None:
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
    return Sample(name, labels_of(block.group()) if block else {}, value)


# ---- a vLLM server's ----


def _spelled(name: str) -> str | None:
    """Return a known name as vLLM spells it."""
    found = plain(name)
    return found if found in SPELLINGS else None


def vllm_samples(text: str, odd: list[str] | None = None) -> list[Sample]:
    """Return the samples that are known here, by the names of now. Raises PageError.

    `odd` gets the lines that can't be read, and values that can't be true.
    """
    odd = [] if odd is None else odd
    return known(_read(text, _spelled, odd), text, odd)


def known(spelled: Iterable[Sample], text: str, odd: list[str]) -> list[Sample]:
    """Return samples by the names of now, without those that can't be true. Raises PageError."""
    found = []
    for sample in spelled:
        if 0 <= sample.value <= most_of(SPELLINGS[sample.name][0]):
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
    return page_of(vllm_samples(text, odd), odd)


def page_of(found: Iterable[Sample], odd: list[str]) -> ServerPage:
    """Return what samples say that `known` returned; `odd` are what it left out."""
    by_engine: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    started_s = None
    for sample in found:
        if sample.name == STARTED:
            started_s = max(sample.value, started_s or 0.0)
        elif sample.name != CACHE_CONFIG:
            by_engine[engine_name(sample.labels)][sample.name].append(sample.value)
    engines = {name: _engine(by_engine[name]) for name in sorted(by_engine, key=by_number)}
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
