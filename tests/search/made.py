"""Runs of a search made up for tests: on a server of which it is known how many are late when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vllm_bench.search.probe import Late, Probe
from vllm_bench.search.steps import Space, Step, next_step
from vllm_bench.stats.share import Share


def made_late(late: int, of: int, allowed: float = 0.01, **changes: Any) -> Late:
    """So many of so many requests late for a TTFT p99, each by itself."""
    low, high = Share((of,), (of - late,)).late_bounds(0.95)
    fields: dict[str, Any] = {
        "objective": "TTFT p99 ≤ 500 ms",
        "figure": "TTFT p99",
        "limit_ms": 500.0,
        "value_ms": 400.0 if late <= allowed * of else 600.0,
        "allowed": allowed,
        "of": of,
        "late": late,
        "low": low,
        "high": high,
    }
    return Late(**{**fields, **changes})


def made_probe(load: float = 8.0, so_late: int = 0, of: int = 700, **changes: Any) -> Probe:
    fields: dict[str, Any] = {
        "number": 1,
        "purpose": "close",
        "load": load,
        "run_id": f"made-{load:g}",
        "requests": of + 300,
        "counted": of,
        "seconds": 10.0,
        "late": {"": (made_late(so_late, of),)},
    }
    return Probe(**{**fields, **changes})


COUNTED = {"find": 280, "close": 700, "confirm": 1500}


def searched(
    space: Space,
    shares: Callable[[float], dict[str, float]],
    *,
    after: Sequence[Probe] = (),
    most: int = 200,
    hurry: Callable[[int], bool] = lambda number: False,
) -> list[Probe]:
    """Search a server whose share late at a load, by tier, is always this; `after` were made."""
    probes = list(after)
    while (step := next_step(space, probes, hurry=hurry(len(probes)))) is not None:
        assert len(probes) < most
        probes.append(probe_at(step, shares(step.load), len(probes) + 1))
    return probes


def probe_at(step: Step, shares: dict[str, float], number: int) -> Probe:
    of = COUNTED[step.purpose]
    late = {tier: (made_late(round(share * of), of),) for tier, share in shares.items()}
    return made_probe(
        step.load, 0, of, number=number, purpose=step.purpose, tier=step.tier, late=late
    )


def knee(capacity: float) -> Callable[[float], dict[str, float]]:
    """No request late up to a load, one in twenty above it."""
    return lambda load: {"": 0.0 if load <= capacity else 0.05}
