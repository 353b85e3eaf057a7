"""What the server's GPUs did in a run: each, and all of them together."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..figures.absent import Figure, Why, group_of, observed
from ..figures.facts import Facts
from ..records.beside.samples import slowed_by
from ..records.row import Rows, doc
from ..records.text import printable
from .over_time import Samples, judged_rows

SENSORS = {  # the rows' column, and its name here: <name>_mean_<unit>
    "utilization_percent": ("utilization", "percent"),
    "power_w": ("power", "w"),
    "temperature_c": ("temperature", "c"),
    "memory_used_mb": ("memory", "mb"),
    "sm_clock_mhz": ("sm_clock", "mhz"),
}
SIMULATED = "the server is a simulator, and has no GPU"
EXPECTED_BY_SETTING = ("nvml", "dcgm")  # a command on another machine has its own settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Mean over time and largest reading of each sensor; None: there is no such sensor."""

    utilization_mean_percent: float | None = doc(
        "share of time in which any kernel ran, mean over time"
    )
    utilization_peak_percent: float | None = doc("the largest reading of it")
    power_mean_w: float | None = doc("power draw, mean over time")
    power_peak_w: float | None = doc("the largest reading of it")
    temperature_mean_c: float | None = doc("temperature of the core, mean over time")
    temperature_peak_c: float | None = doc("the largest reading of it")
    memory_mean_mb: float | None = doc("memory in use, mean over time; a MB is a million bytes")
    memory_peak_mb: float | None = doc("the largest reading of it")
    sm_clock_mean_mhz: float | None = doc("clock of the multiprocessors, mean over time")
    sm_clock_peak_mhz: float | None = doc("the largest reading of it")
    throttled_share: float | None = doc(
        "share of readings, 0 to 1, in which power, heat or the hardware throttled the clocks"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse(Readings):
    """One GPU in the steady window, or in the whole run where there is none."""

    index: int
    name: str | None
    samples: int
    covered_share: float  # share of the time with readings close enough together
    throttled_by: Mapping[str, float]  # reason: share of readings


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSide(Readings):
    """All GPUs: means of their means, the largest peaks. `absent`: the reason for a None."""

    expected: int = doc("GPUs that should be sampled")
    seen: int = doc("GPUs with readings in the steady window (else in the run)")
    power_total_w: float | None = doc("power draw of all GPUs together, mean over time")
    gpus: tuple[GpuUse, ...]
    absent: Mapping[str, str]

    @property
    def throttled_by(self) -> str | None:
        """What throttled the clocks, and of which GPUs: `hw_slowdown (GPU 0, 1)`."""
        reasons: dict[str, list[str]] = {}
        for gpu in self.gpus:
            for reason in gpu.throttled_by:
                reasons.setdefault(reason, []).append(str(gpu.index))
        return ", ".join(f"{r} (GPU {', '.join(gpus)})" for r, gpus in reasons.items()) or None


def gpu_side(facts: Facts) -> GpuSide:
    """Return the figures of a run's GPUs from its telemetry."""
    found = _gpus(facts)
    gpus = () if isinstance(found, Why) else found
    names = [*(f.name for f in dataclasses.fields(Readings)), "power_total_w"]
    return group_of(
        GpuSide,
        {name: found if isinstance(found, Why) else _together(gpus, name) for name in names},
        expected=len(expected_gpus(facts)),
        seen=len(gpus),
        gpus=gpus,
    )


def _gpus(facts: Facts) -> tuple[GpuUse, ...] | Why:
    rows = judged_rows(facts, facts.gpu_rows, "gpu", "GPUs")
    if isinstance(rows, Why):
        return rows
    if not len(rows):
        return Why(f"no GPU was read in the {facts.judged_in_words}")
    names = {gpu.get("index"): gpu.get("name") for gpu in observed(facts.info, "gpu").parts("gpus")}
    return tuple(
        _use(index, names.get(index), of_one, facts.judged_s)
        for index, of_one in rows.by("gpu_index")
    )


def _use(index: int, name: object, rows: Rows, judged_s: float) -> GpuUse:
    t_s = rows["t_s"]
    figures: dict[str, float | None] = {}
    for column, (sensor, unit) in SENSORS.items():
        samples = Samples.of(t_s, rows[column])
        figures[f"{sensor}_mean_{unit}"] = samples.mean
        figures[f"{sensor}_peak_{unit}"] = samples.peak
    cells = rows["throttle_reasons"][rows.has("throttle_reasons")]
    return GpuUse(
        index=index,
        name=None if name is None else printable(name),
        samples=len(rows),
        covered_share=Samples(t_s, t_s).covered_s / judged_s,
        throttled_share=sum(bool(slowed_by(c)) for c in cells) / len(cells) if len(cells) else None,
        throttled_by={reason: n / len(cells) for reason, n in reasons_slowed(cells).items()},
        **figures,
    )


def reasons_slowed(cells: Iterable[object]) -> Counter[str]:
    """Return in how many readings each reason slowed a GPU, the reasons in alphabetical order."""
    return Counter(sorted(reason for cell in cells for reason in slowed_by(cell)))


def _together(gpus: Sequence[GpuUse], name: str) -> Figure:
    """Return one figure of all GPUs that have it: a sum, the largest, or the mean."""
    own = "power_mean_w" if name == "power_total_w" else name
    values: list[float] = [v for gpu in gpus if (v := getattr(gpu, own)) is not None]
    if not values:
        return Why("no GPU reports it, or none twice")
    if "_peak_" in name:
        return max(values)
    return sum(values) if name == "power_total_w" else sum(values) / len(values)


def expected_gpus(facts: Facts) -> list[int]:
    """Return the indexes of all GPUs that were asked for, found, or couldn't be opened."""
    sampler = observed(facts.info, "gpu")
    by_setting = sampler.noted.get("source") in EXPECTED_BY_SETTING
    asked = facts.setting("telemetry_gpus") if by_setting else None
    rows = facts.gpu_rows
    named = [
        *(gpu.get("index") for gpu in sampler.parts("gpus")),
        *(problem.get("gpu_index") for problem in sampler.parts("problems")),
        *(asked if isinstance(asked, list) else []),
        *([] if rows is None else rows["gpu_index"].tolist()),
    ]
    return sorted({i for i in named if isinstance(i, int)})


def not_the_servers(facts: Facts, gpus: GpuSide) -> list[str]:
    """Return all reasons to think that the GPUs aren't the server's, or not all of them are."""
    sampler = observed(facts.info, "gpu")
    asked, expected = facts.setting("gpus"), gpus.expected
    busy = [gpu.utilization_peak_percent for gpu in gpus.gpus]
    against = {
        "the run's JSON doesn't say whose GPUs were sampled": facts.gpu_rows is not None
        and not sampler.sampled,
        SIMULATED: facts.simulated,
        f"the scenario's key gpus is {asked}, but {expected} GPUs were sampled: "
        "name the server's with telemetry_gpus": isinstance(asked, int) and asked != expected,
        "no GPU that was sampled did any work, so the server ran on others": bool(busy)
        and all(share == 0 for share in busy),
    }
    mig = sampler.problem("mig")
    return [*(words for words, holds in against.items() if holds), *([mig] if mig else [])]
