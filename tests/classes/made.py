"""Runs of classes of users made up for tests: in the mix, and of one class alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_bench.records.request_record import RequestRecord
from vllm_bench.records.run_info import RunInfo
from vllm_bench.summary.summary import RunSummary

from tests.support.made_runs import failed_record, made_info, made_record, summed

RATE = 10.0  # requests a second of all classes
Asked = Mapping[str, Mapping[str, Any]]  # of each class: its own keys in the scenario
MIX: Asked = {"chat": {"share": 0.7}, "legal": {"share": 0.3}}


def rows_of(
    order: Sequence[str], ttft_ms: Mapping[str, float | Sequence[float]], **changes: Any
) -> list[RequestRecord]:
    """Requests at a constant rate, of these classes; their TTFT, the same or in turns."""
    found, seen = [], dict.fromkeys(ttft_ms, 0)
    for index, name in enumerate(order):
        given = ttft_ms[name]
        own = given if isinstance(given, float | int) else given[seen[name] % len(given)]
        seen[name] += 1
        find = failed_record if own < 0 else made_record
        how = {} if own < 0 else {"ttft_ms": float(own)}
        made = find(index, request_rate=RATE, scenario="mix", class_=name, **how, **changes)
        found.append(dataclasses.replace(made, request_id=f"{name}-{index}"))
    return found


def info_of(
    rows: Sequence[RequestRecord], asked: Asked = MIX, *, alone: str | None = None, **changes: Any
) -> RunInfo:
    """Return the JSON of a run of classes, or of one of them alone."""
    scenario = {
        "classes": {n: dict(own) for n, own in asked.items()},
        **changes.pop("scenario", {}),
    }
    info = made_info(rows, scenario=scenario, **changes)
    whole = {k: v for k, v in info.scenario.items() if k != "classes"}
    times = {k: v for k, v in info.plan.items() if k in ("shape", "max_in_flight")}
    of_each = {
        name: {
            "plan": {**times, "sha256": f"sha-{name}"},
            "concurrency": own.get("streams"),
            "request_rate": RATE * own["share"] if "share" in own else None,
            "num_requests": sum(row.class_ == name for row in rows),
            "scenario": {
                **whole,
                **{k: v for k, v in own.items() if k not in ("share", "streams")},
            },
            "prompts": {"dataset": "dolly", "sha256": f"prompts-{name}"},
        }
        for name, own in asked.items()
        if alone in (None, name)
    }
    plan = {**info.plan, "classes": of_each, **({"alone": alone} if alone else {})}
    label = {"label": f"alone-{alone}"} if alone else {}
    return dataclasses.replace(
        info,
        plan=plan,
        request_rate=None if info.concurrency else RATE,
        scenario={**info.scenario, **label},
    )


def made_run(
    folder: Path,
    rows: Sequence[RequestRecord],
    asked: Asked = MIX,
    *,
    name: str = "mix",
    **changes: Any,
) -> RunSummary:
    """Write a run of classes, read it, and sum it up."""
    return summed(folder, rows, info_of(rows, asked, **changes), name=name)


def alone_run(
    folder: Path, rows: Sequence[RequestRecord], name: str, asked: Asked = MIX, **changes: Any
) -> RunSummary:
    """Write the run of one class of these rows without the others."""
    own = [row for row in rows if row.class_ == name]
    info = info_of(own, asked, alone=name, **changes)
    run_id = f"alone-{name}" + changes.get("session", "")
    return summed(folder, own, info, name=run_id)


def mixed_order(count: int, every: int = 10, few: int = 3) -> list[str]:
    """Of each ten requests the first three are legal's, spread as they come."""
    return ["legal" if (3 * i) % every < few else "chat" for i in range(count)]
