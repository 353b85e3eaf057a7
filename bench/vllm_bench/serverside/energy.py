"""The energy that the server's GPUs took in the steady window, and what came of it.

From the GPUs' own energy counters where they have one, else from their power by trapezoids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..figures.absent import Figure, Why, both, doc, joined, observed, ratio, split, why_no_rows
from ..figures.facts import Facts
from ..figures.throughput import Throughput
from ..figures.window import Window
from .gpu import GpuSide, expected_gpus, not_the_servers
from .over_time import Hole, Samples

if TYPE_CHECKING:
    import pandas as pd


MIN_WINDOW_S = 30.0  # the sensors see a part of the time; over less of it that doesn't average out
SENSOR_NOTE = (
    "energy: the power sensors of A100 and H100 were found to look for a quarter of the time, so "
    "these figures are worth less than their digits"
)
Source = Literal["energy counter", "power", "energy counter and power"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of all GPUs in the steady window. `absent` says of what is None why it is."""

    window_j: float | None = doc("energy of all GPUs in the steady window, in joules")
    source: str | None = doc("what it was taken from: the GPUs' energy counter, or their power")
    per_output_token_j: float | None = doc(
        "that over the output tokens of the window; from windows of 30 s on"
    )
    per_request_j: float | None = doc("that over the successes that ended in the window; likewise")
    output_tokens_per_s_per_w: float | None = doc(
        "output tokens a second and watt, which is tokens a joule; likewise"
    )
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GpuEnergy:
    """What one GPU took."""

    joules: float
    source: Source


def energy(facts: Facts, gpus: GpuSide, steady: Throughput | None) -> Energy:
    """Return the energy of a run's steady window, or why there is none."""
    found = _energies(facts, gpus)
    if isinstance(found, Why):
        whole: Figure = found
        source: str | None = None
    else:
        whole = sum(one.joules for one in found)
        sources = sorted({one.source for one in found})
        source = sources[0] if len(sources) == 1 else "energy counter and power"
    figures = split({"window_j": whole, **_per_work(whole, steady)})
    return Energy(source=source, **figures.values, absent=figures.absent)


def _per_work(whole: Figure, steady: Throughput | None) -> dict[str, Figure]:
    """Return the energy by work done, where the window is long enough."""
    if steady is None or isinstance(whole, Why):
        enough = whole
    elif steady.span_s < MIN_WINDOW_S:
        enough = Why(f"the steady window has {steady.span_s:.1f} s, and it takes {MIN_WINDOW_S:g}")
    else:
        enough = whole
    tokens: Figure = Why("the tokens' stamps were not kept")
    requests: Figure = Why("there is no steady window")
    if steady is not None:
        requests = steady.requests
        tokens = tokens if steady.output_tokens is None else steady.output_tokens
    return {
        "per_output_token_j": both(enough, tokens, ratio),
        "per_request_j": both(enough, requests, ratio),
        "output_tokens_per_s_per_w": both(tokens, enough, ratio),
    }


def _energies(facts: Facts, gpus: GpuSide) -> list[GpuEnergy] | Why:
    """Return what each expected GPU took, or all that speaks against saying so."""
    rows, window = facts.gpu_rows, facts.window
    if rows is None:
        return why_no_rows(facts.info, "gpu", "GPUs")
    if window is None:
        return Why("there is no steady window: the load was never held")
    each = [_energy_of(i, rows[rows["gpu_index"] == i], window) for i in expected_gpus(facts)]
    wrong = [_with_cause(one, facts) for one in each if isinstance(one, Why | Dark)]
    wrong += not_the_servers(facts, gpus)
    if wrong or not each:
        return Why(joined(wrong) or "no GPU was read")
    return [one for one in each if isinstance(one, GpuEnergy)]


@dataclass(frozen=True, slots=True)
class Dark:
    """A time in which a GPU wasn't read."""

    gpu_index: int
    hole: Hole


def _energy_of(index: int, rows: pd.DataFrame, window: Window) -> GpuEnergy | Dark | Why:
    """Return what a GPU took in the window."""
    t_s = rows["t_s"].to_numpy()
    counter = Samples.of(t_s, rows["energy_j"].to_numpy())
    power = Samples.of(t_s, rows["power_w"].to_numpy())
    if not (counter.t_s.size or power.t_s.size) and t_s.size:
        return Why(f"GPU {index} has neither an energy counter nor a power sensor")
    samples = counter if counter.t_s.size else power
    hole = samples.hole(window.start_s, window.end_s)
    if hole is not None:
        return Dark(index, hole)
    if samples is power:
        return GpuEnergy(power.area(window.start_s, window.end_s), "power")
    return _counted(index, counter, window)


