"""Two servers by turns: a visit starts one, throws a first run away, and makes the measured ones.

What becomes of each visit is on disk after each step (state.py), so whoever is interrupted, or
killed, goes on with the visits that aren't whole.
"""

from __future__ import annotations

import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import BenchError, UsageError
from ..launch.left_behind import Process
from ..launch.process import StartFailedError, StopFailedError
from ..machines.fleet.fleet import MachineMissedError
from ..records.beside.going_on import now
from ..records.request_record import RecordsError
from ..records.run_info import TO_THE_END, read_head, read_run_info, write_run_info
from ..records.text import printable
from ..run.session import Session
from ..scenario.load import levels_of
from ..scenario.scenario import Scenario
from .servers import SideServer, Up
from .sides import equal_settings
from .state import FOLDER, Attempt, State, write_state
from .visits import (
    FEWEST_FOR_A_WORD,
    Estimate,
    Side,
    Visit,
    of_pair,
    pair_seed,
    sending,
    thrown_away,
    time_left,
)

A_RUN_S = 4.0  # besides its sending: connections, the warm-up, the last replies
A_VISIT_S = 3.0  # besides its runs and the start: what is thrown away, and the end
SAY_AGAIN_S = 30.0  # between two lines on a server that isn't ready yet
TRIES = 2  # of a visit: a GPU's memory may not have been free yet
SAME = ("version", "system_fingerprint", "model_root")  # of all starts of one side


class VisitFailedError(BenchError):
    """A visit that can't be counted; the text says which side's, and why."""


class OtherServerError(VisitFailedError):
    """A server that isn't what was asked, or not the one of earlier visits: it won't change."""


