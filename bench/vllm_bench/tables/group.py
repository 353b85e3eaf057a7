"""Which figures the tables for people show: under which heading, in which cell, with which mark."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..figures.digits import needs, short, spread
from ..figures.metrics import IN_A_CELL
from ..records.text import ABSENT
from ..scenario.load import Unit
from ..summary.summary import RunSummary
from ..verdict.finding import Family
from ..verdict.verdict import Level


class Where(enum.Flag):
    """The tables for people. The report has one column per figure, others join some in a cell."""

    TERMINAL = enum.auto()
    MARKDOWN = enum.auto()
    RUNS = enum.auto()  # the report's, one row per run
    SERVER = enum.auto()  # the report's, samples of server and GPUs
    LEVELS = enum.auto()  # the report's, one row per level, over its repeats
    TEXT = TERMINAL | MARKDOWN


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring columns under one heading: the heading of each, and the column's name."""

    heading: str
    columns: Mapping[str, str]
    where: Where
    unit: Unit | None = None  # only for loads in this unit; None: for all
    joint: str = "/"  # between figures that share a cell
    percent: bool = False  # shares from 0 to 1, shown in %
    cell: Callable[[RunSummary], str] | None = None  # its text, if it isn't just the columns
    only_if: Callable[[RunSummary], bool] | None = None  # shown where it is true of a run
    unless_zero: bool = False  # every server tells it, and most have none

    @property
    def text_heading(self) -> str:
        """The heading of the cell that shows all of its figures; in one or two lines."""
        line = "\n" if len(self.columns) > 1 else " "
        return f"{self.heading}{line}{self.joint.join(self.columns)}".strip()


def thinks(run: RunSummary) -> bool:
    """Whether replies of the run had thoughts: without them TTFA is TTFT."""
    return run.thinking is not None


def has_engines(run: RunSummary) -> bool:
    """Whether the run's server has several engines."""
    return (run.server_said.engines or 0) > 1


def has_jobs(run: RunSummary) -> bool:
    """Whether requests of the run were turns of sessions."""
    return run.jobs is not None


def schedule(run: RunSummary) -> str:
    """Return the rate of the schedule, its cv, and the rate at which requests were sent."""
    rates, cv = run.arrival_rates, run.plan("realised_cv")
    spread = "" if cv is None else f" (cv {short(cv)})"
    meant = run.realised_rate or (rates.scheduled if rates else None)
    return f"{short(meant)}{spread} / {short(rates.sent if rates else None)}"


def in_flight(run: RunSummary) -> str:
    """Return the mean and the largest number of requests in flight."""
    return f"{run.in_flight.mean:.1f} / {run.in_flight.peak}" if run.in_flight else ABSENT


PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<percentile>\d+)_(?P<unit>m?s)")


def lacking(run: RunSummary, column: str) -> str:
    """Return why there is no such figure: `needs 368`, `not streamed`; nothing where unknown."""
    found = PERCENTILE.fullmatch(column)
    if found and f"{found['metric']}_{found['unit']}" in run.distributions:
        return needs(float(found["percentile"]))
    why = next((run.absent[m] for m in run.absent if column.startswith(m.removesuffix("ms"))), "")
    return IN_A_CELL.get(why, "no stamps") if why else ""


# ---- which tables show which figures ----

SCHEDULE = {"drawn": "realised_rate", "sent": "sent_rate"}


def _p(metric: str, *wanted: int) -> dict[str, str]:
    return {f"p{q}": f"{metric}_p{q}_ms" for q in wanted or (50, 95, 99)}


def _both(what: str) -> dict[str, str]:
    return {"window": f"window_{what}", "run": f"whole_run_{what}"}


def _mean_peak(what: str) -> dict[str, str]:
    return {"mean": f"{what}_mean", "peak": f"{what}_peak"}


def _seldom(heading: str, columns: Mapping[str, str], *, percent: bool = False) -> Group:
    """Return figures that every server tells, and that most have none of."""
    return Group(heading, columns, Where.SERVER, percent=percent, unless_zero=True)


def _spread(metric: str) -> Callable[[RunSummary], str]:
    return lambda run: spread(run.distributions.get(metric))


JOB_SERVED = {"p50": "job_served_p50_s", "p95": "job_served_p95_s"}
JOB = {"p50": "job_p50_s", "mean waits": "job_wait_mean_s"}
THINKING = {"p50": "thinking_p50_s", "p95": "thinking_p95_s"}
TEXT, MARKDOWN, RUNS = Where.TEXT, Where.MARKDOWN, Where.RUNS
SERVER, LEVELS = Where.SERVER, Where.LEVELS
ALL = TEXT | RUNS | LEVELS
OPEN: Unit = "requests/s"
CLOSED: Unit = "streams"