def _counted(index: int, counter: Samples, window: Window) -> GpuEnergy | Why:
    """Return by how much a counter moved, linear between its readings at the window's edges."""
    if (np.diff(counter.around(window.start_s, window.end_s).values) < 0).any():
        return Why(f"GPU {index}'s energy counter went back: its driver was loaded anew")
    joules = counter.at(window.end_s) - counter.at(window.start_s)
    if joules <= 0:
        return Why(f"GPU {index}'s energy counter stood still")
    return GpuEnergy(joules, "energy counter")


def _with_cause(wrong: Why | Dark, facts: Facts) -> str:
    """Return what is wrong, with the code under which the sampler noted it, if it did."""
    if isinstance(wrong, Why):
        return wrong
    gaps = observed(facts.info, "gpu").parts("gaps")
    codes = [str(gap.get("code")) for gap in gaps if _overlaps(gap, wrong)]
    cause = f" ({', '.join(dict.fromkeys(codes))})" if codes else ""
    return f"GPU {wrong.gpu_index} was not read {wrong.hole.words}{cause}"


def _overlaps(gap: Mapping[str, Any], dark: Dark) -> bool:
    """Whether a gap that the sampler noted has anything of the time in which a GPU wasn't read."""
    ends = [gap.get("from_s"), gap.get("to_s"), dark.hole.from_s, dark.hole.to_s]
    never, forever = float("-inf"), float("inf")
    begin, end, dark_from, dark_to = (
        float(at) if isinstance(at, int | float) else (forever if place % 2 else never)
        for place, at in enumerate(ends)
    )
    return gap.get("gpu_index") == dark.gpu_index and begin < dark_to and dark_from < end


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Output of the steady window by GPU and by price. `absent`: why what is None is."""

    gpus: int | None = doc("GPUs that the server has: the scenario's gpus, else those sampled")
    gpu_hour_price: float | None = doc("price of a GPU hour, as the scenario gives it")
    output_tokens_per_s_per_gpu: float | None = doc(
        "output tokens a second and GPU, in the steady window"
    )
    per_million_output_tokens: float | None = doc(
        "gpu_hour_price x gpus / (output tokens a second x 3600) x a million, at the steady "
        "window's pace"
    )
    absent: Mapping[str, str]


def cost(facts: Facts, side: GpuSide, steady: Throughput | None) -> Cost:
    """Return what a run's output tokens cost, or why nobody can say."""
    gpus, price = _gpus(facts, side), _price(facts)
    by_gpu = both(_rate(facts, steady), gpus, ratio)
    figures = split(
        {
            "gpus": gpus,
            "gpu_hour_price": price,
            "output_tokens_per_s_per_gpu": by_gpu,
            "per_million_output_tokens": both(
                price, by_gpu, lambda an_hour, rate: ratio(1e6 * an_hour, 3600 * rate)
            ),
        }
    )
    return Cost(**figures.values, absent=figures.absent)


def _price(facts: Facts) -> Figure:
    if facts.info is not None and facts.info.server.get("simulator"):
        return Why("the server is a simulator, and has no GPU")
    price = facts.setting("gpu_hour_price")
    known = isinstance(price, int | float) and price > 0
    return float(price) if known else Why("the scenario has no gpu_hour_price")


def _gpus(facts: Facts, side: GpuSide) -> Figure:
    given = facts.setting("gpus")
    if isinstance(given, int) and given > 0:
        return given
    against = not_the_servers(facts, side)
    rows = facts.gpu_rows
    if rows is None:
        against = [why_no_rows(facts.info, "gpu", "GPUs")]
    elif rows.empty:
        against = ["no GPU was read"]
    if rows is None or against:
        return Why(f"nobody says how many GPUs the server has ({joined(against)}): set gpus")
    return int(rows["gpu_index"].nunique())


def _rate(facts: Facts, steady: Throughput | None) -> Figure:
    if steady is None:
        return Why("there is no steady window: the load was never held")
    if steady.output_tokens_per_s is None:
        return Why(facts.reads_absent or "the tokens' stamps were not kept")
    return steady.output_tokens_per_s