class MakeSession(Protocol):
    """Returns the session of a visit, as the script makes its sessions."""

    def __call__(
        self,
        *,
        folder: Path,
        environ: Mapping[str, str],
        experiment: Mapping[str, Any],
        said: Mapping[str, Any] | None,
    ) -> Session: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an experiment is made with."""

    results: Path
    scenario: Scenario
    servers: Mapping[Side, SideServer]
    session: MakeSession
    environ: Mapping[str, str]
    wait_s: float  # for a server to be ready
    say: Callable[[str], None]  # prints a line for people
    measured: Callable[[Path], None]  # told of each run's rows


class Turns:
    """An experiment while it is made."""

    def __init__(self, means: Means, state: State) -> None:
        self.means = means
        self.state = state

    def estimate(self) -> Estimate:
        """Return how long the visits take that are left."""
        runs = sending(self.means.scenario)
        each_s = A_VISIT_S + runs.seconds + A_RUN_S * runs_of(self.means.scenario)
        ready = [a.ready_s for a in self.state.attempts if a.ready_s is not None]
        start_s = statistics.fmean(ready) if ready else None if self.state.restarted else 0.0
        runs = dataclasses.replace(runs, seconds=each_s)
        return time_left(self.state.left, self.state.seen_s(), runs, start_s)

    def plan_lines(self) -> Iterator[str]:
        """Yield what will be done, and how long it takes, for people."""
        state, left = self.state, self.state.left
        sides = ", ".join(f"{ab} {one.label} ({one.source})" for ab, one in state.sides.items())
        done = f"{len(state.whole)} of {state.visits} visits are whole; " if state.whole else ""
        order = " ".join(visit.side.upper() for visit in left)
        yield printable(f"{state.scenario}: {sides}", 1000)
        model = self.means.servers["a"].scenario(self.means.scenario).model
        if model != self.means.scenario.model:
            yield printable(f"note: the model is {model}, as it is served, not the scenario's")
        starts = f" and {len(left)} starts" if self.estimate().at_least and state.restarted else ""
        takes = f": {self.estimate().words}{starts}" if left else ""
        yield f"{done}visits to make: {order or 'none'}{takes}"
        if state.visits < FEWEST_FOR_A_WORD:
            yield f"note: figures and no word: that takes {FEWEST_FOR_A_WORD} visits or more"
        if equal_settings(self.means.servers):
            yield "note: A and B ask for the same, so what differs is chance"

    def make(self) -> State:
        """Make the visits that are left; return the state at the end.

        Raises VisitFailedError where one fails twice, MachineMissedError, UsageError, OSError,
        KeyboardInterrupt: what is whole stays so.
        """
        for server in self.means.servers.values() if self.state.left else ():
            server.check_port()
        self._note(self.state)
        for visit in self.state.left:
            for last in (False, True):
                self._uncount_earlier(visit)
                if self._tried(visit, last=last):
                    break
        return self.state

    def add(self, visits: int) -> None:
        """Add visits to those that are to be made."""
        self._note(self.state.model_copy(update={"visits": self.state.visits + visits}))

    def _note(self, state: State) -> None:
        self.state = state
        write_state(self.means.results, state)

    def _say(self, visit: Visit, words: str) -> None:
        where = f"visit {visit.number} of {self.state.visits}, {visit.side.upper()}"
        self.means.say(printable(f"{where} ({self.state.side(visit.side).label}): {words}", 1000))

    # ---- one visit ----

    def _tried(self, visit: Visit, *, last: bool) -> bool:
        """Make a visit; return whether it is whole. Raises what ends the experiment."""
        began_s = time.monotonic()
        seed = pair_seed(self.means.scenario.seed, self.state.turn, visit.pair)
        of = {"visit": visit.number, "side": visit.side, "pair": visit.pair, "seed": seed}
        attempt = Attempt.model_validate({**of, "began": now()})
        self._note(self.state.model_copy(update={"attempts": (*self.state.attempts, attempt)}))
        try:
            self._visited(visit, seed)
        except StopFailedError as e:
            self._note(self.state.with_last(status="failed", why=str(e)))
            raise  # the file still says which process it is
        except BenchError as e:
            lines = e.lines if isinstance(e, StartFailedError) else ()
            self._ended("failed", why=str(e), log=tuple(lines))
            if isinstance(e, UsageError):
                raise
            self._say(visit, f"failed: {e}")
            if isinstance(e, OtherServerError | MachineMissedError):
                raise
            if last:
                for line in lines:
                    self.means.say(f"  {line}")
                raise VisitFailedError(self._gave_up(visit, e)) from e
            self._say(visit, "is tried once more")
            return False
        except KeyboardInterrupt:
            self._ended("broken off", why="interrupted")
            raise
        self._ended("whole", took_s=time.monotonic() - began_s)
        more = self.state.left
        self._say(
            visit, f"whole; {self.estimate().words} left" if more else "whole; it was the last"
        )
        return True

    def _ended(self, status: str, **facts: object) -> None:
        self._note(self.state.with_last(status=status, **facts).model_copy(update={"server": None}))

    def _gave_up(self, visit: Visit, why: BenchError) -> str:
        side = visit.side.upper()
        does = "doesn't start" if isinstance(why, StartFailedError) else "can't be measured"
        return f"{side} {does}, tried {TRIES} times in visit {visit.number}: {why}"

    def _visited(self, visit: Visit, seed: int) -> None:
        """Bring the server up, throw a run away, make the measured ones, and take it down."""
        means, server = self.means, self.means.servers[visit.side]
        scenario = server.scenario(of_pair(means.scenario, self.state.side(visit.side).label, seed))
        if self.state.restarted:
            self._say(visit, f"starts; its log: {self._log(visit)}")
        with server.up(self._log(visit), means.wait_s, self._began, self._waiting(visit)) as up:
            self._note(self.state.with_last(ready_s=up.ready_s, server=dict(up.said or {})))
            self._check_settings(visit, up)
            self._throw_away(visit, scenario, up)
            self._measure(visit, scenario, up)

    def _log(self, visit: Visit) -> Path:
        """Return where the log of the visit's server goes: each try has its own."""
        tries = sum(a.visit == visit.number for a in self.state.attempts)
        again = f"-{tries}" if tries > 1 else ""
        name = f"visit{visit.number:02}-{visit.side}{again}.log"
        return self.means.results / FOLDER / self.state.id / name

    def _began(self, pid: int) -> None:
        self._note(self.state.model_copy(update={"server": Process.of(pid)}))

    def _waiting(self, visit: Visit) -> Callable[[float], None]:
        next_s = SAY_AGAIN_S

        def on_wait(waited_s: float) -> None:
            nonlocal next_s
            if waited_s >= next_s:
                next_s = (waited_s // SAY_AGAIN_S + 1) * SAY_AGAIN_S
                self._say(visit, f"isn't ready yet, {waited_s:.0f} of {self.means.wait_s:g} s")

        return on_wait

    def _check_settings(self, visit: Visit, up: Up) -> None:
        """Raise VisitFailedError where the server isn't what was asked; tell what nobody knows."""
        if up.wrong:
            source = self.state.side(visit.side).source
            raise OtherServerError(f"the server isn't what {source} asks: {'; '.join(up.wrong)}")
        first = not any(a.side == visit.side for a in self.state.attempts[:-1])
        for line in up.unchecked if first else ():
            self._say(visit, f"note: can't be checked: {line}")

    # ---- its runs ----

    def _throw_away(self, visit: Visit, scenario: Scenario, up: Up) -> None:
        """Make a short run whose rows go into a folder that is removed."""
        ready = "" if up.ready_s is None else f"ready after {up.ready_s:.1f} s; "
        first = not self.state.whole and up.ready_s is not None
        whole = f"; {self.estimate().words} for all visits" if first else ""
        runs = f"a run to throw away, then {runs_of(scenario)} to measure"
        self._say(visit, f"{ready}{runs}{whole}")
        with tempfile.TemporaryDirectory(prefix="vllm-bench-ab-") as folder:
            session = dataclasses.replace(
                self._session(visit, Path(folder), up),
                say=self._say_waiting,
                screen=io.StringIO(),
                telemetry_command=None,
                dcgm_url=None,
                tokens=False,
            )
            for rows, status in session.runs([thrown_away(scenario)]):
                session.check_machines()
                self._check_it_went_on(status, up)
                self._check_it_is_the_same(visit, rows)

    def _say_waiting(self, line: str) -> None:
        """Pass on that a server isn't there yet; the measured runs say all else again."""
        if line.startswith("waiting for "):
            self.means.say(line)

    def _measure(self, visit: Visit, scenario: Scenario, up: Up) -> None:
        """Make the visit's runs."""
        done: list[str] = []
        session = self._session(visit, self.means.results, up)
        for rows, status in session.runs([scenario]):
            done.append(rows.stem)
            self._note(self.state.with_last(run_ids=tuple(done)))
            self.means.measured(rows)
            session.check_machines()
            self._check_it_went_on(status, up)
            self._check_it_is_the_same(visit, rows)

    def _session(self, visit: Visit, folder: Path, up: Up) -> Session:
        experiment = {
            **{"kind": self.state.kind, "id": self.state.id},
            **{"side": self.state.side(visit.side).label, "visit": visit.number},
            **{"pair": visit.pair, "restarted": self.state.restarted, "ready_s": up.ready_s},
        }
        environ = self.means.servers[visit.side].environ(self.means.environ)
        return self.means.session(
            folder=folder, environ=environ, experiment=experiment, said=up.said
        )

    def _check_it_went_on(self, status: str, up: Up) -> None:
        if status == "interrupted":
            raise KeyboardInterrupt
        if up.ended:
            words = next(iter(up.last_lines()), "its log is empty")
            raise VisitFailedError(f"the server ended in the middle of its runs: {words}")
        if status not in TO_THE_END:
            raise VisitFailedError("a run broke off: the server turned every request away")

    def _check_it_is_the_same(self, visit: Visit, rows: Path) -> None:
        """Keep what the server said of itself; raise OtherServerError where it is another one."""
        said = _facts(rows)
        *earlier, last = self.state.attempts
        self._note(self.state.with_last(server={**last.server, **said}))
        whole = [a for a in earlier if a.side == visit.side and a.status == "whole"]
        for attempt in whole[:1]:
            for name, value in said.items():
                before = attempt.server.get(name, value)
                if before != value:
                    now_and_then = f"{printable(value, 100)}, and was {printable(before, 100)}"
                    raise OtherServerError(
                        f"{visit.side.upper()} isn't the server of visit {attempt.visit}: its "
                        f"{name} is {now_and_then}: what changed? Start anew, without --resume"
                    )

    # ---- visits that are made again ----

    def _uncount_earlier(self, visit: Visit) -> None:
        """Mark the runs of earlier tries, so that no comparison counts them with the new ones.

        By the runs themselves: a script that was killed had no time to note its last one.
        """
        if not any(attempt.visit == visit.number for attempt in self.state.attempts):
            return
        for path in self.means.results.glob("*.json"):
            with suppress(RecordsError):
                of = read_head(path).experiment
                if (of.get("id"), of.get("visit")) == (self.state.id, visit.number):
                    _uncount(path)


def runs_of(scenario: Scenario) -> int:
    """Return how many runs a visit has."""
    return scenario.repeats * len(levels_of(scenario))


def _facts(rows: Path) -> dict[str, Any]:
    """Return what each start of one side has to have in common, as a run of it tells."""
    with suppress(RecordsError):
        server = read_run_info(rows.with_suffix(".json")).server
        return {name: server[name] for name in SAME if server.get(name) is not None}
    return {}


def _uncount(path: Path) -> None:
    with suppress(RecordsError):
        info = read_run_info(path)
        if not info.experiment.get("made_again"):
            experiment = {**info.experiment, "made_again": True}
            write_run_info(path, dataclasses.replace(info, experiment=experiment))
