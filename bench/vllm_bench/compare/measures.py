"""What two sides are compared by, and which differences nobody would mind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from ..errors import UsageError
from ..figures.metrics import TITLES, headline_metric
from ..scenario.load import Load
from ..scenario.mistakes import nearest
from ..summary.levels import output_tokens_per_s
from ..summary.summary import RunSummary
from .comparison import Measure


def _requests_per_s(run: RunSummary) -> float | None:
    found = run.steady or run.throughput
    return None if found is None else found.requests_per_s


def _percentile(metric: str, percentile: float, run: RunSummary) -> float | None:
    return run.percentile(headline_metric(metric, run.load), percentile)


def _goodput(run: RunSummary) -> float | None:
    return None if run.attainment is None else run.attainment.goodput_per_s


def _joules(run: RunSummary) -> float | None:
    return run.energy.per_output_token_j


def _time(metric: str, percentile: int, margin: float) -> Measure:
    word = metric.removesuffix("_ms")
    return Measure(
        f"{word}_p{percentile}_ms",
        f"{TITLES[metric]} p{percentile}",
        "ms",
        more_is_better=False,
        margin=margin,
        headline=True,
        family="TTFT" if word == "ttft" else "pace",
        of=partial(_percentile, metric, percentile),
    )


def _ttfa(percentile: int, margin: float) -> Measure:
    """Return the time to the first answer token, of runs whose replies think: else it is TTFT."""

    def of(run: RunSummary) -> float | None:
        return _percentile("ttfa_ms", percentile, run) if run.thinking else None

    return dataclasses.replace(_time("ttfa_ms", percentile, margin), of=of)


def _yield(name: str, title: str, margin: float, of: Callable[..., float | None]) -> Measure:
    return Measure(name, title, "", True, margin, True, "pace", of)


# Margins: half of what is called an effect worth claiming; tails of TTFT spread more from run to
# run, and nobody would act on less.
MEASURES: tuple[Measure, ...] = (
    _yield("output_tokens_per_s", "output tokens/s", 0.02, output_tokens_per_s),
    _yield("requests_per_s", "requests/s", 0.02, _requests_per_s),
    _time("ttft_ms", 50, 0.05),
    _time("ttft_ms", 95, 0.05),
    _time("ttft_ms", 99, 0.10),
    _ttfa(50, 0.05),
    _ttfa(95, 0.05),
    _time("tpot_ms", 50, 0.02),
    _time("tpot_ms", 95, 0.02),
    _time("latency_ms", 50, 0.05),
    _time("latency_ms", 99, 0.10),
    _yield("success_rate", "success rate", 0.002, lambda run: run.success_rate),
    _yield("goodput_per_s", "goodput, requests/s", 0.02, _goodput),
    Measure(
        "energy_per_output_token_j", "J per output token", "J", False, 0.02, False, "GPUs", _joules
    ),
)
# No row where nobody has them.
WHERE_KNOWN = ("goodput_per_s", "energy_per_output_token_j", "ttfa_p50_ms", "ttfa_p95_ms")


def with_margins(margins: Mapping[str, float]) -> tuple[Measure, ...]:
    """Return the measures with margins as given: 0.02 for 2 %. Raises UsageError."""
    known = {measure.name for measure in MEASURES}
    for name, margin in margins.items():
        if name not in known:
            raise UsageError(
                f"margin of {name}: no such measure{nearest(name, known)}; known are "
                f"{', '.join(sorted(known))}"
            )
        if not 0 < margin < 1:
            raise UsageError(f"margin of {name}: {margin:g} must lie between 0 and 1: 0.02 is 2 %")
    return tuple(dataclasses.replace(m, margin=margins.get(m.name, m.margin)) for m in MEASURES)


def margins_of(given: Iterable[str]) -> dict[str, float]:
    """Return margins as fractions, from `ttft_p99_ms=15` in percent. Raises UsageError."""
    found = {}
    for text in given:
        name, _, percent = text.partition("=")
        try:
            margin = float(percent.removesuffix("%")) / 100
        except ValueError:
            margin = 0.0
        if not 0 < margin < 1:
            must = "must be MEASURE=PERCENT, above 0 and below 100: ttft_p99_ms=15"
            raise UsageError(f"--margin {text}: {must}")
        found[measure_name(name.strip())] = margin
    with_margins(found)
    return found


def measure_name(given: str) -> str:
    """Return a measure's name, also as objectives say it: `ttft_ms.p99` is `ttft_p99_ms`."""
    return re.sub(r"^(ttft|ttfa|tpot|latency)_ms[._](p\d+)$", r"\1_\2_ms", given)


def at_load(measure: Measure, load: Load) -> Measure:
    """Return a measure with the title that it has at a load: in an open loop, from schedule."""
    for metric in ("ttft_ms", "ttfa_ms", "latency_ms"):
        if measure.title.startswith(f"{TITLES[metric]} "):
            title = TITLES[headline_metric(metric, load)] + measure.title[len(TITLES[metric]) :]
            return dataclasses.replace(measure, title=title)
    return measure
