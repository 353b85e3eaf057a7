"""When two runs measure the same: for repeats, and for runs that --resume leaves out.

One list has the settings that make requests or server differ, another one the facts that a server
reports about itself. What isn't on them (a description, the other levels, the seed, which each
repeat derives anew, how a key or a certificate is found) makes no difference between two runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .run_info import RunInfo

SETTINGS = (
    *("label", "base_url", "model", "gpus"),
    *("dataset", "prompt_fit", "prefill_tokens", "system_prompt", "conversations", "prefix"),
    *("endpoint", "stream", "temperature", "max_new_tokens", "ignore_eos"),
    *("cache", "headers", "extra_body"),
    *("priority", "response_format", "tools", "tool_choice"),
    *("arrival", "cv", "burst_size", "ramp_s", "trace", "num_requests", "duration_s"),
    *("history", "max_gap_s", "depth", "length_divisor"),
    *("start", "max_in_flight", "warmup_requests", "classes", "quality"),
    *("timeout_first_token_s", "timeout_stall_s", "timeout_total_s"),
)
SERVER = ("version", "model_root", "max_model_len", "cache_config", "system_fingerprint")

# Objectives and telemetry don't change a request. But --resume must not take a run without them
# for a run with them.
JUDGED_AND_WATCHED = (
    "slo",
    "slo_tiers",
    "gpu_hour_price",
    "telemetry",
    "telemetry_hz",
    "telemetry_gpus",
)
# Mappings that have more keys than those of earlier versions.
MAY_HAVE_GROWN = ("conversations", *JUDGED_AND_WATCHED)


def settings_that_count(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make requests or server differ, in their own order."""
    return {
        key: as_given(value) if key == "conversations" else value
        for key, value in scenario.items()
        if key in SETTINGS
    }


def server_that_counts(server: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts by which servers differ, as the server reports them; None: not reported."""
    return {key: server.get(key) for key in SERVER}


@dataclass(frozen=True, slots=True)
class RunKey:
    """What was asked for, of which server: of two runs with one key the second isn't needed."""

    scenario: str
    plan_sha256: str
    repeat: int
    settings_sha256: str
    server_sha256: str

    @classmethod
    def of(cls, info: RunInfo) -> RunKey | None:
        """Return a run's key; None where its JSON has no plan."""
        asked, plan, server = info.scenario, info.plan, info.server
        name, sha256 = asked.get("name"), plan.get("sha256")
        return cls.made(name, sha256, info.repeat, asked, server) if name and sha256 else None

    @classmethod
    def made(
        cls,
        name: str,
        plan_sha256: str,
        repeat: int,
        settings: Mapping[str, Any],
        server: Mapping[str, Any],
    ) -> RunKey:
        """Return the key of a run with these settings (masked) on such a server."""
        asked = _sha256(
            {**settings, **{key: as_given(settings.get(key)) for key in MAY_HAVE_GROWN}},
            (*SETTINGS, *JUDGED_AND_WATCHED),
        )
        # The fingerprint comes with the first reply: before that it is unknown.
        said = _sha256(server, [key for key in SERVER if key != "system_fingerprint"])
        return cls(name, plan_sha256, repeat, asked, said)


def as_given(setting: Any) -> Any:
    """Return a setting without what was not set: earlier versions had fewer objectives."""
    if not isinstance(setting, Mapping):
        return setting
    return {key: as_given(part) for key, part in setting.items() if part is not None}


def _sha256(facts: Mapping[str, Any], keys: Sequence[str]) -> str:
    kept = {key: facts.get(key) for key in keys}
    return hashlib.sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()
