"""What a server says beyond its load: speculation, sources of tokens, refusals, engines, adapters.

A figure that the server has nothing to say on is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..figures.facts import Facts
from ..records.beside.families import family
from ..records.beside.said_file import Said
from ..records.beside.samples import ALL
from ..records.row import doc
from ..records.text import printable
from .engines import engines_of
from .growth import grown, over_time, series_of, total, why_not_grown
from .over_time import Samples

ByKind = Mapping[str, float]
LORA = "vllm:lora_requests_info"
MOST_MOVED = 20  # families of them
MOST_ADAPTERS = 200  # characters of their names
# Families of counters on KV blocks that went elsewhere or came from there.
MOVED = ("vllm:kv_offload", "vllm:simple_kv_offload", "vllm:nixl_", "vllm:kv_transfer")

figure = partial(doc, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSaid:
    """Counters over the whole run, gauges in the steady window (else the run)."""

    engines: int | None = figure("engines on the server's pages")
    engine_balance: float | None = figure(
        "requests running on the busiest engine over the mean of all engines, both means over "
        "time: 1 where they share evenly; empty for one engine"
    )
    engines_idle: int | None = figure(
        "engines that ran nothing, while there was work for all of them"
    )
    spec_acceptance_length: float | None = figure(
        "tokens per step of speculative decoding: 1 + accepted / drafts"
    )
    spec_acceptance_rate: float | None = figure("accepted tokens / drafted tokens, 0 to 1")
    spec_by_position: Mapping[str, float] | None = figure(
        "accepted tokens / drafts at each position of a draft, from 0"
    )
    prompt_computed: int | None = figure("prompt tokens that the server computed")
    prompt_from_cache: int | None = figure("prompt tokens that it had in its own prefix cache")
    prompt_from_transfer: int | None = figure("prompt tokens whose KV blocks came from elsewhere")
    cached_by_source: Mapping[str, float] | None = figure(
        "cached prompt tokens by where they lay: device, host, p2p, disk, ..."
    )
    external_hit_rate: float | None = figure(
        "share of the tokens looked up in an external prefix cache that were there, 0 to 1"
    )
    kv_moved: Mapping[str, float] | None = figure(
        "counters of KV offload and transfer that grew, by name and kind"
    )
    waiting_capacity_mean: float | None = figure(
        "requests that waited for room in a batch, mean over time"
    )
    waiting_capacity_peak: float | None = figure("the largest reading of it")
    waiting_deferred_mean: float | None = figure(
        "requests that waited for an adapter's place, a transfer or a grammar, mean over time"
    )
    waiting_deferred_peak: float | None = figure("the largest reading of it")
    rejected: Mapping[str, float] | None = figure(
        "requests turned away by a queue's limit, by reason"
    )
    finished: Mapping[str, float] | None = figure("requests that ended, by finish reason")
    lora_running_mean: float | None = figure("LoRA adapters in use, mean over time")
    lora_running_peak: float | None = figure("the most at one reading")
    lora_adapters: str | None = figure("the adapters that were in use")
    mm_cache_hit_rate: float | None = figure(
        "share of images and the like that the processor's cache had, 0 to 1"
    )
    counters_absent: str | None = figure("why there are no counters over the run")


def server_said(facts: Facts) -> ServerSaid:
    """Return the figures of a run; an older run's file has those of engines alone."""
    found: dict[str, Any] = _of_engines(facts)
    if facts.said is None or not len(facts.said.t_s):
        return ServerSaid(**found)
    for reason in ("capacity", "deferred"):
        waiting = over_time(facts, "vllm:num_requests_waiting_by_reason", {"reason": reason})
        found |= _mean_peak(f"waiting_{reason}", waiting)
    found |= _adapters(facts, facts.said)
    why = why_not_grown(facts)
    found |= {"counters_absent": str(why)} if why else _counters(facts.said)
    return ServerSaid(**found)


