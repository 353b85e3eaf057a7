"""Every figure of a run that is shown, defined once.

summary.csv has all `SUMMARY_COLUMNS`, summary_levels.csv has `REPEATED` over a level's repeats;
the tables for people have groups of them (group.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..answers.side import Against, AnswersSide
from ..figures.absent import joined
from ..figures.attained import Attainment
from ..figures.client import busiest_cpu_share, lag_of_loops
from ..figures.jobs.jobs import JobFigures
from ..figures.thoughts.thinking import ThinkingFigures
from ..records.row import Column, Value, column_docs
from ..serverside.energy import Cost, Energy
from ..serverside.gpu import GpuSide
from ..serverside.prefix import PrefixShares
from ..serverside.said import ServerSaid
from ..serverside.server import ServerSide
from ..stats.distribution import min_samples
from ..summary.capacity import per_user
from ..summary.levels import output_tokens_per_s
from ..summary.summary import InFlightFigures, RunSummary
from ..verdict.finding import Family

RunColumn = Column[RunSummary]


def _of(path: str, prefix: str = "", **docs: str) -> list[RunColumn]:
    """Return a column for each attribute of a part of the summary, named with a prefix."""
    return [Column(f"{prefix}{name}", doc, f"{path}.{name}") for name, doc in docs.items()]


def _percentiles(prefix: str, doc: str, *wanted: int) -> Iterator[RunColumn]:
    """Yield count, mean, percentiles and maximum of a metric in ms."""
    found = f"distributions.{prefix}_ms"
    yield Column(f"{prefix}_n", f"samples of {prefix}", f"{found}.n")
    yield from _in(prefix, "ms", doc, wanted)
    yield Column(f"{prefix}_max_ms", f"largest {doc}", f"{found}.max")


def _seconds(prefix: str, doc: str) -> Iterator[RunColumn]:
    """Yield mean and percentiles of a time in seconds."""
    return _in(prefix, "s", doc, (50, 95, 99))


def _in(prefix: str, unit: str, doc: str, wanted: Iterable[int]) -> Iterator[RunColumn]:
    found = f"distributions.{prefix}_{unit}"
    yield Column(f"{prefix}_mean_{unit}", f"mean {doc}", f"{found}.mean")
    for q in wanted:
        text = f"{q}th percentile of {doc}; empty below {min_samples(q)} samples"
        yield Column(f"{prefix}_p{q}_{unit}", text, f"{found}.percentiles.{q}")


def _lengths(metric: str, doc: str) -> list[RunColumn]:
    docs = {part: f"{part} {doc} per request" for part in ("mean", "min", "max")}
    return _of(f"distributions.{metric}", f"{metric}_", **docs)


def _figures(part: str, kind: type[Any], prefix: str) -> Iterator[RunColumn]:
    """Yield a column for each figure of a part of the summary that has a meaning (`doc`)."""
    own = (prefix, "unanswered", "client", "output", "littles")  # what begins so keeps its name
    for figure, doc in column_docs(kind):
        name = figure if figure.startswith(own) else f"{prefix}_{figure}"
        yield Column(name, doc, f"{part}.{figure}")


def _absent(part: str, prefix: str) -> RunColumn:
    return Column(
        f"{prefix}_absent",
        "why any of these figures is missing",
        lambda run: joined(getattr(run, part).absent.values()),
    )


def _short(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number:.3g}"


def _said(figure: str) -> Callable[[RunSummary], Value]:
    """Return a figure of what the server said; one by kinds as `length:320, stop:12`."""

    def value(run: RunSummary) -> Value:
        found = getattr(run.server_said, figure)
        if isinstance(found, Mapping):
            return ", ".join(f"{kind}:{_short(number)}" for kind, number in found.items()) or None
        return found if found is None or isinstance(found, str | int | float) else str(found)

    return value


def _request_rate(run: RunSummary) -> Value:
    if run.class_ is not None:
        return run.info.request_rate if run.info else None
    return run.load.value if run.load.is_open else None


def words_by_tier(tiers: Mapping[str, Attainment]) -> Value:
    """Return each tier with its word: `interactive missed; batch met`."""
    return "; ".join(f"{name} {found.word}" for name, found in tiers.items()) or None


WORDS: dict[Family, str] = {
    "TTFT": "TTFT",
    "pace": "TPOT, latency and rates",
    "gaps": "gaps between tokens and ITL",
    "GPUs": "GPUs and energy",
}


def _word_on(family: Family, doc: str) -> RunColumn:
    return Column(
        f"verdict_{family.lower()}",
        f"the verdict on figures of {doc}: VALID, SUSPECT or INVALID",
        lambda run: run.verdict.of(family),
    )


OWN_ERROR = "the client's own error of {} at this load, where calibrate.py --like measured it"

SUMMARY_COLUMNS: tuple[RunColumn, ...] = (
    Column("run_id", "the run; also its files' name", "run_id"),
    Column("scenario", "scenario's name", "scenario"),
    Column(
        "class",
        "the class of users whose requests alone the row is of; empty: all together",
        "class_",
    ),
    Column(
        "concurrency",
        "streams held open, of a class its own; empty in an open loop",
        "concurrency",
    ),
    Column(
        "request_rate",
        "requests per second asked for, of a class its own; empty in a closed loop",
        _request_rate,
    ),
    Column("repeat", "which run of its level, from 1", "info.repeat"),
    Column("load", "level of load", "load.value"),
    Column("load_unit", "streams or requests/s", "load.unit"),
    Column("verdict", "VALID, SUSPECT or INVALID", "verdict.level"),
    *(_word_on(family, doc) for family, doc in WORDS.items()),
    Column("reasons", "codes because of which the run is not VALID", "verdict.reasons"),
    Column(
        "notes",
        "codes worth knowing that don't change the verdict",
        lambda run: ", ".join(note.code for note in run.verdict.notes),
    ),
    Column("status", "how the run ended", "info.status"),
    Column("started_utc", "when it started", "started_utc"),
    Column("model", "model asked for", "info.scenario.model"),
    Column("dataset", "where the prompts came from", "info.scenario.dataset"),
    Column("server_version", "the version that the server reports", "info.server.version"),
    Column(
        "simulated",
        "yes: the server reports that it is a simulator",
        lambda run: "yes" if run.simulated else None,
    ),
    Column("requests", "requests that ended, however they did", "requests"),
    Column(
        "requests_counted",
        "requests sent in the steady window, of which the figures are; all where there is none",
        "counted",
    ),
    Column("succeeded", "requests that succeeded", "succeeded"),
    Column("success_rate", "succeeded / requests, 0 to 1", "success_rate"),
    Column(
        "errors",
        "failed requests by kind, kind:count",
        lambda run: ", ".join(f"{e.kind}:{e.count}" for e in run.errors),
    ),
    Column(
        "answers_valid",
        "successes whose answers have the form that response_format asks for, of those that it "
        "was asked of, 0 to 1",
        "answers_valid",
    ),
    *_percentiles("ttft", "time to first token of the successes", 50, 90, 95, 99),
    *_percentiles("ttfa", "time to the first token of the answer", 50, 95, 99),
    *_percentiles("latency", "latency of the successes", 50, 90, 95, 99),
    *_percentiles("tpot", "time per output token after the first", 50, 95, 99),
    *_percentiles("itl", "gap between tokens, one value per token", 50, 95, 99),
    *_percentiles("chunk_gap", "wait between two reads that brought tokens", 50, 95, 99),
    Column(
        "max_gap_worst_ms",
        "the longest wait between two token reads",
        "distributions.max_gap_ms.max",
    ),
    Column(
        "send_lag_p99_ms",
        f"99th percentile of the client's own lateness; empty below {min_samples(99)} requests",
        "distributions.send_lag_ms.percentiles.99",
    ),
    Column("tokens_per_chunk_mean", "mean tokens per chunk", "distributions.tokens_per_chunk.mean"),
    *_percentiles("ttft_from_schedule", "TTFT plus send lag", 50, 95, 99),
    *_percentiles("ttfa_from_schedule", "TTFA plus send lag", 50, 95, 99),
    *_percentiles("latency_from_schedule", "latency plus send lag", 50, 95, 99),
    Column(
        "user_speed_p50_tokens_per_s",
        "tokens per second of the median request: 1000 / TPOT p50",
        per_user,
    ),
    Column(
        "user_speed_p5_tokens_per_s",
        "tokens per second that 95 % of the requests reach: 1000 / TPOT p95",
        lambda run: per_user(run, 95),
    ),
    Column(
        "window_s",
        "steady window: from when every stream had ended its first request to when the first found "
        "no more work; in an open loop from p95 of latency after the ramp to the last arrival",
        "window.length_s",
    ),
    *_of(
        "steady",
        "window_",
        requests_per_s="successes, each by the share of its time that lies in the window",
        prompt_tokens_per_s="prompt tokens of successes, by the same shares",
        output_tokens_per_s="tokens of successes whose stamps lie in the window; empty without "
        "stamps",
        total_tokens_per_s="prompt and output tokens of these two",
    ),
    Column(
        "whole_run_s", "first t_sent to last t_end, ramp and drain included", "throughput.span_s"
    ),
    *_of(
        "throughput",
        "whole_run_",
        requests_per_s="successful requests over whole_run_s",
        output_tokens_per_s="generated tokens of the successes over whole_run_s",
        total_tokens_per_s="prompt and generated tokens of the successes over whole_run_s",
    ),
    Column("prompt_tokens_total", "prompt tokens of the successes", "throughput.prompt_tokens"),
    Column("output_tokens_total", "generated tokens of the successes", "throughput.output_tokens"),
    Column("prompt_tokens_asked", "prefill_tokens asked for", "info.scenario.prefill_tokens"),
    *_lengths("prompt_tokens", "prompt tokens"),
    Column(
        "completion_tokens_asked",
        "max_new_tokens asked for at most",
        "info.scenario.max_new_tokens",
    ),
    *_lengths("completion_tokens", "generated tokens"),
    *_lengths("thinking_tokens", "tokens of thoughts"),
    *_figures("thinking", ThinkingFigures, "thinking"),
    *_seconds("thinking", "time from the first token to the answer's, where there were thoughts"),
    *_figures("jobs", JobFigures, "jobs"),
    *_seconds("job", "time of a job: first send of a session to the end of its last turn"),
    *_seconds("job_wait", "waits for tools and people in a job"),
    *_seconds("job_served", "time of a job without these waits"),
    *_percentiles("answer_tpot", "time per token of answers after thoughts", 50, 95, 99),
    *_figures("in_flight", InFlightFigures, "in_flight"),
    Column(
        "loop_lag_p99_ms",
        "99th percentile of the lag of the sending loops' 10 ms tick",
        lambda run: lag_of_loops(run.info, "p99"),
    ),
    Column(
        "client_clock",
        "what stamped the tokens: kernel, process (as it read them), or kernel until a step of the "
        "wall clock",
        "client_reads.clock",
    ),
    Column(
        "client_late_ttft_p99_ms",
        "99th percentile of how long after the kernel's stamp a first token was read",
        "client_reads.ttft.p99_ms",
    ),
    Column(
        "client_late_gaps_p99_ms",
        "the same for the tokens after it",
        "client_reads.gaps.p99_ms",
    ),
    Column(
        "merged_reads",
        "share of reads with tokens that brought several events, 0 to 1: all but the last of them "
        "may have come earlier",
        "client_reads.merged",
    ),
    Column(
        "merged_first_reads", "the same of the replies' first reads", "client_reads.first_merged"
    ),
    Column(
        "machines",
        "how many machines sent it; empty: one alone",
        lambda run: len(run.machines) or None,
    ),
    Column(
        "client_cpu_busiest",
        "share of a core that a sending process took in its busiest second",
        lambda run: busiest_cpu_share(run.info),
    ),
    *_of(
        "calibration",
        "client_",
        ttft_error_mean_ms=OWN_ERROR.format("mean TTFT"),
        ttft_error_p99_ms=OWN_ERROR.format("TTFT at p99"),
    ),
    Column(
        "client_stamp_error_p99_ms",
        OWN_ERROR.format("a token's stamp at p99"),
        "calibration.stamp_p99_ms",
    ),
    Column("objectives", "met, missed or not shown: the worst of them", "attainment.word"),
    Column(
        "objectives_missed",
        "those missed, and those not shown with the requests or seconds that it takes",
        "attainment.failing",
    ),
    Column(
        "tiers",
        "each of slo_tiers, and whether its objectives were met, missed or not shown",
        lambda run: words_by_tier(run.tiers),
    ),
    Column(
        "attainment",
        "requests that met every objective on one, of those counted, 0 to 1; of a run of classes "
        "each has its own",
        "attainment.share",
    ),
    *_of(
        "attainment.interval",
        "attainment_",
        low="low end of its 95 % interval, by batch means",
        high="high end of that interval",
    ),
    Column(
        "goodput_per_s",
        "requests per second that met every objective on one, in the steady window",
        "attainment.goodput_per_s",
    ),
    Column(
        "waiting_share",
        "share of the steady window in which a request of the class was in flight without its "
        "first token, 0 to 1",
        "service.waiting",
    ),
    Column(
        "service_tokens",
        "what the class got in the steady window: fresh prompt tokens and twice its output tokens",
        "service.tokens",
    ),
    Column(
        "arrival",
        "how requests came: closed, constant, poisson, gamma, bursts, trace",
        "info.plan.shape",
    ),
    *_of(
        "info.plan",
        realised_rate="requests per second of the schedule as it was drawn; it isn't rescaled to "
        "the rate asked for",
        realised_cv="coefficient of variation of the schedule's gaps: 0 constant, near 1 poisson",
    ),
    Column(
        "scheduled_rate",
        "requests per second that were meant to go, of an open loop's measured requests",
        "arrival_rates.scheduled",
    ),
    Column("sent_rate", "requests per second that were sent", "arrival_rates.sent"),
    Column("max_in_flight", "most requests in flight that were allowed", "info.plan.max_in_flight"),
    Column(
        "waited_for_cap",
        "requests that waited for max_in_flight; empty without it",
        "waited_for_cap",
    ),
    Column(
        "cached_tokens_total",
        "prompt tokens of the successes found in the prefix cache, if the replies report it",
        "cached_tokens",
    ),
    Column(
        "trace_shared_share",
        "share of a trace's prompt tokens that it shares with earlier requests, 0 to 1",
        "info.plan.trace_shared_share",
    ),
    *_figures("prefix", PrefixShares, "prefix"),
    _absent("prefix", "prefix"),
    *_figures("server_side", ServerSide, "server"),
    _absent("server_side", "server"),
    *(Column(f"server_{name}", text, _said(name)) for name, text in column_docs(ServerSaid)),
    *_figures("gpu_side", GpuSide, "gpu"),
    Column(
        "gpu_throttled_by", "what throttled the clocks, and of which GPUs", "gpu_side.throttled_by"
    ),
    _absent("gpu_side", "gpu"),
    *_figures("energy", Energy, "energy"),
    _absent("energy", "energy"),
    *_figures("cost", Cost, "cost"),
    _absent("cost", "cost"),
    Column("answers_pass", "of questions: alone, load or again", "answers.asked"),
    *_figures("answers", AnswersSide, "answers"),
    *_figures("answers.against", Against, "answers"),
)
BY_NAME = {column.name: column for column in SUMMARY_COLUMNS}

REPEATED_METRICS = (
    *("ttft", "ttfa", "tpot", "itl", "latency"),
    *("ttft_from_schedule", "ttfa_from_schedule", "latency_from_schedule"),
)
# The figures that are compared over a level's repeats.
REPEATED: tuple[RunColumn, ...] = (
    *(
        Column(f"{m}_p{q}_ms", f"p{q} of {m}_ms", f"distributions.{m}_ms.percentiles.{q}")
        for m in REPEATED_METRICS
        for q in (50, 95, 99)
    ),
    Column("requests_per_s", "successes per second in the steady window", "steady.requests_per_s"),
    Column(
        "output_tokens_per_s",
        "generated tokens per second in the steady window (the whole run where stamps are missing)",
        output_tokens_per_s,
    ),
    Column(
        "output_tokens_per_s_per_gpu",
        "generated tokens per second per GPU in the steady window",
        "cost.output_tokens_per_s_per_gpu",
    ),
    Column(
        "energy_per_output_token_j",
        "GPU energy per output token in the steady window, in joules",
        "energy.per_output_token_j",
    ),
)
