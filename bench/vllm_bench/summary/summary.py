"""All figures of a run as one value: the source of summary.csv, summary.md and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..answers.side import PASSES, AnswersSide, answers_side
from ..answers.together import with_answers_judged
from ..figures.attained import Attainment, attainment, tier_attainments, without
from ..figures.client import Reads, reads_of
from ..figures.facts import Facts
from ..figures.jobs.jobs import JobFigures, by_depth, job_figures
from ..figures.machines.side import MachineSide, machine_sides
from ..figures.metrics import METRICS, NO_SESSIONS, NO_THOUGHTS, headline_metric, why_absent
from ..figures.thoughts.thinking import ThinkingFigures, thinking_figures
from ..figures.throughput import (
    ArrivalRates,
    Service,
    Throughput,
    arrival_rates,
    service,
    shares_inside,
    throughput,
    window_throughput,
)
from ..figures.token_gaps import find_reads
from ..figures.window import Window
from ..records.beside.answers import read_answers
from ..records.beside.sample_file import read_gpu_rows, read_server
from ..records.find_runs import Run
from ..records.of_run import OfRun
from ..records.request_record import RecordsError
from ..records.row import doc
from ..records.run_info import RunInfo
from ..records.text import listed
from ..scenario.load import Load
from ..serverside.energy import Cost, Energy, cost, energy
from ..serverside.gpu import GpuSide, gpu_side
from ..serverside.ledger import cached_share
from ..serverside.prefix import PrefixShares, prefix_shares
from ..serverside.said import ServerSaid, server_said
from ..serverside.server import ServerSide, server_side
from ..stats.distribution import Distribution, Sample, describe, floats
from ..verdict.finding import Finding
from ..verdict.verdict import LEVELS, Verdict, verdicts
from .calibration import Calibration, read_sidecar, sidecar

T = TypeVar("T")
NO_GAPS = "the verdict on gaps is INVALID"


@dataclass(frozen=True, slots=True)
class Turn:
    """The successes of a run's turns at one depth; None where there is no such value."""

    turn: str  # its number from 1, or several; or after a long gap, whichever it is
    n: int
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    prompt_tokens_mean: float | None
    cached_share: float | None  # of the prompt tokens, where the replies report it


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed requests of one kind, with the message of the first."""

    kind: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class InFlightFigures:
    """How many requests were in flight; None where there was no steady window."""

    mean: float = doc("requests in flight on average over the whole run")
    peak: int = doc("the most requests in flight at one moment")
    window_mean: float | None = doc("requests in flight on average in the steady window")
    littles_law: float | None = doc(
        "request rate x mean latency of the counted requests / requests in flight, in the window; "
        "far from 1: no steady state"
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSummary(OfRun):
    """One run, summed up. `absent` says why a distribution is missing. Equal to itself alone."""

    run_id: str
    folder: Path  # where its files are
    name: str  # the file's, without its ending
    scenario: str
    concurrency: int | None  # None: an open loop
    info: RunInfo | None
    requests: int  # that ended, however they did
    counted: int  # of these: sent in the steady window; all where there is none
    succeeded: int
    errors: tuple[ErrorGroup, ...]
    samples: Mapping[str, Sample]  # of the counted successes, by metric
    distributions: Mapping[str, Distribution]
    absent: Mapping[str, str]
    load: Load
    window: Window | None
    steady: Throughput | None  # in the window
    throughput: Throughput | None  # over the whole run
    in_flight: InFlightFigures | None
    attainment: Attainment | None  # None: the scenario has no objectives
    tiers: Mapping[str, Attainment]  # of slo_tiers, in their order: they judge no run
    peak_output_tokens_per_s: float | None  # the most in any second counted from the start
    exact_tokens: bool | None  # whether each chunk's tokens are known; None: no stamps were kept
    verdict: Verdict
    machines: tuple[MachineSide, ...]  # that sent it; none: one did alone, or it is of a class
    arrival_rates: ArrivalRates | None  # of an open loop
    waited_for_cap: int | None  # requests; None: no cap
    cached_tokens: int | None  # of the successes' prompts; None: the replies don't report it
    answers_valid: float | None  # share of those that should have a form; None: none should
    turns: tuple[Turn, ...]  # of conversations
    jobs: JobFigures | None  # None: no sessions
    thinking: ThinkingFigures | None  # None: no counted success thought
    server_side: ServerSide  # from the server's own metrics
    prefix: PrefixShares  # what prompts have in common, and what of it was found
    server_said: ServerSaid  # what it says beyond its load
    gpu_side: GpuSide
    energy: Energy
    cost: Cost
    class_: str | None = None  # whose requests alone it sums up; None: those of all users
    classes: Mapping[str, RunSummary] = field(default_factory=dict)  # none: all users are alike
    service: Service | None = None  # what a class got; None: it isn't of a class, or not known
    calibration: Calibration | None = None  # the client's own error at this load, where measured
    answers: AnswersSide | None = None  # to questions; None: the prompts are none, or are missing

    @property
    def success_rate(self) -> float | None:
        """Successes over all requests that ended, failures included; None where none did."""
        return self.succeeded / self.requests if self.requests else None

    def percentile(self, metric: str, percentile: float) -> float | None:
        """Return a metric's percentile; None: no such values, or too few."""
        found = self.distributions.get(metric)
        return found.percentile(percentile) if found else None

    @property
    def realised_rate(self) -> float | None:
        """Requests per second of an open loop's schedule, as it was drawn; None where unknown."""
        return self.plan_number("realised_rate")

    @property
    def client_reads(self) -> Reads | None:
        """How the tokens were stamped and read; None where the run's JSON doesn't say."""
        return reads_of(self.info)

    def answered(self, answers: AnswersSide | None, verdict: Verdict) -> RunSummary:
        """Return the summary with answers that were judged with others', and its verdict then."""
        return replace(self, answers=answers, verdict=verdict)

    @property
    def prompts_sha256(self) -> object:
        return self.info.prompts.get("sha256") if self.info else None

    @property
    def began_s(self) -> float:
        """When the run started, in seconds since 1970, to sort by; 0.0 where it isn't known.

        Not `started_utc`: two short runs may have the same second.
        """
        return self.info.clock_start.wall_s if self.info else 0.0

    @property
    def started_utc(self) -> str | None:
        """When the run started, as 2026-11-24T10:24:00Z; None where it isn't known."""
        return self.started("%Y-%m-%dT%H:%M:%SZ")

    def started(self, form: str) -> str | None:
        """Return when the run started, in UTC, in a format of strftime's."""
        if self.info is None:
            return None
        return datetime.fromtimestamp(self.info.clock_start.wall_s, timezone.utc).strftime(form)


