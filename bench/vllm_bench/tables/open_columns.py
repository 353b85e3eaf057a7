"""Columns of summary.csv about how an open loop's requests came, and which repeat a run is."""

from __future__ import annotations

from collections.abc import Callable

from ..figures.throughput import ArrivalRates
from ..summary.summary import RunSummary
from .summary_column import SummaryColumn, Value


def _rate(get: Callable[[ArrivalRates], float]) -> Callable[[RunSummary], Value]:
    return lambda s: get(s.arrival_rates) if s.arrival_rates else None


def _plan(key: str) -> Callable[[RunSummary], Value]:
    def value(summary: RunSummary) -> Value:
        found = summary.plan(key)
        return found if isinstance(found, str | int | float) else None

    return value


OPEN_COLUMNS: tuple[SummaryColumn, ...] = (
    SummaryColumn(
        "arrival",
        "how requests came: closed, constant, poisson, gamma, bursts, trace",
        _plan("shape"),
    ),
    SummaryColumn(
        "realised_rate",
        "requests a second of the schedule as it was drawn; it isn't rescaled to the rate asked",
        _plan("realised_rate"),
    ),
    SummaryColumn(
        "realised_cv",
        "coefficient of variation of the schedule's gaps: 0 constant, near 1 poisson",
        _plan("realised_cv"),
    ),
    SummaryColumn(
        "scheduled_rate",
        "requests a second that were meant to go, of an open loop's measured requests",
        _rate(lambda rates: rates.scheduled),
    ),
    SummaryColumn("sent_rate", "requests a second that went", _rate(lambda rates: rates.sent)),
    SummaryColumn("max_in_flight", "cap on requests in flight", _plan("max_in_flight")),
    SummaryColumn(
        "waited_for_cap",
        "requests that waited for the cap; empty without one",
        lambda s: s.waited_for_cap,
    ),
    SummaryColumn(
        "cached_tokens_total",
        "prompt tokens of the successes found in the prefix cache, where the replies say it",
        lambda s: s.cached_tokens,
    ),
)
