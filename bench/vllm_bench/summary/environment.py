"""What the runs were measured with."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.run_info import RunInfo
from ..records.text import printable
from .summary import RunSummary

CACHE_FACTS = ("block_size", "num_gpu_blocks", "cache_dtype", "gpu_memory_utilization")
SERVER_FACTS = (
    ("base_url", "address"),
    ("version", "version"),
    ("model", "model"),
    ("model_root", "weights"),
    ("max_model_len", "max_model_len"),
    ("system_fingerprint", "fingerprint"),
)


def environment(summaries: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return (what, value) of server, prompts and client; several values where runs differ."""
    infos = [s.info for s in summaries if s.info]
    facts: dict[str, dict[str, None]] = {}  # dicts, for they keep their order
    for info in infos:
        for what, value in [*_server(info), *_prompts(info), *_client(info)]:
            facts.setdefault(what, {})[printable(value)] = None
    groups = {"server": 0, "client": 2}  # prompts and seeds stand between them
    ordered = sorted(facts, key=lambda what: groups.get(what.split()[0], 1))
    return [(what, ", ".join(facts[what])) for what in ordered]


def _server(info: RunInfo) -> list[tuple[str, object]]:
    told = [(f"server {word}", info.server.get(key)) for key, word in SERVER_FACTS]
    cache = info.server.get("cache_config")
    if isinstance(cache, dict):
        parts = [f"{key}={cache[key]}" for key in CACHE_FACTS if key in cache]
        told.append(("server cache", " ".join(parts) or None))
    if info.server.get("simulator"):
        told.append(("server kind", "simulator: no GPU and no model behind these figures"))
    return _known(told)


def _prompts(info: RunInfo) -> list[tuple[str, object]]:
    prompts = info.prompts
    checksum = prompts.get("sha256")
    return _known(
        [
            ("prompts", prompts.get("dataset")),
            ("prompts sha256", str(checksum)[:16] if checksum else None),
            ("tokens counted by", prompts.get("counted_by")),
            ("seeds", " ".join(f"{name}={seed}" for name, seed in info.seeds.items()) or None),
        ]
    )


def _client(info: RunInfo) -> list[tuple[str, object]]:
    client = info.client
    packages = client.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    commit = client.get("git_commit")
    return _known(
        [
            ("client commit", f"{commit}{' + changes' * bool(client.get('git_dirty'))}")
            if commit
            else ("client commit", None),
            ("client python", client.get("python")),
            ("client packages", " ".join(f"{k} {v}" for k, v in versions if v) or None),
            ("client platform", client.get("platform")),
            ("client CPUs", client.get("cpu_count")),
        ]
    )


def _known(facts: list[tuple[str, object]]) -> list[tuple[str, object]]:
    return [(what, value) for what, value in facts if value is not None]
