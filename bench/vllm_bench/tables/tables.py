"""The table of a series' levels, once for Markdown and the terminal alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..figures import digits as cells
from ..figures.metrics import TITLES, headline_metric
from ..figures.statistics import min_samples
from ..records.text import ABSENT
from ..summary.calibration import in_words
from ..summary.levels import Series
from ..summary.summary import RunSummary, Turn

P3 = (50.0, 95.0, 99.0)
P2 = (50.0, 95.0)
EXPLAINED = ("ttft_ms", "latency_ms", "tpot_ms", "itl_ms", "max_gap_ms")  # where a cell is empty
INTERVALS = (("ttft_ms", P3), ("tpot_ms", P3), ("latency_ms", P3))


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column for people: heading (lines), value, and whether it stays in a narrow table."""

    heading: str
    cell: Callable[[RunSummary], str]
    narrow: bool = True


def _rate(part: str) -> Callable[[RunSummary], str]:
    """Return a rate in the steady window and over the whole run."""

    def cell(summary: RunSummary) -> str:
        found = (summary.steady, summary.throughput)
        return " / ".join(cells.short(getattr(f, part) if f else None) for f in found)

    return cell


def _times(metric: str, wanted: tuple[float, ...]) -> Callable[[RunSummary], str]:
    return lambda s: cells.percentiles(s.distributions.get(metric), wanted)


def _schedule(summary: RunSummary) -> str:
    """Return the rate at which requests were meant to go, its cv, and that at which they went."""
    rates, cv = summary.arrival_rates, summary.plan("realised_cv")
    told = f" (cv {cells.short(cv)})" if isinstance(cv, int | float) else ""
    meant = summary.realised_rate or (rates.scheduled if rates else None)
    return f"{cells.short(meant)}{told} / {cells.short(rates.sent if rates else None)}"


def _cached(summary: RunSummary) -> str:
    share = summary.server_side.prefix_cache_hit_rate
    return ABSENT if share is None else f"{cells.short(100 * share)} %"


_CLOSED = (
    TableColumn("TTFT ms\np50/p95/p99", _times("ttft_ms", P3)),
    TableColumn("latency ms\np50/p95/p99", _times("latency_ms", P3)),
)
_OPEN = (
    TableColumn("schedule req/s\ndrawn / sent", _schedule, narrow=False),
    TableColumn("TTFT ms from schedule\np50/p95/p99", _times("ttft_from_schedule_ms", P3)),
    TableColumn("TTFT ms from send\np50/p95", _times("ttft_ms", P2)),
    TableColumn("latency ms from schedule\np50/p95/p99", _times("latency_from_schedule_ms", P3)),
    TableColumn("latency ms from send\np50/p95", _times("latency_ms", P2), narrow=False),
)
_FIRST = (
    TableColumn("verdict", lambda s: s.verdict.level),
    TableColumn("ok", lambda s: f"{s.succeeded}/{s.requests}"),
)
_REST = (
    TableColumn("TPOT ms\np50/p95", _times("tpot_ms", P2)),
    TableColumn("ITL ms\np50/p99", _times("itl_ms", (50.0, 99.0)), narrow=False),
    TableColumn(
        "worst gap ms", lambda s: cells.worst(s.distributions.get("max_gap_ms")), narrow=False
    ),
    TableColumn("req/s\nwindow / run", _rate("requests_per_s")),
    TableColumn("out tok/s\nwindow / run", _rate("output_tokens_per_s")),
    TableColumn("total tok/s\nwindow / run", _rate("total_tokens_per_s"), narrow=False),
    TableColumn(
        "prompt tokens", lambda s: cells.spread(s.distributions.get("prompt_tokens")), narrow=False
    ),
    TableColumn("of them\ncached", _cached, narrow=False),
    TableColumn(
        "output tokens",
        lambda s: cells.spread(s.distributions.get("completion_tokens")),
        narrow=False,
    ),
    TableColumn(
        "in flight\nmean / peak",
        lambda s: f"{s.in_flight.mean:.1f} / {s.in_flight.peak}" if s.in_flight else ABSENT,
        narrow=False,
    ),
    TableColumn(
        "send lag ms p99",
        lambda s: cells.percentile(s.distributions.get("send_lag_ms"), 99),
        narrow=False,
    ),
    TableColumn("started", lambda s: s.started_utc or ABSENT, narrow=False),
)
# Beside the first one, the run's name under its unit.
LEVEL_COLUMNS = {
    "streams": (*_FIRST, *_CLOSED, *_REST),
    "requests/s": (*_FIRST, *_OPEN, *_REST),
}


