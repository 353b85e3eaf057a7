"""One start of a server with a configuration: ready, checked, warmed up, measured, stopped."""

from __future__ import annotations

import dataclasses
import io
import math
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BenchError, UsageError
from ..experiments.visits import of_pair, thrown_away
from ..launch.check import checked
from ..launch.env import Settings, settings_of
from ..launch.left_behind import Process
from ..launch.ports import is_free
from ..launch.process import ServerProcess, StartFailedError
from ..launch.refused import refused as launcher_refuses
from ..launch.said import said
from ..launcher import problem_with
from ..machines.fleet.fleet import MachineMissedError
from ..records.beside.going_on import now
from ..records.find_runs import load_run
from ..records.run_info import TO_THE_END
from ..records.text import printable
from ..run.prepare import TooLongError
from ..run.session import Session
from ..scenario.load import LoadLevel
from ..scenario.scenario import Scenario
from ..summary.summary import summarize
from ..verdict.verdict import headline
from .configurations import Configuration
from .searched import Wanted
from .step import Step, at_level
from .trials import LOGS, RUNS, Trial, in_force

HERE = "127.0.0.1"
THROWN = "thrown_away"  # the folder of the runs after a start, which nothing is told of
FIRST_PORT, PORTS = 18_800, 1_000  # where servers are put, so that .env's own stays free
PARTS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """How servers are started and measured, one after the other."""

    tuning_id: str
    folder: Path
    base: Mapping[str, str] = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    session: Session  # in whose manner runs are made
    say: Callable[[str], None]
    ready_limit_s: float
    wanted: Wanted | None = None  # in full a search, in the place of the scenario's levels
    host: str = HERE  # where servers listen: machines that send must reach them

    def make(self, step: Step, began: Callable[[Process], None]) -> Trial:
        """Make one start with its runs; what fails is told in the trial.

        `began` gets the server's process as it is there.

        Raises UsageError, MachineMissedError where nothing would be otherwise with another
        configuration, StopFailedError where the next one would have it beside itself, OSError,
        KeyboardInterrupt.
        """
        time_utc, began_s = now(), time.monotonic()
        log = self.folder / LOGS / f"{_name(step)}.log"
        server = ServerProcess(self.settings(step.configuration), log)
        trial = Trial(
            stage=step.stage,
            configuration=step.configuration.name,
            label=step.configuration.label,
            visit=step.visit,
            pair=step.pair,
            settings=dict(step.configuration.settings),
            began=time_utc,
            took_s=0.0,
        )
        try:
            with server:
                assert server.pid is not None
                began(Process.of(server.pid))
                trial = self._on(server, step, trial)
        except StartFailedError as e:
            trial = _failed(trial, str(e), e.lines)
        return trial.model_copy(update={"took_s": round(time.monotonic() - began_s, 3)})

    def settings(self, configuration: Configuration) -> Settings:
        """Return what a configuration's server is started with, on a port that is free."""
        where = {"HOST": self.host, "PORT": str(_free_port(self.host))}
        values = {**configuration.started_with(self.base), **where}
        return settings_of(Path(configuration.name), values, self.environ)

    def _on(self, server: ServerProcess, step: Step, trial: Trial) -> Trial:
        """Measure on a server from its start on. Raises BenchError."""
        ready_s = server.ready(self.ready_limit_s)
        with closing(server.server()) as control:
            told = said(control, server.log)
            names = [model.id for model in control.models()]
        trial = trial.model_copy(update={"ready_s": round(ready_s, 3), "server": in_force(told)})
        self.say(f"  ready in {ready_s:.1f} s")
        if wrong := checked(server.settings, told).wrong:
            return _failed(trial, f"not what was asked: {'; '.join(wrong)}", [])
        scenario = self._for(server.settings, step, names, told)
        own = self._knowing(server.settings, told)
        try:
            return own._measured(server, step, trial, scenario)
        except BenchError as e:
            if isinstance(e, UsageError | MachineMissedError) and not isinstance(e, TooLongError):
                raise  # it is so with every configuration
            return _failed(trial, str(e), server.last_lines())

    def _knowing(self, settings: Settings, told: Mapping[str, Any]) -> Starts:
        """Return it with the settings in force, and the key that this server wants."""
        environ = {**self.session.environ, **settings.key}
        session = dataclasses.replace(self.session, environ=environ, said=told)
        return dataclasses.replace(self, session=session)

    def _measured(
        self, server: ServerProcess, step: Step, trial: Trial, scenario: Scenario
    ) -> Trial:
        """Warm a server up that is what was asked, and measure. Raises BenchError."""
        self._throw_away(scenario)
        ready_s = trial.ready_s or 0.0
        if self.wanted is not None and step.stage == "full":
            highest, shown = self.wanted.search(scenario, self.session, self._aside)
            return trial.model_copy(update={"capacity": highest, "run_ids": shown})
        run_ids, why = self._runs(scenario, self.folder / RUNS, self._experiment(step, ready_s))
        found = trial.model_copy(update={"run_ids": tuple(f"{RUNS}/{one}" for one in run_ids)})
        return found if why is None else _failed(found, why, server.last_lines())

    def _for(
        self, settings: Settings, step: Step, served: list[str], told: Mapping[str, Any]
    ) -> Scenario:
        """Return the scenario as it is sent to this server."""
        scenario = settings.reached_by(step.scenario)
        if "TENSOR_PARALLEL_SIZE" in settings.values and scenario.gpus is None:
            # Else those that are sampled would count, which may be all of the machine's.
            scenario = scenario.model_copy(update={"gpus": gpus_said(told)})
        model = scenario.model if scenario.model in served or not served else served[0]
        served_one = scenario.model_copy(update={"model": model})
        return of_pair(served_one, step.configuration.label, scenario.seed)

    def _runs(
        self, scenario: Scenario, folder: Path, experiment: dict[str, Any]
    ) -> tuple[list[str], str | None]:
        """Make a scenario's runs; return their ids, and why they aren't whole; None: they are.

        Raises BenchError, OSError, and KeyboardInterrupt where a signal came.
        """
        own = dataclasses.replace(self.session, folder=folder, experiment=experiment)
        found, why = _made(own, scenario)
        if folder.name == RUNS and why is None and scenario.repeats == 1:
            found = [self._again(own, scenario, rows) for rows in found]
        return [rows.stem for rows in found], why

    def _again(self, session: Session, scenario: Scenario, rows: Path) -> Path:
        """Return the rows of a run; of an INVALID one those of another try, if that is sound.

        What spoils a run is mostly the client, or somebody beside it: that tells nothing of the
        configuration. Raises BenchError, OSError, KeyboardInterrupt.
        """
        summary = summarize(load_run(rows))
        if summary.verdict.level != "INVALID":
            return rows
        self.say(f"  {rows.stem}: {headline(summary.verdict)}: measured once more")
        info = summary.info
        speed = summary.load.speed
        rate = summary.load.value if summary.load.is_open and speed is None else None
        level = LoadLevel(info.concurrency if info else None, rate, speed)
        (other, *_), why = _made(session, at_level(scenario, level))
        sound = why is None and summarize(load_run(other)).verdict.level != "INVALID"
        return other if sound else rows

    def _aside(self, line: str) -> None:
        self.say(f"  {line}")

    def _throw_away(self, scenario: Scenario) -> None:
        """Make a short run, of which nothing is told: what a server does first, it does once."""
        silent = dataclasses.replace(
            self.session, say=lambda _: None, screen=io.StringIO(), plain=True, tokens=False
        )
        own = dataclasses.replace(self, session=silent)
        own._runs(thrown_away(scenario), self.folder / THROWN, {})

    def _experiment(self, step: Step, ready_s: float) -> dict[str, Any]:
        turn = {"visit": step.visit, "pair": step.pair} if step.visit else {}
        return {
            **{"kind": "tune", "id": self.tuning_id, "side": step.configuration.name},
            **{"restarted": True, "ready_s": round(ready_s, 3), **turn},
        }


