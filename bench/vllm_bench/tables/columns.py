"""`summary.csv`: a row a run. `SUMMARY_COLUMNS` is the only place that names its columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from operator import attrgetter

from ..figures.client import busiest_cpu_share, loop_lag_p99_ms
from ..figures.objectives import Attainment
from ..figures.statistics import min_samples
from ..summary.summary import RunSummary
from .beside_columns import BESIDE_COLUMNS
from .open_columns import OPEN_COLUMNS
from .summary_column import SummaryColumn, Value


def _percentiles(prefix: str, doc: str, wanted: tuple[float, ...]) -> list[SummaryColumn]:
    """Return count, mean and percentiles of a metric in ms; `prefix` + _ms names it in a run."""
    metric = f"{prefix}_ms"
    return [
        _of(f"{prefix}_n", f"samples of {prefix}", metric, "n"),
        _of(f"{prefix}_mean_ms", f"mean {doc}", metric, "mean"),
        *(
            SummaryColumn(
                f"{prefix}_p{q:g}_ms",
                f"{q:g}th percentile of {doc}; empty below {min_samples(q)} samples",
                lambda s, q=q: s.percentile(metric, q),  # type: ignore[misc]
            )
            for q in wanted
        ),
        _of(f"{prefix}_max_ms", f"the worst {doc}", metric, "max"),
    ]


def _of(name: str, doc: str, metric: str, part: str) -> SummaryColumn:
    """Return the column of one part (n, mean, min, max) of a metric's distribution."""
    get = attrgetter(part)

    def value(summary: RunSummary) -> Value:
        found = summary.distributions.get(metric)
        return None if found is None else get(found)

    return SummaryColumn(name, doc, value)


def _lengths(metric: str, doc: str) -> list[SummaryColumn]:
    return [_of(f"{metric}_{p}", f"{p} of {doc} a request", metric, p) for p in _LENGTH_PARTS]


def _bound(side: str) -> tuple[str, Callable[[Attainment], Value]]:
    get = attrgetter(side)
    doc = f"{side} end of Wilson's 95 % interval of attainment"
    return doc, lambda a: get(a.interval) if a.interval else None


_LENGTH_PARTS = ("mean", "min", "max")


def _in_window(name: str, part: str, doc: str) -> SummaryColumn:
    get = attrgetter(part)
    return SummaryColumn(name, doc, lambda s: get(s.steady) if s.steady else None)


def _speed(name: str, percentile: float, doc: str) -> SummaryColumn:
    """Return what a TPOT is in tokens a second: the slowest twentieth reads at p95's speed."""

    def value(summary: RunSummary) -> Value:
        tpot_ms = summary.percentile("tpot_ms", percentile)
        return 1000 / tpot_ms if tpot_ms else None

    return SummaryColumn(name, doc, value)


def _objectives(name: str, doc: str, value: Callable[[Attainment], Value]) -> SummaryColumn:
    return SummaryColumn(name, doc, lambda s: value(s.attainment) if s.attainment else None)


def _whole_run(name: str, part: str, doc: str) -> SummaryColumn:
    get = attrgetter(part)
    return SummaryColumn(name, doc, lambda s: get(s.throughput) if s.throughput else None)


def _own_error(name: str, field: str, what: str) -> SummaryColumn:
    get = attrgetter(field)
    return SummaryColumn(
        name,
        f"the client's own error of {what} at this load, where calibrate.py --like measured it",
        lambda s: get(s.calibration) if s.calibration else None,
    )