def level_table(series: Series, *, narrow: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return the headings of a series' table and, a row each, its runs."""
    unit = series.levels[0].load.unit
    columns = [c for c in LEVEL_COLUMNS[unit] if c.narrow or not narrow]
    rows = [[name, *(c.cell(run) for c in columns)] for name, run in series.named_runs]
    return [unit, *(c.heading for c in columns)], rows


def interval_rows(series: Series) -> list[list[str]]:
    """Return, a row each, a run's percentiles with their 95 % intervals within the run."""
    return [
        [run_name, TITLES[metric], *(_with_interval(s, metric, q) for q in wanted)]
        for run_name, s in series.named_runs
        for name, wanted in INTERVALS
        if (metric := headline_metric(name, s.load)) in s.distributions
    ]


def turn_rows(series: Series) -> list[list[str]]:
    """Return, a row each, the turns of runs of conversations."""
    return [
        [
            name,
            str(turn.turn),
            str(turn.n),
            _turn_time(turn, turn.ttft_p50_ms, 50),
            _turn_time(turn, turn.ttft_p95_ms, 95),
            cells.short(turn.prompt_tokens_mean),
            ABSENT if turn.cached_share is None else f"{cells.short(100 * turn.cached_share)} %",
        ]
        for name, s in series.named_runs
        for turn in s.turns
    ]


def _turn_time(turn: Turn, value: float | None, percentile: float) -> str:
    measured = value is not None or turn.n < min_samples(percentile)
    return cells.allowed(value, percentile) if measured else ABSENT


def _with_interval(summary: RunSummary, metric: str, percentile: float) -> str:
    found = summary.distributions.get(metric)
    interval = found.interval(percentile) if found else None
    value = cells.percentile(found, percentile)
    if interval is None:
        return value
    return f"{value} ({cells.short(interval.low)} to {cells.short(interval.high)})"


def setup_words(summaries: Sequence[RunSummary]) -> str:
    """Return model, data set and simulation of runs in words; several where they differ."""
    models = _distinct([s.setting("model") for s in summaries])
    datasets = _distinct([s.setting("dataset") for s in summaries])
    simulated = sum(s.simulated for s in summaries)
    words = [", ".join(models) or "unknown model", ", ".join(datasets) or "unknown prompts"]
    if simulated:
        words.append("simulated server" if simulated == len(summaries) else "some simulated")
    return " · ".join(words)


def _distinct(values: Sequence[object]) -> list[str]:
    return list(dict.fromkeys(str(v) for v in values if v is not None))


def footnotes(summaries: Sequence[RunSummary]) -> list[str]:
    """Return why cells are empty: percentiles without the samples, metrics without values."""
    why: dict[str, list[str]] = {}
    for metric in EXPLAINED:
        for reason in _distinct([s.absent.get(metric) for s in summaries]):
            why.setdefault(reason, []).append(TITLES[metric])
    lines = [f"{', '.join(names)} {ABSENT}: {reason}" for reason, names in why.items()]
    short = [q for q in P3 if any(_lacks(s, q) for s in summaries)]
    needs = ", ".join(f"p{q:g} from {min_samples(q)}" for q in short)
    own_errors = [in_words(s.calibration) for s in summaries if s.calibration]
    return [*lines, *([f"n<…: too few successes; {needs}"] if short else []), *own_errors]


def cache_notes(summaries: Sequence[RunSummary]) -> list[str]:
    """Return why it isn't known how much of the prompts was cached."""
    reasons = [s.server_side.absent.get("prefix_cache_hit_rate") for s in summaries]
    return [f"cached {ABSENT}: {reason}" for reason in _distinct(reasons)]


def _lacks(summary: RunSummary, percentile: float) -> bool:
    found = summary.distributions.get("latency_ms")
    return found is not None and found.percentile(percentile) is None