def facts_of(run: Run) -> Facts:
    """Return a run's facts, with its tokens' stamps and its samples.

    Those that can't be believed are left out, and told in the run's `problems`.
    """
    known = len(run.problems)
    found = _told(
        run, partial(find_reads, run.path, run.frame, Facts(run.frame, run.info).succeeded)
    )
    reads, absent = found or (None, " ".join(run.problems[known:]))
    gpu_rows = _told(run, partial(read_gpu_rows, run.path, run.info))
    server_rows, said = _told(run, partial(read_server, run.path, run.info)) or (None, None)
    return Facts(run.frame, run.info, reads, absent, gpu_rows, server_rows, said)


def _told(run: Run, read: Callable[[], T | None]) -> T | None:
    """Return what is read of a run; None where it can't be, which is told."""
    try:
        return read()
    except RecordsError as e:
        run.problems.append(str(e))
        return None


def summarize(run: Run, facts: Facts | None = None) -> RunSummary:
    """Return the summary of a run; `facts`, where known, saves reading its files again."""
    facts = facts or facts_of(run)
    verdict, of_each = verdicts(facts)
    classes = {
        # All tables and charts have a run's classes at the run's level of load.
        name: replace(_summary(run, part, of_each[name]), load=facts.load)
        for name, part in facts.classes.items()
    }
    found = _summary(run, facts, verdict)
    measured = _told(run, partial(read_sidecar, sidecar(run.path.parent, run.path.stem)))
    answers = _told(run, partial(_answers, run))
    return replace(found, classes=classes, calibration=measured, answers=answers)