def _of_engines(facts: Facts) -> dict[str, Any]:
    if facts.server_rows is None:
        return {}
    count, found = len(set(facts.server_rows["engine"]) - {ALL}), engines_of(facts)
    several = found is not None and len(found.running) > 1
    return {
        "engines": count or None,
        "engine_balance": found.balance if found and several else None,
        "engines_idle": len(found.idle) if found and several else None,
    }


def _mean_peak(name: str, found: Samples | None) -> dict[str, object]:
    if found is None:
        return {}
    return {f"{name}_mean": found.mean, f"{name}_peak": found.peak}


def _counters(said: Said) -> dict[str, object]:
    sources = grown(said, "vllm:prompt_tokens_by_source", "source")
    parts = {
        "prompt_computed": "local_compute",
        "prompt_from_cache": "local_cache_hit",
        "prompt_from_transfer": "external_kv_transfer",
    }
    return {
        **_speculation(said),
        **{name: round(sources[kind]) for name, kind in parts.items() if kind in sources},
        "cached_by_source": _some(grown(said, "vllm:prompt_tokens_cached_by_source", "source")),
        "external_hit_rate": _hits(said, "vllm:external_prefix_cache"),
        "mm_cache_hit_rate": _hits(said, "vllm:mm_cache"),
        "kv_moved": _some(_moved(said)),
        "rejected": _some(grown(said, "vllm:admission_rejections", "reason")),
        "finished": _some(grown(said, "vllm:request_success", "finished_reason")),
    }


def _some(found: dict[str, float]) -> ByKind | None:
    """Return the kinds that grew; None where none did."""
    return {kind: value for kind, value in found.items() if value} or None


def _hits(said: Said, name: str) -> float | None:
    queries = total(said, f"{name}_queries")
    return (total(said, f"{name}_hits") or 0.0) / queries if queries else None


def _speculation(said: Said) -> dict[str, object]:
    begin = "vllm:spec_decode_num"
    drafts, accepted = total(said, f"{begin}_drafts"), total(said, f"{begin}_accepted_tokens")
    drafted = total(said, f"{begin}_draft_tokens")
    if accepted is None:
        return {}
    places = grown(said, f"{begin}_accepted_tokens_per_pos", "position") if drafts else {}
    by_place = sorted(places.items(), key=lambda one: (len(one[0]), one[0]))
    return {
        "spec_acceptance_length": 1 + accepted / drafts if drafts else None,
        "spec_acceptance_rate": accepted / drafted if drafted else None,
        "spec_by_position": {at: n / drafts for at, n in by_place if drafts} or None,
    }


def _moved(said: Said) -> dict[str, float]:
    """Return the growth of each family of counters on blocks that were moved, by its labels."""
    found: dict[str, float] = {}
    counters = {family(one.name) for one in said.series if one.name.endswith("_total")}
    for name in sorted(name for name in counters if name.startswith(MOVED))[:MOST_MOVED]:
        labels = {key for one in series_of(said, name) for key in one.labels} - {"model_name"}
        for kind, value in grown(said, name, min(labels, default="")).items():
            found[f"{name.removeprefix('vllm:')} {kind}".strip()] = value
    return found


def _adapters(facts: Facts, said: Said) -> dict[str, object]:
    """Return which adapters were in use: of all label sets the one with the largest value is now.

    Adapters in use are among the waiting ones too, which are therefore not counted.
    """
    sets, window = list(series_of(said, LORA)), facts.judged
    if not sets or window is None:
        return {}
    table = np.array([one.over(len(said.t_s)) for one in sets])
    stamps = np.where(np.isnan(table), -np.inf, table)
    running = [_names(one.labels.get("running_lora_adapters", "")) for one in sets]
    inside = (said.t_s >= window.start_s) & (said.t_s <= window.end_s)
    known = inside & (stamps.max(axis=0) > -np.inf)
    now = [running[place] for place in stamps.argmax(axis=0)[known]]
    counts = np.array([len(names) for names in now], dtype=np.float64)
    used = ", ".join(sorted(set[str]().union(*now)))
    return {
        **_mean_peak("lora_running", Samples.of(said.t_s[known], counts)),
        "lora_adapters": printable(used, MOST_ADAPTERS) or None,
    }


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}