# In the order of each table. LEVELS takes columns of `REPEATED`, the other tables those above.
GROUPS: tuple[Group, ...] = (
    Group("figures", {"of": "requests_counted"}, MARKDOWN | RUNS),
    Group("requests/s", {"window": "window_requests_per_s"}, RUNS),
    Group("requests/s", {"window": "requests_per_s"}, LEVELS),
    Group(
        "output tokens/s",
        {"window": "window_output_tokens_per_s", "whole run": "whole_run_output_tokens_per_s"},
        RUNS,
    ),
    Group(
        "output tokens/s",
        {"window": "output_tokens_per_s", "per GPU": "output_tokens_per_s_per_gpu"},
        LEVELS,
    ),
    Group("schedule req/s", SCHEDULE, MARKDOWN, OPEN, " / ", cell=schedule),
    Group("TTFT ms from schedule", _p("ttft_from_schedule"), TEXT | RUNS | LEVELS, OPEN),
    Group("TTFA ms from schedule", _p("ttfa_from_schedule"), ALL, OPEN, only_if=thinks),
    Group("latency ms from schedule", _p("latency_from_schedule"), LEVELS, OPEN),
    Group("TTFT ms", _p("ttft"), TEXT | RUNS | LEVELS, CLOSED),
    Group("TTFA ms", _p("ttfa"), ALL, CLOSED, only_if=thinks),
    Group("thinking s", THINKING, TEXT | RUNS, only_if=thinks),
    Group("thinking", {"% of tokens": "thinking_token_share"}, RUNS, percent=True),
    Group("", {"unanswered": "unanswered"}, TEXT | RUNS, only_if=thinks),
    Group("job s", JOB, RUNS, only_if=has_jobs),
    Group("job s without waits", JOB_SERVED, RUNS, only_if=has_jobs),
    Group("jobs/h", {"": "jobs_per_h"}, RUNS, only_if=has_jobs),
    Group("TTFT ms from send", _p("ttft"), TEXT, OPEN),
    Group("TTFT ms from send", _p("ttft"), RUNS | LEVELS, OPEN),
    Group("latency ms from schedule", _p("latency_from_schedule"), TEXT, OPEN),
    Group("latency ms", _p("latency"), TEXT, CLOSED),
    Group("latency ms from send", _p("latency"), MARKDOWN, OPEN),
    Group("TPOT ms", _p("tpot"), TEXT | RUNS | LEVELS),
    Group("answer TPOT ms", _p("answer_tpot"), MARKDOWN | RUNS, only_if=thinks),
    Group("ITL ms", _p("itl"), MARKDOWN | RUNS | LEVELS),
    Group("latency ms from schedule", _p("latency_from_schedule"), RUNS, OPEN),
    Group("latency ms", _p("latency"), RUNS | LEVELS, CLOSED),
    Group("latency ms from send", _p("latency"), RUNS | LEVELS, OPEN),
    Group("worst gap", {"ms": "max_gap_worst_ms"}, MARKDOWN | RUNS),
    Group("schedule, requests/s", SCHEDULE, RUNS),
    Group("req/s", _both("requests_per_s"), TEXT, joint=" / "),
    Group("out tok/s", _both("output_tokens_per_s"), TEXT, joint=" / "),
    Group("total tok/s", _both("total_tokens_per_s"), MARKDOWN, joint=" / "),
    Group("user's tokens/s", {"p50": "user_speed_p50_tokens_per_s"}, RUNS),
    Group("goodput", {"req/s": "goodput_per_s"}, RUNS),
    Group("prompt tokens", {}, MARKDOWN, cell=_spread("prompt_tokens")),
    Group("of them", {"cached": "server_prefix_cache_hit_rate"}, MARKDOWN, percent=True),
    Group("output tokens", {}, MARKDOWN, cell=_spread("completion_tokens")),
    Group("in flight", _mean_peak("in_flight"), MARKDOWN, joint=" / ", cell=in_flight),
    Group("in flight", {"mean": "in_flight_mean"}, RUNS),
    Group("send lag ms", {"p99": "send_lag_p99_ms"}, MARKDOWN),
    Group("send lag", {"p99 ms": "send_lag_p99_ms"}, RUNS),
    Group(
        "mean tokens", {"prompt": "prompt_tokens_mean", "output": "completion_tokens_mean"}, RUNS
    ),
    Group("started", {"": "started_utc"}, MARKDOWN),
    Group(
        "TTFT, mean ms",
        {
            "client": "client_ttft_mean_ms",
            "server": "server_ttft_mean_ms",
            "between": "server_ttft_outside_ms",
        },
        SERVER,
    ),
    Group("queue", {"mean ms": "server_queue_mean_ms"}, SERVER),
    Group("queue", {"% of TTFT": "server_queue_share_of_ttft"}, SERVER, percent=True),
    Group("running", _mean_peak("server_running"), SERVER),
    Group("waiting", _mean_peak("server_waiting"), SERVER),
    Group("KV cache %", _mean_peak("server_kv_cache"), SERVER, percent=True),
    Group(
        "prefix cache",
        {
            "hits %": "server_prefix_cache_hit_rate",
            "wanted %": "prefix_wanted_share",
            "possible %": "prefix_possible_share",
            "served %": "prefix_served_share",
        },
        SERVER,
        percent=True,
    ),
    Group(
        "prefix tokens",
        {"in groups": "prefix_working_set_tokens", "in cache": "prefix_cache_tokens"},
        SERVER,
    ),
    Group("", {"preemptions": "server_preemptions"}, SERVER),
    Group(
        "engines",
        {
            "": "server_engines",
            "busiest / mean": "server_engine_balance",
            "idle": "server_engines_idle",
        },
        SERVER,
        only_if=has_engines,
    ),
    _seldom(
        "speculation",
        {"tokens a step": "server_spec_acceptance_length", "positions": "server_spec_by_position"},
    ),
    _seldom("speculation", {"accepted %": "server_spec_acceptance_rate"}, percent=True),
    _seldom(
        "prompt tokens",
        {
            "computed": "server_prompt_computed",
            "from its cache": "server_prompt_from_cache",
            "transferred": "server_prompt_from_transfer",
            "cached in": "server_cached_by_source",
        },
    ),
    _seldom("external cache", {"hits %": "server_external_hit_rate"}, percent=True),
    _seldom("KV moved", {"": "server_kv_moved"}),
    _seldom("waiting for room", _mean_peak("server_waiting_capacity")),
    _seldom("waiting, deferred", _mean_peak("server_waiting_deferred")),
    _seldom("requests", {"rejected": "server_rejected", "finished": "server_finished"}),
    _seldom("LoRA running", _mean_peak("server_lora_running")),
    _seldom("LoRA", {"adapters": "server_lora_adapters"}),
    _seldom("image cache", {"hits %": "server_mm_cache_hit_rate"}, percent=True),
    Group("GPUs", {"seen": "gpu_seen", "expected": "gpu_expected"}, SERVER),
    Group("GPU use %", {"mean": "gpu_utilization_mean_percent"}, SERVER),
    Group("power W", {"total": "gpu_power_total_w", "peak": "gpu_power_peak_w"}, SERVER),
    Group("heat °C", {"peak": "gpu_temperature_peak_c"}, SERVER),
    Group("SM clock MHz", {"mean": "gpu_sm_clock_mean_mhz"}, SERVER),
    Group("memory MB", {"peak": "gpu_memory_peak_mb"}, SERVER),
    Group("throttled", {"% of time": "gpu_throttled_share"}, SERVER, percent=True),
    Group("energy", {"J/token": "energy_per_output_token_j"}, SERVER | LEVELS),
    Group("energy", {"J/request": "energy_per_request_j", "J": "energy_window_j"}, SERVER),
    Group("energy", {"tokens/s/W": "output_tokens_per_s_per_w"}, SERVER),
    Group("output tokens/s", {"per GPU": "output_tokens_per_s_per_gpu"}, SERVER),
    Group("cost", {"per 1M tokens": "cost_per_million_output_tokens"}, SERVER),
)