def _summary(run: Run, facts: Facts, verdict: Verdict) -> RunSummary:
    """Return the figures of a run, or of one of its classes."""
    samples = {metric.name: metric.sample(facts) for metric in METRICS}
    found = {name: sample.described() for name, sample in samples.items()}
    reads, steady = facts.reads, window_throughput(facts, facts.window)
    return RunSummary(
        run_id=run.run_id,
        folder=run.path.parent.resolve(),
        name=run.path.stem,
        scenario=run.scenario,
        concurrency=None if facts.load.is_open else int(facts.load.value),
        info=facts.info,
        requests=facts.rows,
        counted=len(facts.counted_rows),
        succeeded=len(facts.succeeded),
        errors=_error_groups(facts),
        samples=samples,
        distributions={name: d for name, d in found.items() if d is not None},
        absent=_absent(facts, found),
        load=facts.load,
        window=facts.window,
        steady=steady,
        throughput=throughput(facts),
        in_flight=_in_flight(facts),
        attainment=attainment(facts),
        tiers=_believed(tier_attainments(facts), verdict),
        peak_output_tokens_per_s=None if reads is None else reads.peak_per_s,
        exact_tokens=None if reads is None else reads.exact,
        verdict=verdict,
        machines=tuple(machine_sides(facts)),
        arrival_rates=arrival_rates(facts.frame) if facts.load.is_open else None,
        waited_for_cap=None if facts.cap is None else int(facts.waited_for_cap.sum()),
        cached_tokens=facts.total("cached_tokens") if facts.values("cached_tokens").size else None,
        class_=facts.class_name,
        service=service(facts),
        turns=_turns(facts),
        answers_valid=_answers_valid(facts),
        thinking=thinking_figures(facts.frame.of(facts.measured)),
        **_of_the_server(facts, steady),
    )


def _of_the_server(facts: Facts, steady: Throughput | None) -> dict[str, Any]:
    """Return what server and GPUs did, by their own figures, and what was done for each GPU."""
    gpus = gpu_side(facts)
    costs = cost(facts, gpus, steady)
    return {
        "server_side": server_side(facts),
        "server_said": server_said(facts),
        "prefix": prefix_shares(facts),
        "gpu_side": gpus,
        "energy": energy(facts, gpus, steady),
        "cost": costs,
        "jobs": _jobs(facts, costs.gpus),
    }


def _absent(facts: Facts, found: Mapping[str, Distribution | None]) -> dict[str, str]:
    """Return why metrics are missing; those of thoughts and jobs aren't where there were none."""
    why = {name: why_absent(facts, name) for name, d in found.items() if d is None}
    return {name: r for name, r in why.items() if r not in (NO_THOUGHTS, NO_SESSIONS)}


def _believed(tiers: Mapping[str, Attainment], verdict: Verdict) -> dict[str, Attainment]:
    """Return tiers whose objectives on gaps count as not measured where gaps are INVALID.

    In slo such an objective makes the run itself INVALID; a tier judges no run.
    """
    if verdict.of("gaps") != "INVALID":
        return dict(tiers)
    return {name: without(found, "max_gap_ms", NO_GAPS) for name, found in tiers.items()}


def _answers_valid(facts: Facts) -> float | None:
    known = floats(facts.succeeded["answer_valid"])
    return float(known.mean()) if known.size else None