SUMMARY_COLUMNS: tuple[SummaryColumn, ...] = (
    SummaryColumn("run_id", "the run; also its files' name", lambda s: s.run_id),
    SummaryColumn("scenario", "scenario's name", lambda s: s.scenario),
    SummaryColumn(
        "concurrency", "streams held open; empty in an open loop", lambda s: s.concurrency
    ),
    SummaryColumn(
        "request_rate",
        "requests a second asked for; empty in a closed loop",
        lambda s: round(s.load.value, 6) if s.load.is_open else None,
    ),
    SummaryColumn(
        "repeat", "which run of its level, from 1", lambda s: s.info.repeat if s.info else None
    ),
    SummaryColumn("load", "level of load", lambda s: round(s.load.value, 6)),
    SummaryColumn("load_unit", "streams or requests/s", lambda s: s.load.unit),
    SummaryColumn("verdict", "VALID, SUSPECT or INVALID", lambda s: s.verdict.level),
    SummaryColumn("reasons", "codes that took VALID away", lambda s: s.verdict.reasons or None),
    SummaryColumn(
        "notes",
        "codes worth knowing that change nothing",
        lambda s: ", ".join(f.code for f in s.verdict.notes) or None,
    ),
    SummaryColumn("status", "how the run ended", lambda s: s.info.status if s.info else None),
    SummaryColumn("started_utc", "when it started", lambda s: s.started_utc),
    SummaryColumn("model", "model asked for", lambda s: s.setting("model")),
    SummaryColumn("dataset", "where the prompts came from", lambda s: s.setting("dataset")),
    SummaryColumn("server_version", "the server's own word", lambda s: s.server("version")),
    SummaryColumn(
        "simulated",
        "yes: the server said it is a simulator",
        lambda s: "yes" if s.simulated else None,
    ),
    SummaryColumn("requests", "requests that ended, however they did", lambda s: s.requests),
    SummaryColumn("succeeded", "requests that succeeded", lambda s: s.succeeded),
    SummaryColumn("success_rate", "succeeded / requests, 0 to 1", lambda s: s.success_rate),
    SummaryColumn(
        "errors",
        "failed requests by kind, kind:count",
        lambda s: ", ".join(f"{e.kind}:{e.count}" for e in s.errors) or None,
    ),
    *_percentiles("ttft", "time to first token of the successes", (50, 90, 95, 99)),
    *_percentiles("latency", "latency of the successes", (50, 90, 95, 99)),
    *_percentiles("tpot", "time per output token after the first", (50, 95, 99)),
    *_percentiles("itl", "gap between tokens, a value a token", (50, 95, 99)),
    *_percentiles("chunk_gap", "wait between two reads that brought tokens", (50, 95, 99)),
    _of("max_gap_worst_ms", "the longest wait between two token reads", "max_gap_ms", "max"),
    SummaryColumn(
        "send_lag_p99_ms",
        f"99th percentile of the client's own lateness; empty below {min_samples(99)} requests",
        lambda s: s.percentile("send_lag_ms", 99),
    ),
    _of("tokens_per_chunk_mean", "mean tokens by chunk", "tokens_per_chunk", "mean"),
    *_percentiles("ttft_from_schedule", "TTFT plus send lag", (50, 95, 99)),
    *_percentiles("latency_from_schedule", "latency plus send lag", (50, 95, 99)),
    _speed("user_speed_p50_tokens_per_s", 50, "tokens a second that the median request saw"),
    _speed("user_speed_p5_tokens_per_s", 95, "tokens a second that all but 5 % saw, or more"),
    SummaryColumn(
        "window_s",
        "steady window: from the moment that 95 % of the streams were first held to the last; in "
        "an open loop from a median latency after the ramp to the last measured arrival",
        lambda s: s.window.length_s if s.window else None,
    ),
    _in_window("window_requests_per_s", "requests_per_s", "successes that ended in the window"),
    _in_window(
        "window_prompt_tokens_per_s",
        "prompt_tokens_per_s",
        "prompt tokens of successes whose first token came in the window",
    ),
    _in_window(
        "window_output_tokens_per_s",
        "output_tokens_per_s",
        "tokens of successes whose stamps lie in the window; empty without stamps",
    ),
    _in_window(
        "window_total_tokens_per_s", "total_tokens_per_s", "prompt and output tokens of these two"
    ),
    _whole_run("whole_run_s", "span_s", "first t_sent to last t_end, ramp and drain included"),
    _whole_run(
        "whole_run_requests_per_s", "requests_per_s", "successful requests over whole_run_s"
    ),
    _whole_run(
        "whole_run_output_tokens_per_s",
        "output_tokens_per_s",
        "generated tokens of the successes over whole_run_s",
    ),
    _whole_run(
        "whole_run_total_tokens_per_s",
        "total_tokens_per_s",
        "prompt and generated tokens of the successes over whole_run_s",
    ),
    _whole_run("prompt_tokens_total", "prompt_tokens", "prompt tokens of the successes"),
    _whole_run("output_tokens_total", "output_tokens", "generated tokens of the successes"),
    SummaryColumn(
        "prompt_tokens_asked", "prefill_tokens asked for", lambda s: s.setting("prefill_tokens")
    ),
    *_lengths("prompt_tokens", "prompt tokens"),
    SummaryColumn(
        "completion_tokens_asked",
        "max_new_tokens asked for at most",
        lambda s: s.setting("max_new_tokens"),
    ),
    *_lengths("completion_tokens", "generated tokens"),
    SummaryColumn(
        "in_flight_mean",
        "requests in flight on average over the whole run",
        lambda s: s.in_flight.mean if s.in_flight else None,
    ),
    SummaryColumn(
        "in_flight_peak",
        "the most requests in flight at one moment",
        lambda s: s.in_flight.peak if s.in_flight else None,
    ),
    SummaryColumn(
        "in_flight_window_mean",
        "requests in flight on average in the steady window",
        lambda s: s.in_flight.in_window if s.in_flight else None,
    ),
    SummaryColumn(
        "littles_law",
        "request rate x mean latency / requests in flight, in the window; far from 1: no "
        "steady state",
        lambda s: s.in_flight.littles_law if s.in_flight else None,
    ),
    SummaryColumn(
        "loop_lag_p99_ms",
        "99th percentile of the lag of the sending loops' 10 ms tick",
        lambda s: loop_lag_p99_ms(s.info),
    ),
    SummaryColumn(
        "client_cpu_busiest",
        "share of a core that a sending process took in its busiest second",
        lambda s: busiest_cpu_share(s.info),
    ),
    _own_error("client_ttft_error_mean_ms", "ttft_error_mean_ms", "mean TTFT"),
    _own_error("client_ttft_error_p99_ms", "ttft_error_p99_ms", "TTFT at p99"),
    _own_error("client_stamp_error_p99_ms", "stamp_p99_ms", "a token's stamp at p99"),
    _objectives("objectives_met", "yes or no", lambda a: "yes" if a.met else "no"),
    _objectives(
        "objectives_missed",
        "those missed",
        lambda a: "; ".join(o.objective.words for o in a.missed) or None,
    ),
    _objectives(
        "attainment",
        "requests that met every objective, of all arrivals, 0 to 1",
        lambda a: a.share,
    ),
    _objectives("attainment_low", *_bound("low")),
    _objectives("attainment_high", *_bound("high")),
    _objectives(
        "goodput_per_s",
        "requests a second that met every objective, in the steady window",
        lambda a: a.goodput_per_s,
    ),
    *OPEN_COLUMNS,
    *BESIDE_COLUMNS,
)


def summary_column_docs() -> list[tuple[str, str]]:
    """Return (column, meaning) for every column of summary.csv, in the file's order."""
    return [(column.name, column.doc) for column in SUMMARY_COLUMNS]


def to_csv(summaries: Iterable[RunSummary]) -> bytes:
    """Return summary.csv: a header, a row a run. A value that doesn't exist is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.name for column in SUMMARY_COLUMNS)
    for summary in summaries:
        writer.writerow(cell(column.value(summary)) for column in SUMMARY_COLUMNS)
    return out.getvalue().encode()


def cell(value: Value) -> str:
    """Return a value as text; a microsecond and a ten-thousandth are fine enough."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
