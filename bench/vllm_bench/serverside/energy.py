"""The energy that the server's GPUs used in the steady window, and what the output cost.

Energy comes from a GPU's own counter where it has one, else from its power by trapezoids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..figures.absent import Figure, Why, both, group_of, joined, observed, ratio, why_no_rows
from ..figures.facts import Facts
from ..figures.throughput import Throughput
from ..figures.window import Window
from ..records.row import Rows, doc
from .gpu import SIMULATED, GpuSide, expected_gpus, not_the_servers
from .over_time import Hole, Samples

# The sensors measure a part of the time; over shorter windows the error doesn't average out.
MIN_ENERGY_WINDOW_S = 30.0
SENSOR_NOTE = (
    "energy: the power sensors of A100 and H100 were found to measure a quarter of the time, so "
    "these figures are less exact than their digits"
)
NEVER_HELD = Why("there is no steady window: the load was never held")
NO_STAMPS = "the tokens' stamps were not kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of all GPUs in the steady window. `absent` has the reason for each None."""

    window_j: float | None = doc("energy of all GPUs in the steady window, in joules")
    source: str | None = doc("where it comes from: the GPUs' energy counter, or their power")
    per_output_token_j: float | None = doc(
        "energy per output token of the window; for windows of 30 s or more"
    )
    per_request_j: float | None = doc(
        "energy per success that ended in the window; for windows of 30 s or more"
    )
    output_tokens_per_s_per_w: float | None = doc(
        "output tokens per second per watt, that is per joule; for windows of 30 s or more"
    )
    absent: Mapping[str, str]


GpuEnergy = tuple[float, str]  # joules, and what they were read from


def energy(facts: Facts, gpus: GpuSide, steady: Throughput | None) -> Energy:
    """Return the energy of a run's steady window, or why there is none."""
    found = _energies(facts, gpus)
    if isinstance(found, Why):
        return group_of(Energy, {"window_j": found, **_per_work(found, steady)}, source=None)
    window_j = sum(joules for joules, _ in found)
    source = " and ".join(sorted({source for _, source in found}))
    return group_of(Energy, {"window_j": window_j, **_per_work(window_j, steady)}, source=source)


def _per_work(window_j: Figure, steady: Throughput | None) -> dict[str, Figure]:
    tokens: Figure = Why(NO_STAMPS)
    requests: Figure = Why("there is no steady window")
    if steady is not None:
        requests = steady.requests
        tokens = tokens if steady.output_tokens is None else steady.output_tokens
        if steady.span_s < MIN_ENERGY_WINDOW_S and not isinstance(window_j, Why):
            window_j = Why(
                f"the steady window has {steady.span_s:.1f} s of {MIN_ENERGY_WINDOW_S:g} s needed"
            )
    return {
        "per_output_token_j": both(window_j, tokens, ratio),
        "per_request_j": both(window_j, requests, ratio),
        "output_tokens_per_s_per_w": both(tokens, window_j, ratio),
    }


def _energies(facts: Facts, gpus: GpuSide) -> list[GpuEnergy] | Why:
    """Return the energy of each expected GPU, or all reasons why it is unknown."""
    rows, window = facts.gpu_rows, facts.window
    if rows is None:
        return why_no_rows(facts.info, "gpu", "GPUs")
    if window is None:
        return NEVER_HELD
    gaps = observed(facts.info, "gpu").parts("gaps")
    each = [
        _energy_of(index, rows.of(rows["gpu_index"] == index), window, gaps)
        for index in expected_gpus(facts)
    ]
    wrong = [*(one for one in each if isinstance(one, Why)), *not_the_servers(facts, gpus)]
    if wrong or not each:
        return Why(joined(wrong) or "no GPU was read")
    return [one for one in each if not isinstance(one, Why)]