def _in_flight(facts: Facts) -> InFlightFigures | None:
    flight, window = facts.flight, facts.window
    if flight is None:
        return None
    if window is None:
        return InFlightFigures(flight.mean, flight.peak, None, None)
    in_window = flight.mean_between(window.start_s, window.end_s)
    return InFlightFigures(flight.mean, flight.peak, in_window, _littles_law(facts, in_window))


def _littles_law(facts: Facts, in_window: float) -> float | None:
    """Return rate x mean latency / in flight; None where nothing was in flight in the window."""
    rows = facts.frame.of(facts.frame.has("t_sent_s"))
    counted = facts.counted_rows
    latency_s = floats(counted["t_end_s"] - counted["t_sent_s"])
    if facts.window is None or not in_window or not latency_s.size:
        return None
    per_s = float(shares_inside(rows, facts.window).sum()) / facts.window.length_s
    return per_s * float(latency_s.mean()) / in_window


def _jobs(facts: Facts, gpus: int | None) -> JobFigures | None:
    counts = facts.info.sessions if facts.info else {}
    own = counts if facts.class_name is None else {}  # those of one class aren't told apart
    return job_figures(facts.jobs, facts.counted, facts.window, gpus, own)


def _turns(facts: Facts) -> tuple[Turn, ...]:
    depths = by_depth(facts.frame).items()
    found = {depth: facts.measured & which for depth, which in depths}
    return tuple(_turn(facts, depth, which) for depth, which in found.items() if which.any())


def _turn(facts: Facts, turn: str, which: NDArray[np.bool_]) -> Turn:
    rows = facts.frame.of(which)
    ttft = describe(floats(facts.times(headline_metric("ttft_ms", facts.load))[which]))
    tokens = floats(rows["prompt_tokens"])
    return Turn(
        turn=turn,
        n=len(rows),
        ttft_p50_ms=ttft.percentile(50) if ttft else None,
        ttft_p95_ms=ttft.percentile(95) if ttft else None,
        prompt_tokens_mean=float(tokens.mean()) if tokens.size else None,
        cached_share=cached_share(rows),
    )


def _error_groups(facts: Facts) -> tuple[ErrorGroup, ...]:
    """Return failures by kind, the commonest first."""
    kinds = facts.failure_kinds
    messages = facts.failures["error"].tolist()
    return tuple(
        ErrorGroup(kind, count, messages[kinds.index(kind)] or "")
        for kind, count in Counter(kinds).most_common()
    )


def _answers(run: Run) -> AnswersSide | None:
    found = run.info.plan.get("quality") if run.info else None
    asked = next((p for p in PASSES if found and found.get("pass") == p), None)
    rows = read_answers(run.path) if asked else None
    return answers_side(rows, asked) if asked and rows is not None else None


def with_classes(summaries: Iterable[RunSummary]) -> list[RunSummary]:
    """Return each run, and after it its classes."""
    return [part for run in summaries for part in (run, *run.classes.values())]


def sorted_summaries(summaries: Sequence[RunSummary]) -> list[RunSummary]:
    """Return summaries by scenario, level and time, answers judged."""
    return sorted(
        with_answers_judged(summaries),
        key=lambda s: (s.scenario, s.load, s.began_s, s.name),
    )


def headline(summaries: Sequence[RunSummary]) -> str:
    """Return how many runs got which verdict: `2 VALID, 1 SUSPECT`."""
    counts = Counter(s.verdict.level for s in summaries)
    return ", ".join(f"{counts[level]} {level}" for level in LEVELS.values() if counts[level])


def shared_notes(summaries: Sequence[RunSummary]) -> list[tuple[Finding, str]]:
    """Return the notes, each once, with the names of the runs that have it."""
    of: dict[Finding, list[str]] = {}
    for summary in summaries:
        for note in summary.verdict.notes:
            of.setdefault(note, []).append(summary.run_id)
    return [(note, named(runs, len(summaries))) for note, runs in of.items()]


def named(runs: Sequence[str], every: int) -> str:
    """Return `every run`, or the runs' names."""
    if len(runs) == every > 1:
        return "every run"
    return listed(runs)
