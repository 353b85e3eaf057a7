"""What output tokens cost, and how many of them each GPU gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..figures.absent import Figure, Why, both, doc, joined, ratio, split
from ..figures.facts import Facts
from ..figures.observed import why_no_rows
from ..figures.throughput import Throughput
from .gpu import GpuSide
from .gpu_owner import not_the_servers


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
