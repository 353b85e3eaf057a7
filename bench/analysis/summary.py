"""What a run's rows say, as one value: the source of summary.csv, summary.md and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from loadgen.records import RunInfo

from .facts import Facts
from .in_flight import InFlight, in_flight
from .runs import Run
from .statistics import Distribution, describe
from .throughput import Throughput, throughput
from .verdict import Verdict, judge_facts

# Distributions over the successful requests. send_lag_ms, the client's own, is over all sent.
TIMES = ("ttft_ms", "latency_ms", "tpot_ms", "max_gap_ms")
LENGTHS = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed requests of one kind, with the words of the first."""

    kind: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run, summed up. `absent` says why a distribution that isn't there isn't."""

    run_id: str
    name: str  # the file's, without its ending
    scenario: str
    concurrency: int
    info: RunInfo | None
    requests: int
    succeeded: int
    errors: tuple[ErrorGroup, ...]
    distributions: Mapping[str, Distribution]
    absent: Mapping[str, str]
    throughput: Throughput | None
    in_flight: InFlight | None
    verdict: Verdict

    @property
    def success_rate(self) -> float | None:
        """Successes over all requests that ended, failures included; None where none did."""
        return self.succeeded / self.requests if self.requests else None

    def percentile(self, metric: str, percentile: float) -> float | None:
        """Return a metric's percentile; None: no such values, or too few."""
        found = self.distributions.get(metric)
        return found.percentile(percentile) if found else None

    def setting(self, key: str) -> Any:
        """Return a key of the scenario; None where it isn't known."""
        return self.info.scenario.get(key) if self.info else None

    def server(self, key: str) -> Any:
        """Return what the server said of itself under `key`; None where it isn't known."""
        return self.info.server.get(key) if self.info else None

    @property
    def simulated(self) -> bool:
        """Whether the server said that it is a simulator."""
        return bool(self.server("simulator"))

    @property
    def started_utc(self) -> str | None:
        """When the run started, as 2026-11-24T10:24:00Z; None where it isn't known."""
        if self.info is None:
            return None
        started = datetime.fromtimestamp(self.info.clock_start.wall_s, timezone.utc)
        return f"{started:%Y-%m-%dT%H:%M:%SZ}"


def summarize(run: Run) -> RunSummary:
    """Return the summary of a run. Pure: the same rows give the same figures at any time."""
    facts = Facts(run.frame, run.info)
    columns = {name: facts.values(name) for name in (*TIMES, *LENGTHS)}
    columns["send_lag_ms"] = facts.send_lag_ms
    found = {name: describe(values) for name, values in columns.items()}
    return RunSummary(
        run_id=run.run_id,
        name=run.path.stem,
        scenario=run.scenario,
        concurrency=run.concurrency,
        info=run.info,
        requests=facts.rows,
        succeeded=len(facts.succeeded),
        errors=_error_groups(facts),
        distributions={name: d for name, d in found.items() if d is not None},
        absent={name: _why_absent(facts, name) for name, d in found.items() if d is None},
        throughput=throughput(facts),
        in_flight=in_flight(run.frame),
        verdict=judge_facts(facts),
    )


def _error_groups(facts: Facts) -> tuple[ErrorGroup, ...]:
    """Return failures by kind, the commonest first."""
    kinds = facts.failures["error_kind"].fillna("unknown")
    messages = facts.failures["error"].fillna("")
    return tuple(
        ErrorGroup(str(kind), int(count), str(messages[kinds == kind].iloc[0]))
        for kind, count in kinds.value_counts().items()
    )


def _why_absent(facts: Facts, name: str) -> str:
    if name == "send_lag_ms":
        return "no request was sent"
    if facts.succeeded.empty:
        return "no request succeeded"
    if name in ("ttft_ms", "tpot_ms", "max_gap_ms") and not facts.streaming:
        return "stream: false, so a reply is one piece"
    return {
        "tpot_ms": "no reply had two tokens",
        "max_gap_ms": "no reply came in two reads",
    }.get(name, "the rows have no such value")


def sorted_summaries(summaries: list[RunSummary]) -> list[RunSummary]:
    """Return summaries by scenario, level and time."""
    return sorted(summaries, key=lambda s: (s.scenario, s.concurrency, s.started_utc or "", s.name))
