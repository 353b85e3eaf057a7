"""The content of a run's JSON: the plan, the server, and the client's machine and versions."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..crew.result import RunResult
from ..crew.tally import MOST_NAME
from ..plan.drawing.texts import prompts_seed
from ..plan.parts.facts import plan_facts
from ..plan.plan import Plan
from ..plan.times import schedule_seed
from ..prompts.prompt import together
from ..records.run_info import ClockPair, RunInfo
from ..records.text import masked_in
from ..vllm.models import Model
from ..vllm.server import Server

REPOSITORY = Path(__file__).resolve().parents[3]


def planned_info(
    plan: Plan, server: dict[str, Any], counters: dict[str, float] | None, notes: Sequence[str]
) -> RunInfo:
    """Return what is known of a run before its start; `counters` are the server's at that time."""
    scenario, sets = plan.scenario, [part.prompts for part in plan.drawn]
    return RunInfo(
        run_id=plan.run_id,
        status="running",
        scenario=scenario.masked(),
        concurrency=plan.level.concurrency,
        request_rate=plan.request_rate,
        num_requests=plan.measured,
        repeat=plan.repeat,
        plan=plan_facts(plan),
        seeds={
            "scenario": scenario.seed,
            "prompts": prompts_seed(scenario, plan.repeat),
            "schedule": schedule_seed(scenario, plan.repeat),
        },
        prompts=sets[0].facts if len(sets) == 1 else together(sets),
        server=server,
        server_counters={"before": counters, "after": None},
        client=client_facts(REPOSITORY),
        clock_start=ClockPair(wall_s=time.time(), monotonic_ns=time.perf_counter_ns()),
        notes=masked_in(list(notes), plan.secrets),
    )


def ended_info(
    planned: RunInfo,
    plan: Plan,
    result: RunResult,
    counters: dict[str, float] | None,
    observed: dict[str, Any],
) -> RunInfo:
    """Return what is known of a run after its end: where it went by time, its number too."""
    classes = planned.plan.get("classes", {})
    counted = {n: {**classes[n], "num_requests": due} for n, due in result.by_class.items()}
    uses = result.uses
    again = {"distinct": len(uses), "max_uses": max(uses.values())} if uses else {}
    return dataclasses.replace(
        planned,
        status=result.status,
        num_requests=result.num_requests,
        plan={**planned.plan, **result.start, **({"classes": counted} if counted else {})},
        prompts={**planned.prompts, **again},
        clock_start=result.clock_start,
        clock_end=result.clock_end,
        server={
            **planned.server,
            "system_fingerprint": result.fingerprint,
            "replied_as": result.replied_as,
        },
        server_counters={**planned.server_counters, "after": counters},
        client_health=result.client_health,
        unmeasured=result.unmeasured.facts(),
        sessions=result.sessions,
        observed=masked_in(observed, plan.secrets),
        notes=masked_in([*planned.notes, *result.notes], plan.secrets),
    )


MOST_ALIASES = 64
PACKAGES = ("uvloop", "httptools", "orjson", "httpx", "pydantic", "numpy")


def client_facts(repository: Path) -> dict[str, Any]:
    """Return versions, the git commit of this project, and the machine's size."""
    changes = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git(repository, "rev-parse", "HEAD"),
        "git_dirty": None if changes is None else changes != "",
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
    }


def server_facts(
    server: Server,
    served: Sequence[Model],
    model: str,
    secrets: Sequence[str] = (),
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the server reports about itself, secrets masked; None where it doesn't.

    `others` are models that classes ask for: of them the other names are told.
    """
    found = next((m for m in served if m.id == model), None)
    asked = [m for m in served if m.id == model or m.id in others]
    version = server.version()
    said = {
        "version": version,
        "model_root": found.root if found else None,
        "aliases": [*dict.fromkeys(n for m in asked for n in _aliases(m, served))][:MOST_ALIASES],
        "cache_config": server.cache_config(),
        "metrics_unread": server.unread,
        "settings": server.settings(),
    }
    return {
        "base_url": server.base_url,
        "simulator": "simulator" in (version or ""),  # our simulator says so in its version
        "on_client_machine": server.on_this_machine(),
        "model": model,
        "max_model_len": found.max_model_len if found else None,
        "system_fingerprint": None,  # comes with the first reply
        **masked_in(said, secrets),
    }


def _aliases(asked: Model, served: Sequence[Model]) -> list[str]:
    """Return the other names of the asked model: its root, and what else has the same root.

    vLLM's replies name the first of its served names, whichever of them was asked for.
    """
    if not asked.root:
        return []
    names = [asked.root, *(model.id for model in served if model.root == asked.root)]
    return [name[:MOST_NAME] for name in dict.fromkeys(names) if name != asked.id][:MOST_ALIASES]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(repository: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(repository), *words],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no checkout: files from an archive
    return done.stdout.strip()
