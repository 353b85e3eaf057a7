"""When two runs measure the same: for repeats, and for runs that need not be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .run_info import RunInfo

# Which levels a scenario has besides, and how it is called, says nothing of one run.
NOT_OF_A_RUN = ("concurrencies", "request_rates", "speed", "repeats", "description")


# It comes with the first reply, or says nothing of the server.
NOT_OF_A_SERVER = ("system_fingerprint", "on_client_machine")


@dataclass(frozen=True, slots=True)
class RunKey:
    """What was asked for, and of whom: two runs of one key would measure the same."""

    scenario: str
    plan_sha256: str
    repeat: int
    settings_sha256: str  # objectives, timeouts and telemetry too: a run can't be told without
    server_sha256: str  # of what the server says of itself: one with other flags is another

    @classmethod
    def of(cls, info: RunInfo) -> RunKey | None:
        """Return a run's key; None where its JSON doesn't say what it planned."""
        asked, plan, server = info.scenario, info.plan, info.server
        if not all(isinstance(part, dict) for part in (asked, plan, server)):
            return None
        name, sha256 = asked.get("name"), plan.get("sha256")
        if not all(isinstance(word, str) and word for word in (name, sha256)):
            return None
        if type(info.repeat) is not int:
            return None
        return cls.made(str(name), str(sha256), info.repeat, asked, server)

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
        return cls(
            name,
            plan_sha256,
            repeat,
            _sha256(settings, without=NOT_OF_A_RUN),
            _sha256(server, without=NOT_OF_A_SERVER),
        )


def _sha256(facts: Mapping[str, Any], without: Sequence[str]) -> str:
    kept = {key: value for key, value in facts.items() if key not in without}
    return hashlib.sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()


# What may differ between repeats: what a person wrote about it, the price, what was sampled beside
# it, which loads there are and how often, and the seed, for each repeat draws anew.
NOT_SETTINGS = (
    *("description", "slo", "gpu_hour_price"),
    *("telemetry", "telemetry_hz", "telemetry_gpus"),
    *("concurrencies", "request_rates", "speed", "repeats", "seed"),
)


SERVER_SETTINGS = ("version", "system_fingerprint", "cache_config")  # a server's own, likewise
