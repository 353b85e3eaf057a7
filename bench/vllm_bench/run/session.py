"""All runs of one call of bench.py: prepared together, then made one after the other."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ..crew.ending import Enough
from ..crew.judged import Kept, RunFiles
from ..crew.result import RunResult
from ..crew.runner import run_plan
from ..crew.started import started_by, workers_for
from ..crew.watch import Watch
from ..crew.worker import RunError
from ..interrupts import Interrupts
from ..live.progress import Progress, Title
from ..live.view import progress_view
from ..machines.fleet.fleet import Fleet
from ..plan.dry_run import dry_run_lines, length_of, write_plan
from ..plan.plan import Plan
from ..records.run_files import written_files
from ..records.run_info import TO_THE_END, ClockPair, RunInfo, RunStatus, write_run_info
from ..records.safe_file import locked
from ..records.text import printable
from ..scenario.load import rows_expected
from ..scenario.scenario import Scenario
from ..vllm.server import page_getter
from ..watch.profile import Profile
from ..watch.samplers import Samplers, Wanted
from .fetched import fetch_kept, say_unasked
from .folder import check_folder, leaving_no_empty, mark_left_behind, remove_empty, remove_run
from .info import ended_info, planned_info
from .prepare import (
    Job,
    TooLongError,
    api_key_of,
    check_files,
    plans_for,
    prepared,
    proxy_note,
    read_files,
    server_of,
)
from .resume import complete_runs, continued

OnWait = Callable[[float, str], bool]  # seconds waited, and why; False: give up

SAMPLE_LIMIT_S = 5.0  # a reading that takes longer belongs to no definite moment
BROKEN_OFF_S = 0.5  # for samplers to end where nothing was measured
ENDING_S = 30.0  # the same of a run that was interrupted: its last readings, a profile's files
SAY_AGAIN_S = 10.0  # between two lines on a server that isn't ready yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Where the runs of one call are written, how they are sent, and what is sampled."""

    environ: Mapping[str, str]
    interrupts: Interrupts
    say: Callable[[str], None]  # prints a line for people
    screen: TextIO  # where the live view is drawn, or its lines
    plain: bool  # lines on a terminal too
    folder: Path
    resume: bool = False  # leave out the runs that are complete in the folder
    wait_s: float  # how long to wait for a server
    give_up_s: float  # how long a server may turn every request away, before the run is ended
    workers: int | None = None  # sending processes; None: as many as suit the load and the cores
    fleet: Fleet | None = None  # machines that send; None: processes of this one do
    tokens: bool = True  # write each token's stamp
    server_metrics: bool = True
    telemetry_command: str | None = None
    dcgm_url: str | None = None
    profile_s: float | None = None  # of each run, for which the server profiles itself
    traced: bool = False  # send a traceparent with each request
    each_alone: bool = False  # after a run of classes one of each class without the others
    texts: bool = False  # write what answers to questions say
    experiment: Mapping[str, Any] = field(default_factory=dict)  # of which its runs are a part
    enough: Callable[[Plan], Enough] | None = None  # when a run may end early; None: never
    said: Mapping[str, Any] | None = None  # settings in force, as whoever started the server knows
    _said: set[str] = field(default_factory=set)
    # By which all runs of this call are known as one session.
    _id: str = field(default_factory=lambda: f"{_now()}-{secrets.token_hex(4)}")

    def dry_run(self, scenario: Scenario) -> Iterator[str]:
        """Return what the scenario's runs would send; a server that doesn't answer isn't needed."""
        server = server_of(scenario, self.environ)
        why_not = server.why_not_ready()
        served = [] if why_not else server.models()
        asked = None if why_not else server
        alone = self.each_alone
        plans = plans_for(scenario, asked, self.environ, served, each_alone=alone)
        rows: list[Path | None] = [None] * len(plans)
        if not why_not:
            rows = self._complete([Job(scenario, server, served, plans)])
        elif self.resume:
            self._say_once("without their server it is unknown which runs are complete")
        return dry_run_lines(scenario, plans, why_not, rows)

    def runs(self, scenarios: Sequence[Scenario]) -> Iterator[tuple[Path, RunStatus]]:
        """Make each run that isn't complete yet; yield the rows of each, and how it ended.

        Everything is checked before the first request. After a run that breaks off none follows.
        Raises BenchError, OSError.
        """
        for scenario in scenarios:  # before waiting for any server
            api_key_of(scenario, self.environ)
            check_files(scenario)
        with leaving_no_empty(self.folder), ExitStack() as connections:
            jobs = self._prepared(scenarios)
            for job in jobs:
                connections.callback(job.server.close)
            wanted = [(job, plan) for job in jobs for plan in job.plans]
            runs = "1 run" if len(wanted) == 1 else f"{len(wanted)} runs"
            self.say(f"{runs}: {length_of([plan for _, plan in wanted])}")
            complete = self._complete(jobs)
            self._say_idle([p for (_, p), r in zip(wanted, complete, strict=True) if r is None])
            ids = self._sessions(jobs, complete)
            for number, ((job, plan), rows) in enumerate(zip(wanted, complete, strict=True), 1):
                if rows is not None:
                    self.say(f"[{number}/{len(wanted)}] {rows.stem} is complete: not run again")
                    yield rows, "complete"
                    continue
                self._check_there()  # before the run's files are made
                own = dataclasses.replace(self, _id=ids[plan.scenario.name])
                named = dataclasses.replace(self._named(plan), session=own._id)
                try:
                    status = own._run(job, named, number, len(wanted))
                except KeyboardInterrupt:  # before the first request
                    remove_run(self.folder, named.run_id)
                    raise
                finally:
                    self.interrupts.break_off_again()
                    remove_empty(self._plan_file(named))  # of a run that wasn't even planned
                yield self._rows(named), status
                if status not in TO_THE_END or (self.fleet and self.fleet.missed):
                    return

    def _check_there(self) -> None:
        """Raise KeyboardInterrupt where a signal came, RunError where a machine isn't there."""
        self.interrupts.check()
        if self.fleet:
            self.fleet.check_there()

    def check_machines(self) -> None:
        """Raise MachineMissedError where a machine was lost: the runs aren't whole then."""
        if self.fleet and self.fleet.missed:
            self.fleet.check_there()

    def _say_idle(self, plans: Sequence[Plan]) -> None:
        """Say which machines have nothing to send of some of these."""
        if self.fleet is None:
            return
        for plan in plans:
            if idle := self.fleet.idle(plan):
                load = f"{plan.scenario.name}, {plan.words}"
                self._say_once(
                    f"{load}: too small for all machines: nothing comes from {', '.join(idle)}"
                )

    def _prepared(self, scenarios: Sequence[Scenario]) -> list[Job]:
        check_folder(self.folder, (1 + self.each_alone) * sum(map(rows_expected, scenarios)))
        for proxy in filter(None, (proxy_note(s, self.environ) for s in scenarios)):
            self._say_once(proxy)
        if self.fleet:
            fetch_kept(self.folder, self.fleet.machines, self._say_once)
        for path in mark_left_behind(self.folder):
            self.say(f"note: {path.stem}: it ended without a last word: marked as interrupted")
        if self.resume:
            say_unasked(self.folder, self.fleet.machines if self.fleet else (), self._say_once)
        jobs = list(self._that_fit(scenarios))
        if self.profile_s:
            for job in jobs:
                job.server.profile("stop")  # tells whether it could
        for job in jobs:
            for note in job.notes:
                self.say(printable(f"note: {job.scenario.name}: {note}", 500))
        return jobs

    def _that_fit(self, scenarios: Sequence[Scenario]) -> Iterator[Job]:
        """Yield the job of each scenario; one that is too long for its server is left out.

        Raises TooLongError where none fits.
        """
        too_long: list[TooLongError] = []
        for scenario in scenarios:
            try:
                on_wait, alone = self._on_wait(scenario, scenarios), self.each_alone
                yield prepared(scenario, self.environ, self.wait_s, on_wait, each_alone=alone)
            except TooLongError as e:
                too_long.append(e)
                self.say(f"left out: {e}")
        if len(too_long) == len(scenarios):
            raise too_long[0]

    def _on_wait(self, scenario: Scenario, every: Sequence[Scenario]) -> OnWait:
        """Return a function that prints every ten seconds that the server isn't ready yet."""
        next_s = 0.0

        def on_wait(waited_s: float, why: str) -> bool:
            nonlocal next_s
            for one in every if not next_s else ():  # nobody waits to hear of a mistake in a file
                read_files(one, self.environ)
            if waited_s >= next_s:
                next_s = (waited_s // SAY_AGAIN_S + 1) * SAY_AGAIN_S
                how_long = f"{waited_s:.0f} of {self.wait_s:g} s; --wait-s changes it"
                yet = f"no answer yet ({how_long}; Ctrl-C ends it)"
                self.say(printable(f"waiting for {scenario.base_url}: {yet}: {why}", 500))
            return True

        return on_wait

    def _complete(self, jobs: Sequence[Job]) -> list[Path | None]:
        """Return, for each run of each job, the rows of an equal complete run, if any."""
        if not self.resume:
            return [None for job in jobs for _ in job.plans]
        keys = [key for job in jobs for key in job.run_keys()]
        profiled = self.profile_s is not None
        found = complete_runs(self.folder, set(keys), self._say_once, profiled=profiled)
        return [found.get(key) for key in keys]

    def _sessions(self, jobs: Sequence[Job], complete: Sequence[Path | None]) -> dict[str, str]:
        """Return the session that each scenario's runs belong to, by its name.

        What a scenario lacks goes on with its own runs: answers under load are held against those
        alone of the same session.
        """
        newest, left = continued(complete) or self._id, iter(complete)
        of = {job.scenario.name: [next(left) for _ in job.plans] for job in jobs}
        return {name: continued(rows) or newest for name, rows in of.items()}

    def _named(self, plan: Plan) -> Plan:
        """Return the plan with a name that no other run has, and make its file, empty.

        Of two benches that start in one second only one can make it. Raises OSError.
        """
        while True:
            named = dataclasses.replace(plan, time_utc=_now(), traced=self.traced)
            # FileNotFoundError: another bench removed the folder that it left empty.
            with suppress(FileExistsError, FileNotFoundError):
                if not written_files(self.folder, named.run_id):
                    self._plan_file(named).parent.mkdir(exist_ok=True)
                    self._plan_file(named).touch(exist_ok=False)
                    return named
            time.sleep(0.2)  # names change once per second

    def _rows(self, plan: Plan) -> Path:
        return self.folder / f"{plan.run_id}.csv"

    def _plan_file(self, plan: Plan) -> Path:
        return self.folder / "plans" / f"{plan.run_id}.csv"

    def _run(self, job: Job, plan: Plan, number: int, total: int) -> RunStatus:
        self.say(f"[{number}/{total}] {plan.run_id}{self._senders_of(plan)}")
        samplers = self._samplers(job, plan)
        title = Title(number, total, plan.scenario.name, plan.words, plan.run_id)
        view = progress_view(self.screen, title, samplers.server_says, plain=self.plain)
        with ExitStack() as stack, view:

            def on_start(clock: ClockPair, _how: object) -> None:
                stack.enter_context(locked(self._rows(plan)))  # until its JSON says how it ended
                samplers.anchor(clock.monotonic_ns, clock.wall_s)

            stack.push(lambda kind, *_: self._left(samplers, kind))
            samplers.start()
            ctrl_c = self.interrupts

            def shown(progress: Progress) -> None:
                view.show(progress)
                samplers.look(0.0 if progress.phase else progress.share)

            enough = self.enough(plan) if self.enough else None
            watch = Watch(self._say_connected, on_start, shown, ctrl_c, self.give_up_s, enough)
            result = self._recorded(job, plan, watch, samplers)
        for note in result.notes:
            self.say(f"  {note}")
        # After a Ctrl-C during the last replies this run is complete, and no other one starts.
        return "interrupted" if self.interrupts() else result.status

    def _senders_of(self, plan: Plan) -> str:
        """Return in how many processes a plan is sent, for people; empty: in one."""
        workers = 1 if self.fleet else workers_for(plan, self.workers)
        return f" ({workers} sending processes)" if workers > 1 else ""

    def _recorded(self, job: Job, plan: Plan, watch: Watch, samplers: Samplers) -> RunResult:
        """Make one run and write its files. Raises RunError, OSError, KeyboardInterrupt.

        Plan and JSON are written before the first request (`status: running`), the JSON again
        at the end. A signal before anything was sent is a KeyboardInterrupt.
        """
        path = self._rows(plan).with_suffix(".json")
        info = begun = self._planned(job, plan)

        def on_start(clock: ClockPair, how: dict[str, Any]) -> None:
            nonlocal begun
            begun = dataclasses.replace(info, clock_start=clock, plan={**info.plan, **how})
            write_run_info(path, begun)
            watch.on_start(clock, how)

        write_plan(self._plan_file(plan), plan)
        write_run_info(path, info)
        kept = Kept(self.folder / "tokens" if self.tokens else None, self.texts)
        own = dataclasses.replace(watch, on_start=on_start)
        try:
            files = RunFiles(plan, self._rows(plan), kept)
            made_crew = self.fleet.crew if self.fleet else started_by(self.workers)
            result = run_plan(plan, files, made_crew, own)
        except (RunError, OSError) as e:
            notes = [*info.notes, str(e)]
            failed = dataclasses.replace(
                begun, status="failed", observed=self._stopped(samplers), notes=notes
            )
            write_run_info(path, failed)
            raise
        before = info.server_counters["before"]
        after = self._settled(job, before, result) if before else None
        ended = ended_info(info, plan, result, after, self._stopped(samplers))
        beside = [p for p in written_files(self.folder, plan.run_id) if p.parent != self.folder]
        names = [p.relative_to(self.folder).as_posix() for p in beside]
        write_run_info(path, dataclasses.replace(ended, files=names))
        if self.fleet:
            self.fleet.forget(plan.run_id, plan.session)
        return result

    def _planned(self, job: Job, plan: Plan) -> RunInfo:
        """Return what is known of a run before it, by the server as it is now."""
        before = job.server.counters()
        facts = job.server_facts()
        facts["settings"] = dict(self.said) if self.said else facts["settings"]
        return dataclasses.replace(
            planned_info(plan, facts, before, job.notes),
            session=self._id,
            experiment=dict(self.experiment),
            # If this process dies, it is known who has rows.
            client_health={"machines": self.fleet.names()} if self.fleet else {},
        )

    def _settled(
        self, job: Job, before: Mapping[str, float], result: RunResult
    ) -> dict[str, float] | None:
        """Return the server's counters once they have settled; None: somebody can't wait."""
        settle = partial(job.server.settled_counters, partial(_arrived, before, result))
        return self.interrupts.unless_asked(settle) if self.interrupts() < 2 else None

    def _left(self, samplers: Samplers, kind: object) -> None:
        # Broken off before the first request: nobody will read what was sampled.
        self._stopped(samplers, BROKEN_OFF_S if kind is KeyboardInterrupt else None)

    def _stopped(self, samplers: Samplers, limit_s: float | None = None) -> dict[str, Any]:
        """End the sampling; this limit, or a signal, ends the waiting for the last readings."""
        if limit_s is None and self.interrupts():
            limit_s = ENDING_S
        ending = threading.Thread(target=samplers.stop, daemon=True)
        ending.start()
        self.interrupts.unless_asked(partial(ending.join, limit_s))
        return dict(samplers.stop())

    def _samplers(self, job: Job, plan: Plan) -> Samplers:
        """Return the samplers of GPUs and server, which have their own connections."""
        scenario, limit_s = job.scenario, SAMPLE_LIMIT_S
        own = server_of(scenario, self.environ)
        wanted = Wanted(
            base_url=scenario.base_url,
            gpus=scenario.telemetry,
            gpu_hz=scenario.telemetry_hz,
            gpu_indexes=scenario.telemetry_gpus,
            server_is_here=job.server.on_this_machine(),
            command=self.telemetry_command,
            dcgm=page_getter(self.dcgm_url, limit_s) if self.dcgm_url else None,
            metrics=partial(own.metrics_text, limit_s) if self.server_metrics else None,
            profile=Profile(own.profile, self.profile_s) if self.profile_s else None,
            mask=own.masked,
        )
        return Samplers(wanted, self.folder, plan.run_id, self._say_once)

    def _say_connected(self, connected: int, problem: str | None) -> None:
        if problem:
            self.say(f"only {connected} streams could connect before the start: {problem}")

    def _say_once(self, line: str) -> None:
        """Print a note that is true for several runs, once."""
        if line not in self._said:
            self._said.add(line)
            self.say(f"note: {printable(line, 500)}")


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _arrived(before: Mapping[str, float], result: RunResult, counters: Mapping[str, float]) -> bool:
    """Return whether the server's counters have caught up with what the client saw."""
    name = "vllm:generation_tokens_total"
    seen = result.progress.completion_tokens + result.unmeasured.completion_tokens
    return counters.get(name, 0.0) - before.get(name, 0.0) >= seen