def _energy_of(
    index: int, rows: Rows, window: Window, gaps: list[dict[str, Any]]
) -> GpuEnergy | Why:
    t_s = rows["t_s"]
    counter = Samples.of(t_s, rows["energy_j"])
    power = Samples.of(t_s, rows["power_w"])
    if not (counter.t_s.size or power.t_s.size) and t_s.size:
        return Why(f"GPU {index} has neither an energy counter nor a power sensor")
    samples = counter if counter.t_s.size else power
    hole = samples.hole(window.start_s, window.end_s)
    if hole is not None:
        return Why(f"GPU {index} was not read {hole.words}{_cause(index, hole, gaps)}")
    if samples is power:
        return power.area(window.start_s, window.end_s), "power"
    return _counted(index, counter, window)


def _counted(index: int, counter: Samples, window: Window) -> GpuEnergy | Why:
    """Return by how much a counter grew, linear between its readings at the window's edges."""
    if (np.diff(counter.around(window.start_s, window.end_s).values) < 0).any():
        return Why(f"GPU {index}'s energy counter went back: its driver was loaded anew")
    joules = counter.at(window.end_s) - counter.at(window.start_s)
    if joules <= 0:
        return Why(f"GPU {index}'s energy counter stood still")
    return joules, "energy counter"


def _cause(index: int, hole: Hole, gaps: list[dict[str, Any]]) -> str:
    """Return the codes under which the sampler noted a hole in a GPU's readings, if it did."""
    codes = [
        str(gap.get("code"))
        for gap in gaps
        if gap.get("gpu_index") == index and hole.overlaps(gap.get("from_s"), gap.get("to_s"))
    ]
    return f" ({', '.join(dict.fromkeys(codes))})" if codes else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Output of the steady window per GPU, and its price. `absent` has the reason for each None."""

    gpus: int | None = doc("GPUs that the server has: the scenario's gpus, else those sampled")
    gpu_hour_price: float | None = doc("price of a GPU hour, as the scenario gives it")
    output_tokens_per_s_per_gpu: float | None = doc(
        "output tokens per second per GPU, in the steady window"
    )
    per_million_output_tokens: float | None = doc(
        "gpu_hour_price x gpus / (output tokens per second x 3600) x a million, at the steady "
        "window's pace"
    )
    absent: Mapping[str, str]


def cost(facts: Facts, side: GpuSide, steady: Throughput | None) -> Cost:
    """Return what a run's output tokens cost, or why that is unknown."""
    gpus, price = _gpu_count(facts, side), _gpu_hour_price(facts)
    by_gpu = both(_output_tokens_per_s(facts, steady), gpus, ratio)
    figures = {
        "gpus": gpus,
        "gpu_hour_price": price,
        "output_tokens_per_s_per_gpu": by_gpu,
        "per_million_output_tokens": both(
            price, by_gpu, lambda an_hour, per_s: ratio(1e6 * an_hour, 3600 * per_s)
        ),
    }
    return group_of(Cost, figures)


def _gpu_hour_price(facts: Facts) -> Figure:
    if facts.simulated:
        return Why(SIMULATED)
    price = facts.setting("gpu_hour_price")
    known = isinstance(price, int | float) and price > 0
    return float(price) if known else Why("the scenario has no gpu_hour_price")


def _gpu_count(facts: Facts, side: GpuSide) -> Figure:
    given, rows = facts.setting("gpus"), facts.gpu_rows
    if isinstance(given, int) and given > 0:
        return given
    if rows is None:
        against: list[str] = [why_no_rows(facts.info, "gpu", "GPUs")]
    else:
        against = ["no GPU was read"] if not len(rows) else not_the_servers(facts, side)
        if not against:
            return len(set(rows["gpu_index"].tolist()))
    return Why(f"it is unknown how many GPUs the server has ({joined(against)}): set gpus")


def _output_tokens_per_s(facts: Facts, steady: Throughput | None) -> Figure:
    if steady is None:
        return NEVER_HELD
    if steady.output_tokens_per_s is None:
        return Why(facts.reads_absent or NO_STAMPS)
    return steady.output_tokens_per_s
