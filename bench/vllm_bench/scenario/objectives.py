"""A scenario's objectives: what its requests must meet for the scenario to have passed.

slo: {preset: mlperf-llama2-70b-interactive, ttft_ms: {p50: 200, p99: 500}, success_rate: 0.999}
slo_tiers: {interactive: {ttft_ms: {p99: 300}}, batch: {output_tokens_per_s: {min: 2000}}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from .mistakes import unknown, word
from .nested.keys import optional

# Limits at the 99th percentile in ms, (TTFT, TPOT), of the Server scenario of MLPerf Inference:
# mlcommons/inference, loadgen/mlperf.conf, `<model>.Server.ttft_latency` and `.tpot_latency`,
# `*.Server.target_latency_percentile = 99`; commit 001712e9daf80386e0dda43f97b8f36981d792c4.
# Limits alone don't make an MLPerf result: that needs its data sets, its load and its audit too.
MLPERF_P99_MS = {
    "llama2-70b": (2000, 200),
    "llama2-70b-interactive": (450, 40),
    "mixtral-8x7b": (2000, 200),
    "llama3.1-8b": (2000, 100),
    "llama3.1-8b-interactive": (500, 30),
    "llama3.1-405b": (6000, 175),
    "llama3.1-405b-interactive": (4500, 80),
    "deepseek-r1": (2000, 80),
    "deepseek-r1-interactive": (1500, 15),
}
PRESETS: dict[str, dict[str, dict[str, float]]] = {
    f"mlperf-{model}": {"ttft_ms": {"p99": ttft}, "tpot_ms": {"p99": tpot}}
    for model, (ttft, tpot) in MLPERF_P99_MS.items()
}

MOST_LIMIT = 1e12  # ms or a second: a larger one is a mistake
TIER = r"[A-Za-z][A-Za-z0-9_-]{0,31}"  # a tier's name: one word, to stand in lines and in columns
PERCENTILE = re.compile(r"p(\d{1,2}(\.\d{1,3})?)")


def percentile_of(name: str) -> float:
    """Return 99.9 for `p99.9`. Raises ValueError."""
    found = PERCENTILE.fullmatch(name)
    if not found or not 0 < float(found[1]) < 100:
        raise ValueError(f"{name!r} isn't a percentile: write p50, p95, p99 or p99.9")
    return float(found[1])


def _no_yes_or_no(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take it for 1 or 0
        raise ValueError("must be a number")  # noqa: TRY004
    return value


def _at_least(given: object) -> object:
    if not isinstance(given, Mapping) or [*given] != ["min"]:
        raise ValueError("must be a mapping with min alone, as in {min: 2000}")
    return given


def _usable(limits: dict[str, float]) -> dict[str, float]:
    if not limits:
        raise ValueError("must name a percentile, as in {p99: 500}")
    for name in limits:
        percentile_of(name)
    return limits


Limit = Annotated[
    float, BeforeValidator(_no_yes_or_no), Field(gt=0, le=MOST_LIMIT, allow_inf_nan=False)
]
Limits = Annotated[dict[str, Limit], AfterValidator(_usable)]
AtLeast = Annotated[dict[str, Limit], BeforeValidator(_at_least)]


class Slo(BaseModel):
    """Objectives with their preset merged in. Limits in ms by percentile: `{"p99": 500.0}`."""

    model_config = ConfigDict(frozen=True)

    preset: str | None = optional(
        "limits to start from; the other keys replace them", "mlperf-llama2-70b"
    )
    ttft_ms: Limits | None = optional("time to first token, limits by percentile", {"p99": 500})
    ttfa_ms: Limits | None = optional(
        "time to the first token of the answer, after any thoughts; unanswered replies miss it",
        {"p95": 3000},
    )
    tpot_ms: Limits | None = optional("time per output token", {"p95": 50})
    latency_ms: Limits | None = optional("from the send to the end of the reply", {"p99": 10000})
    max_gap_ms: Limits | None = optional("the longest silence within a reply", {"p99": 400})
    job_served_s: Limits | None = optional(
        "a session's time without its tools' and people's waits, limits in seconds", {"p95": 60}
    )
    success_rate: float | None = optional(
        "share of all requests that must succeed", 0.999, gt=0, le=1, allow_inf_nan=False
    )
    output_tokens_per_s: AtLeast | None = optional(
        "generated tokens per second in the steady window, at least", {"min": 2000}
    )
    requests_per_s: AtLeast | None = optional(
        "successes per second in the steady window, at least", {"min": 20}
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise ValueError("must be a mapping, as in {ttft_ms: {p99: 500}}")  # noqa: TRY004
        for key in given:
            if key not in cls.model_fields:
                raise ValueError(unknown("key", key, cls.model_fields))
        preset = given.get("preset")
        if preset is None:
            return given
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(unknown("preset", preset, PRESETS))
        return {**PRESETS[preset], **given}

    @model_validator(mode="after")
    def _says_something(self) -> Slo:
        if not any(getattr(self, key) for key in type(self).model_fields if key != "preset"):
            raise ValueError("must name an objective, as in {ttft_ms: {p99: 500}}")
        return self


def _named_tiers(tiers: dict[str, Slo]) -> dict[str, Slo]:
    if not tiers:
        raise ValueError("must name a tier, as in {interactive: {ttft_ms: {p99: 300}}}")
    for name in tiers:
        if not re.fullmatch(TIER, name):
            raise ValueError(
                f"{word(name)} isn't a tier's name: at most 32 letters, digits, _ and -, "
                "with a letter first"
            )
    return tiers


Tiers = Annotated[dict[str, Slo], AfterValidator(_named_tiers)]