def _made(session: Session, scenario: Scenario) -> tuple[list[Path], str | None]:
    """Make a scenario's runs; return their rows, and why they aren't whole; None: they are.

    Raises BenchError, OSError, and KeyboardInterrupt where a signal came.
    """
    found = []
    for rows, status in session.runs([scenario]):
        if status == "interrupted":
            raise KeyboardInterrupt
        found.append(rows)
        session.check_machines()
        if status not in TO_THE_END:
            return found, f"{rows.stem} broke off"
    return found, None


def gpus_said(told: Mapping[str, Any]) -> int:
    """Return the GPUs of a server that says into how many parts it splits a model."""
    sizes = (str(told.get(name) or "") for name in PARTS)
    return math.prod(int(size) for size in sizes if size.isdecimal())


def refused(
    configuration: Configuration, base: Mapping[str, str], environ: Mapping[str, str]
) -> str | None:
    """Return what the launcher says against a configuration; None: it would start it."""
    values = configuration.started_with(base)
    if arguments := problem_with("EXTRA_ARGS", values.get("EXTRA_ARGS", "")):
        return f"EXTRA_ARGS: {arguments}"
    settings = settings_of(Path(configuration.name), values, environ)
    why = launcher_refuses(settings)
    return why and why.replace(" (from the environment)", "")


def _failed(trial: Trial, why: str, lines: list[str]) -> Trial:
    # The row has the configuration in a column of its own, and the page says where logs are.
    told = why.removeprefix(f"{trial.configuration}: ").partition("; log: ")[0]
    return trial.model_copy(update={"why": printable(told, 600), "log": tuple(lines)})


def _name(step: Step) -> str:
    turn = f"-{step.visit}" if step.visit else ""
    return f"{step.configuration.label}-{step.stage}{turn}"


def _free_port(host: str) -> int:
    """Return a port on which nobody listens, another one each time."""
    first = secrets.randbelow(PORTS)
    ports = (FIRST_PORT + (first + step) % PORTS for step in range(PORTS))
    found = next((port for port in ports if is_free(host, port)), None)
    if found is None:
        raise UsageError(f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1}")
    return found
