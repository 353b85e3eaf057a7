"""What the server's GPUs did in a run: each, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..figures.absent import Figure, Why, doc, observed, split, why_no_rows
from ..figures.facts import Facts, Stretch, stretch_of
from ..records.samples import slowed_by
from ..records.text import printable
from .over_time import Samples

if TYPE_CHECKING:
    import pandas as pd


SENSORS = {  # the rows' column, and what it is called here: <name>_mean_<unit>
    "utilization_percent": ("utilization", "percent"),
    "power_w": ("power", "w"),
    "temperature_c": ("temperature", "c"),
    "memory_used_mb": ("memory", "mb"),
    "sm_clock_mhz": ("sm_clock", "mhz"),
}
EXPECTED_BY_SETTING = ("nvml", "dcgm")  # a command on another machine has settings of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Mean over time and largest reading of each sensor; None: there is no such sensor."""

    utilization_mean_percent: float | None = doc(
        "share of time in which some kernel ran, mean over time"
    )
    utilization_peak_percent: float | None = doc("the largest reading of that")
    power_mean_w: float | None = doc("power draw, mean over time")
    power_peak_w: float | None = doc("the largest reading of that")
    temperature_mean_c: float | None = doc("temperature of the core, mean over time")
    temperature_peak_c: float | None = doc("the largest reading of that")
    memory_mean_mb: float | None = doc("memory in use, mean over time; a MB is a million bytes")
    memory_peak_mb: float | None = doc("the largest reading of that")
    sm_clock_mean_mhz: float | None = doc("clock of the multiprocessors, mean over time")
    sm_clock_peak_mhz: float | None = doc("the largest reading of that")
    throttled_share: float | None = doc(
        "share of readings, 0 to 1, in which power, heat or the hardware held the clocks down"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse(Readings):
    """One GPU in the steady window, or in the whole run where there is none."""

    index: int
    name: str | None
    samples: int
    covered_share: float  # of the time, by readings that aren't too far apart
    throttled_by: Mapping[str, float]  # reason: share of readings


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSide(Readings):
    """All GPUs: means of their means, the largest of their peaks. `absent`: why there is none."""

    expected: int = doc("GPUs that were to be watched")
    seen: int = doc("GPUs with readings in the steady window (else in the run)")
    power_total_w: float | None = doc("power draw of all GPUs together, mean over time")
    gpus: tuple[GpuUse, ...]
    absent: Mapping[str, str]

    @property
    def throttled_by(self) -> str | None:
        """What held clocks down, and of which GPUs: `hw_slowdown (GPU 0, 1)`."""
        reasons: dict[str, list[str]] = {}
        for gpu in self.gpus:
            for reason in gpu.throttled_by:
                reasons.setdefault(reason, []).append(str(gpu.index))
        return ", ".join(f"{r} (GPU {', '.join(gpus)})" for r, gpus in reasons.items()) or None


def gpu_side(facts: Facts) -> GpuSide:
    """Return what the telemetry says of a run's GPUs."""
    expected, found = expected_gpus(facts), _gpus(facts)
    gpus = () if isinstance(found, Why) else found
    fields = [name for pair in map(_names, SENSORS.values()) for name in pair]
    names = (*fields, "throttled_share", "power_total_w")
    if isinstance(found, Why):
        figures = split(dict.fromkeys(names, found))
    else:
        figures = split({name: _together(gpus, name) for name in names})
    return GpuSide(
        expected=len(expected), seen=len(gpus), gpus=gpus, **figures.values, absent=figures.absent
    )


def expected_gpus(facts: Facts) -> list[int]:
    """Return the indexes of all GPUs that were asked for, found, or tried in vain."""
    noted = observed(facts.info, "gpu")
    found = [gpu.get("index") for gpu in noted.parts("gpus")]
    failed = [problem.get("gpu_index") for problem in noted.parts("problems")]
    asked = facts.setting("telemetry_gpus") if _by_setting(noted.noted) else None
    rows = facts.gpu_rows
    seen = [] if rows is None else [int(i) for i in rows["gpu_index"].unique()]
    named = [*found, *failed, *(asked if isinstance(asked, list) else []), *seen]
    return sorted({i for i in named if isinstance(i, int)})


def _by_setting(noted: Mapping[str, Any]) -> bool:
    return noted.get("source") in EXPECTED_BY_SETTING


def _gpus(facts: Facts) -> tuple[GpuUse, ...] | Why:
    """Return each GPU that was read in the stretch, or why none was."""
    rows = facts.gpu_rows
    if rows is None:
        return why_no_rows(facts.info, "gpu", "GPUs")
    stretch = stretch_of(facts)
    if stretch is None:
        return Why("no request was sent")
    inside = rows[rows["t_s"].between(stretch.start_s, stretch.end_s)]
    if inside.empty:
        return Why(f"no GPU was read in the {stretch.words}")
    names = {gpu.get("index"): gpu.get("name") for gpu in observed(facts.info, "gpu").parts("gpus")}
    return tuple(
        _use(int(index), names.get(int(index)), own, stretch)
        for index, own in inside.groupby("gpu_index")
    )


def _use(index: int, name: object, rows: pd.DataFrame, stretch: Stretch) -> GpuUse:
    t_s = rows["t_s"].to_numpy()
    figures: dict[str, float | None] = {}
    for column, sensor in SENSORS.items():
        samples = Samples.of(t_s, rows[column].to_numpy())
        mean, peak = _names(sensor)
        figures |= {mean: samples.mean, peak: samples.peak}
    told = rows["throttle_reasons"].dropna()
    held = [slowed_by(cell) for cell in told]
    reasons = Counter(sorted(reason for reasons in held for reason in reasons))
    return GpuUse(
        index=index,
        name=None if name is None else printable(name),
        samples=len(rows),
        covered_share=Samples(t_s, t_s).covered_s / stretch.length_s,
        throttled_share=sum(map(bool, held)) / len(held) if held else None,
        throttled_by={reason: count / len(held) for reason, count in reasons.items()},
        **figures,
    )


def _names(sensor: tuple[str, str]) -> tuple[str, str]:
    name, unit = sensor
    return f"{name}_mean_{unit}", f"{name}_peak_{unit}"


def _together(gpus: Sequence[GpuUse], name: str) -> Figure:
    """Return one figure of all GPUs that have it: a sum, the largest, or the mean."""
    own = "power_mean_w" if name == "power_total_w" else name
    values: list[float] = [v for gpu in gpus if (v := getattr(gpu, own)) is not None]
    if not values:
        return Why("no GPU says, or none twice")
    if "_peak_" in name:
        return max(values)
    return sum(values) if name == "power_total_w" else sum(values) / len(values)


GIVE_GPUS = "name the server's with telemetry_gpus"


def not_the_servers(facts: Facts, gpus: GpuSide) -> list[str]:
    """Return what says that they aren't, or not they alone; nothing where nothing does."""
    noted = observed(facts.info, "gpu")
    asked, sampled = facts.setting("gpus"), len(expected_gpus(facts))
    busy = [gpu.utilization_peak_percent for gpu in gpus.gpus]
    against = {
        "the run's JSON doesn't say whose GPUs were sampled": facts.gpu_rows is not None
        and not noted.sampled,
        "the server is a simulator, and has no GPU": bool(
            facts.info and facts.info.server.get("simulator")
        ),
        f"the scenario's key gpus is {asked}, and GPUs sampled are {sampled}: {GIVE_GPUS}": (
            isinstance(asked, int) and asked != sampled
        ),
        "no GPU that was sampled did any work, so the server ran on others": bool(busy)
        and all(share == 0 for share in busy),
    }
    split = noted.problem("mig")
    return [*(words for words, holds in against.items() if holds), *([split] if split else [])]
