"""Server, prompts and client of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..figures.machines.machine import machines_in_words
from ..records.run_info import RunInfo
from ..records.text import printable
from .summary import RunSummary

CACHE_FACTS = ("block_size", "num_gpu_blocks", "cache_dtype", "gpu_memory_utilization")
SERVER_FACTS = {
    "base_url": "address",
    "version": "version",
    "model": "model",
    "model_root": "weights",
    "max_model_len": "max_model_len",
    "system_fingerprint": "fingerprint",
}
Fact = tuple[str, object]  # what, and its value; None: not known


def environment(summaries: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return (what, value) of server, prompts and client; several values where runs differ."""
    facts: dict[str, dict[str, None]] = {}  # dicts, since they keep their order
    several = any(summary.machines for summary in summaries)
    for info in (s.info for s in summaries if s.info):
        machines = machines_in_words(info) or ("1" if several else None)
        told = (*_server(info), *_prompts(info), *_client(info), ("client machines", machines))
        for what, value in told:
            if value is not None:
                facts.setdefault(what, {})[printable(value)] = None
    groups = {"server": 0, "client": 2}  # prompts and seeds come between them
    ordered = sorted(facts, key=lambda what: groups.get(what.split()[0], 1))
    return [(what, ", ".join(facts[what])) for what in ordered]


def _server(info: RunInfo) -> Iterator[Fact]:
    for key, word in SERVER_FACTS.items():
        yield f"server {word}", info.server.get(key)
    cache = info.server.get("cache_config") or {}
    yield "server cache", " ".join(f"{k}={cache[k]}" for k in CACHE_FACTS if k in cache) or None
    if info.server.get("simulator"):
        yield "server kind", "simulator: these figures come without GPU and model"


def _prompts(info: RunInfo) -> Iterator[Fact]:
    checksum = info.prompts.get("sha256")
    yield "prompts", info.prompts.get("dataset")
    yield "prompts sha256", str(checksum)[:16] if checksum else None
    yield "tokens counted by", info.prompts.get("counted_by")
    yield "seeds", " ".join(f"{name}={seed}" for name, seed in info.seeds.items()) or None


def _client(info: RunInfo) -> Iterator[Fact]:
    client = info.client
    packages, commit = client.get("packages"), client.get("git_commit")
    versions = (packages or {}).items()
    changed = " + changes" if client.get("git_dirty") else ""
    yield "client commit", f"{commit}{changed}" if commit else None
    yield "client python", client.get("python")
    yield "client packages", " ".join(f"{k} {v}" for k, v in versions if v) or None
    yield "client platform", client.get("platform")
    yield "client CPUs", client.get("cpu_count")
