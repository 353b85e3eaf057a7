"""The few figures that say most about a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..figures.metrics import DOCS, TITLES, headline_metric
from ..records.text import ABSENT
from ..summary.capacity import per_user
from ..summary.levels import Series, output_tokens_per_s
from ..summary.stability import find_knee
from ..tables.group import mark
from .tables import number


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the figures on top of the page: its name, value, unit and meaning."""

    name: str
    value: str
    unit: str
    of: str
    doc: str


def key_figures(series: Series) -> list[KeyFigure]:
    """Return the most throughput, what each user then gets, TTFT from low to high, the knee."""
    return [*_rates(series), *_times(series), *_knee(series)]


def _rates(series: Series) -> Iterator[KeyFigure]:
    known = [(rate, v) for v in series.levels if (rate := v.centre(output_tokens_per_s))]
    if not known:
        return
    rate, level = max(known, key=lambda pair: pair[0])
    doc = "generated tokens per second, of requests that succeeded"
    at, sign = f"at {level.load.words}", mark(level.figures_of, "output_tokens_per_s")
    yield KeyFigure("Most throughput", number(rate) + sign, "tokens/s", at, doc)
    user = level.centre(per_user)
    if user is not None:
        doc = "1000 / TPOT p50: reading speed of the median reply"
        yield KeyFigure("Each user then gets", number(user) + sign, "tokens/s", "median", doc)


def _times(series: Series) -> Iterator[KeyFigure]:
    """Return the TTFT of the lowest and the highest level, at their highest common percentile."""
    known = [level for level in series.levels if level.figures_of]
    levels = [*known[:1], *known[-1:]]
    if not levels:
        return
    metric = headline_metric("ttft_ms", levels[0].load)
    for percentile in (95.0, 50.0):
        values = [level.percentile(metric, percentile) for level in levels]
        if None not in values:
            shown = " → ".join(dict.fromkeys(ABSENT if v is None else number(v) for v in values))
            loads = " → ".join(dict.fromkeys(v.load.words for v in levels))
            shown += mark([run for level in levels for run in level.figures_of], metric)
            doc = f"{DOCS[metric]}, of requests that succeeded"
            yield KeyFigure(f"{TITLES[metric]} p{percentile:g}", shown, "ms", loads, doc)
            return


def _knee(series: Series) -> Iterator[KeyFigure]:
    knee = find_knee(series.levels)
    if knee is not None:
        doc = "the level above which more load brought hardly more throughput"
        yield KeyFigure("Throughput used up at", knee.load.number, knee.load.unit, "", doc)
