"""A scenario on its server: made ready once, then run by run.

Everything that can be wrong before the first request is found while the job is prepared.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..plan.material import Part, prompts_seed
from ..plan.plan import Plan, make_plan, plan_facts, plan_sha256, run_id_for, write_plan
from ..plan.timetable import schedule_seed
from ..records.run_info import ClockPair, RunInfo, write_run_info
from ..records.same_run import RunKey
from ..scenario.scenario import Scenario
from ..vllm.server import Model, Server
from .crew import RunError, workers_for
from .runner import Output, RunResult, Watch, run_plan
from .surroundings import client_facts, server_facts


class ModelNotServedError(UsageError):
    """The scenario's model isn't one of the server's; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Job:
    """A scenario, the server that it goes to, what that serves, and its runs."""

    scenario: Scenario
    server: Server
    api_key: str | None
    served: Sequence[Model]
    parts: Sequence[Part]  # its runs, in their order

    @property
    def model(self) -> Model:
        """The scenario's model as the server describes it."""
        return next(m for m in self.served if m.id == self.scenario.model)

    def keys(self) -> list[RunKey]:
        """Return what each run asks for: an equal one need not be made again."""
        s = self.scenario
        server = server_facts(self.server, self.served, s.model)
        return [
            RunKey.made(s.name, plan_sha256(s, part), part.repeat, s.masked(), server)
            for part in self.parts
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before believing the figures."""
        unverified = ("the server's TLS certificate is not verified (tls_verify: false)",)
        https = self.scenario.base_url.startswith("https")
        prompts = {note: None for part in self.parts for note in part.material.prompts.notes}
        return (
            *prompts,
            *_over_the_context(self),
            *(unverified if https and not self.scenario.tls_verify else ()),
        )


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run to be: its plan and its files."""

    plan: Plan
    part: Part
    folder: Path
    workers: int  # sending processes
    tokens: bool  # whether each token's stamp is kept

    @property
    def output(self) -> Output:
        """Where the requests go."""
        return Output(self.csv_path, self.folder / "tokens" if self.tokens else None, self.workers)

    @property
    def run_id(self) -> str:
        """The run's name, and its files'."""
        return self.plan.run_id

    @property
    def csv_path(self) -> Path:
        """The rows."""
        return self.folder / f"{self.run_id}.csv"

    @property
    def json_path(self) -> Path:
        """What the run was."""
        return self.folder / f"{self.run_id}.json"


def served_models(scenario: Scenario, server: Server) -> list[Model]:
    """Return what the server serves. Raises ModelNotServedError, ControlError."""
    served = server.models()
    if scenario.model in [m.id for m in served]:
        return served
    names = ", ".join(m.id for m in served) or "none"
    raise ModelNotServedError(
        f"scenario {scenario.name}: {scenario.base_url} does not serve the model "
        f"{scenario.model}; it serves {names}: set model in the file, or give --model"
    )


def _over_the_context(job: Job) -> tuple[str, ...]:
    """Say how many requests don't fit: the server refuses them, or silently cuts their replies."""
    limit, reply = job.model.max_model_len, job.scenario.max_new_tokens
    if limit is None or job.scenario.trace is not None:
        return ()
    sets = {id(part.material.prompts): part.material.prompts for part in job.parts}
    counted = [p for s in sets.values() if s.counted_by == "server" for p in s.prompts]
    over = sum(1 for p in counted if (p.tokens or 0) + reply > limit)
    if not over:
        return ()
    return (
        f"{over} of {len(counted)} prompts and {reply} new tokens are over the "
        f"server's max_model_len of {limit}: it refuses these or shortens their replies",
    )


@dataclass(frozen=True, slots=True)
class Style:
    """How runs are made, whatever they are."""

    folder: Path
    workers: int | None = None  # None: as many as suit the load and the cores
    tokens: bool = True


def plan_run(job: Job, part: Part, style: Style) -> PlannedRun:
    """Plan one of the job's runs, under a name that no file has yet."""
    while True:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        run_id = run_id_for(job.scenario, part.level, now)
        if not (style.folder / f"{run_id}.csv").exists():
            break
        time.sleep(0.2)  # the name's clock has seconds
    plan = make_plan(run_id, job.scenario, part, job.api_key)
    return PlannedRun(plan, part, style.folder, workers_for(plan, style.workers), style.tokens)


def run_planned(job: Job, level: PlannedRun, watch: Watch, repository: Path) -> RunResult:
    """Make one run and write its files. Raises RunError, OSError.

    Plan and JSON are there before the first request (`status: running`), the JSON whole at the
    end. What is returned is interrupted too where the end was asked for too late to cut it short.
    """
    before = job.server.counters()
    base = _base_info(job, level, before, repository)

    def on_start(clock: ClockPair) -> None:
        write_run_info(level.json_path, dataclasses.replace(base, clock_start=clock))
        watch.on_start(clock)

    write_run_info(level.json_path, base)
    write_plan(level.folder / "plans" / f"{level.run_id}.csv", level.part, level.plan)
    try:
        result = run_plan(level.plan, level.output, dataclasses.replace(watch, on_start=on_start))
    except (RunError, OSError) as e:
        failed = dataclasses.replace(
            base, status="failed", observed=watch.on_end(), notes=[*base.notes, str(e)]
        )
        write_run_info(level.json_path, failed)
        raise
    after = job.server.settled_counters(_arrived(before, result)) if before else None
    info = dataclasses.replace(
        base,
        status=result.status,
        clock_start=result.clock_start,
        clock_end=result.clock_end,
        server={**base.server, "system_fingerprint": result.fingerprint},
        server_counters={"before": before, "after": after},
        client_health=result.client_health,
        unmeasured=result.unmeasured.facts(),
        observed=watch.on_end(),
        notes=[*base.notes, *result.notes],
    )
    write_run_info(level.json_path, info)
    # Whoever asked for the end while the last replies came has a whole run, and wants no other.
    return dataclasses.replace(result, status="interrupted") if watch.interrupts() else result


def _base_info(
    job: Job, level: PlannedRun, before: dict[str, float] | None, repository: Path
) -> RunInfo:
    """Return what is known of the run before its start."""
    scenario, part, plan = job.scenario, level.part, level.plan
    prompts = part.material.prompts
    return RunInfo(
        run_id=level.run_id,
        status="running",
        scenario=scenario.masked(),
        concurrency=plan.level.concurrency,
        request_rate=plan.request_rate,
        num_requests=plan.measured,
        repeat=plan.repeat,
        plan=plan_facts(scenario, part),
        seeds={
            "scenario": scenario.seed,
            "prompts": prompts_seed(scenario, plan.repeat),
            "schedule": schedule_seed(scenario, plan.repeat),
        },
        prompts={
            "dataset": prompts.dataset,
            "sha256": prompts.sha256,
            "distinct": prompts.distinct,
            "max_uses": prompts.max_uses,
            "source_count": prompts.source_count,
            "counted_by": prompts.counted_by,
        },
        server=server_facts(job.server, job.served, scenario.model),
        server_counters={"before": before, "after": None},
        client=client_facts(repository),
        clock_start=ClockPair(wall_s=time.time(), monotonic_ns=time.perf_counter_ns()),
        notes=list(job.notes),
    )


def _arrived(before: dict[str, float], result: RunResult) -> Callable[[dict[str, float]], bool]:
    """Return whether the server's counters have caught up with what the client saw."""
    seen = result.progress.completion_tokens + result.unmeasured.completion_tokens

    def arrived(counters: dict[str, float]) -> bool:
        name = "vllm:generation_tokens_total"
        return counters.get(name, 0.0) - before.get(name, 0.0) >= seen

    return arrived
