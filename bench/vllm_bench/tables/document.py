"""`summary.json`: everything that the summary knows. Its schema is docs/summary.schema.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from ..figures.objectives import Attainment, Outcome
from ..figures.statistics import Distribution, Interval
from ..summary.again import again
from ..summary.capacity import capacity
from ..summary.environment import environment
from ..summary.levels import Series, series_of
from ..summary.stability import stability
from ..summary.summary import RunSummary
from .columns import SUMMARY_COLUMNS
from .level_columns import LEVEL_COLUMNS, level_rows

SCHEMA_VERSION = 1


def to_json(summaries: Sequence[RunSummary]) -> bytes:
    """Return summary.json for sorted summaries."""
    return orjson.dumps(document(summaries), option=orjson.OPT_INDENT_2) + b"\n"


def document(summaries: Sequence[RunSummary]) -> dict[str, Any]:
    """Return the summary as plain values. A value that doesn't exist is null."""
    series = series_of(summaries)
    return {
        "schema_version": SCHEMA_VERSION,
        "runs": [_run(summary) for summary in summaries],
        "levels": [{c.name: c.value(r) for c in LEVEL_COLUMNS} for r in level_rows(series)],
        "scenarios": [_scenario(one) for one in series],
        "environment": [{"what": w, "value": v} for w, v in environment(summaries)],
    }


def _run(summary: RunSummary) -> dict[str, Any]:
    found = summary.verdict
    return {
        "figures": {c.name: c.value(summary) for c in SUMMARY_COLUMNS},
        "verdict": {
            "level": found.level,
            "findings": [{**asdict(f), "severity": f.severity.name} for f in found.findings],
        },
        "distributions": {n: _distribution(d) for n, d in summary.distributions.items()},
        "absent": dict(summary.absent),
        "exact_tokens": summary.exact_tokens,
        "errors": [asdict(error) for error in summary.errors],
        "objectives": _objectives(summary.attainment),
        "turns": [asdict(turn) for turn in summary.turns],
        "server_side": asdict(summary.server_side),
        "gpu_side": asdict(summary.gpu_side),
        "energy": asdict(summary.energy),
        "cost": asdict(summary.cost),
    }


def _distribution(found: Distribution) -> dict[str, Any]:
    return {
        "n": found.n,
        "mean": found.mean,
        "std": found.std,
        "min": found.min,
        "max": found.max,
        "percentiles": [
            {"percentile": q, "value": value, "within_run": _interval(found.interval(q))}
            for q, value in found.percentiles.items()
        ],
    }


def _interval(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {"low": found.low, "high": found.high}


def _objectives(found: Attainment | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "met": found.met,
        "arrivals": found.arrivals,
        "good": found.good,
        "attainment": found.share,
        "interval": _interval(found.interval),
        "goodput_per_s": found.goodput_per_s,
        "outcomes": [_outcome(one) for one in found.outcomes],
    }


def _outcome(found: Outcome) -> dict[str, Any]:
    return {
        **asdict(found.objective),
        "arrivals": found.arrivals,
        "within": found.within,
        "met": found.met,
        "short_of": found.short_of,
        "interval": _interval(found.interval),
        "unmeasured": found.unmeasured,
        "words": found.words,
    }


def _scenario(series: Series) -> dict[str, Any]:
    judged, most, how = stability(series.levels), capacity(series.levels), again(series)
    return {
        "scenario": series.scenario,
        "run_ids": [run.run_id for run in series.runs],
        "stability": [
            {**asdict(level), "words": level.words} for level in (judged.levels if judged else ())
        ],
        "knee": {**asdict(judged.knee), "words": judged.knee.words}
        if judged and judged.knee
        else None,
        "capacity": {
            "met": asdict(most.met.load) if most.met else None,
            "missed": asdict(most.missed.load) if most.missed else None,
            "words": most.words,
        }
        if most
        else None,
        "again": asdict(how) if how else None,
    }