def groups_of(where: Where, runs: Sequence[RunSummary]) -> list[Group]:
    """Return the groups that a table of these runs shows."""
    units = {run.load.unit for run in runs}
    of = (g for g in GROUPS if where in g.where and (g.unit is None or g.unit in units))
    return [g for g in of if g.only_if is None or any(map(g.only_if, runs))]


# ---- marks on figures that a doubt is about ----

# The run's word is in the verdict's column, and a doubt about all figures is said there alone: a
# mark is on those of a family of their own.
MARKS: dict[Level, str] = {"INVALID": "\N{BALLOT X}", "SUSPECT": "?"}
PATTERNS: tuple[tuple[Family, str], ...] = (  # of the columns of summary.csv, the first that fits
    ("TTFT", r"(client_)?ttft_(?!error)"),
    ("gaps", r"itl_|chunk_gap_|max_gap_"),
    ("GPUs", r"gpu_|energy_|output_tokens_per_s_per_w$"),
    (
        "pace",
        r"job_|jobs_|ttfa_|thinking_|answer_tpot_|tpot_|latency_|user_speed_|goodput_|cost_|(window_|whole_run_)?\w+_per_s",
    ),
)


def family_of(column: str) -> Family | None:
    """Return the family of a column's figures; None: none has it alone."""
    return next((family for family, form in PATTERNS if re.match(form, column)), None)


def word_on(runs: Sequence[RunSummary], column: str) -> Level:
    """Return the worst word on a column's figures by doubts about their family alone."""
    family = family_of(column)
    words = {run.verdict.alone(family) for run in runs} if family else set()
    return next((level for level in MARKS if level in words), "VALID")


def mark(runs: Sequence[RunSummary], column: str) -> str:
    """Return what stands behind a figure of these runs: ` ?`, ` ✗`, or nothing."""
    found = MARKS.get(word_on(runs, column))
    return f" {found}" if found else ""


def legend(runs: Sequence[RunSummary]) -> Iterator[str]:
    """Yield what each mark means, with the codes behind it."""
    doubts = [f for run in runs for f in run.verdict.findings if f.about != "all"]
    for level, sign in MARKS.items():
        of = (f"{f.about} ({f.code})" for f in doubts if f.severity.name == level)
        named = ", ".join(dict.fromkeys(of))
        if named:
            yield f"{sign}: {level} as to {named}"
