"""Drives a search for the capacity: makes each run that it asks for, and keeps what it showed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..crew.ending import Enough
from ..errors import BenchError, UsageError
from ..figures.metrics import headline_metric
from ..plan.plan import Plan
from ..prompts.order import derive_seed
from ..records.beside.going_on import checksum, new_id
from ..records.find_runs import load_run
from ..records.run_info import RunInfo, read_run_info
from ..records.text import printable
from ..run.prepare import server_of
from ..run.session import Session
from ..scenario.load import STREAM_RATE, Load
from ..scenario.scenario import Scenario
from ..search.axis import Of, axis_of, objectives, scenario_at, space_of
from ..search.early import OVER, Counts
from ..search.judged import Run, judged
from ..search.kept import FOLDER, Search, Status, searches, write_search
from ..search.probe import Probe
from ..search.sizes import FEWEST_REQUESTS, Size, expected, run_s, size_of
from ..search.steps import FEWEST, SPOILT, Space, Step, next_step, stuck
from ..search.words import load_words, probe_words, step_words
from ..search.words import minutes as in_words
from ..vllm.page import read_page, together
from .sides import refuse_questions

REST_S, LOOK_S = 60.0, 0.5  # for the server to become idle, and between two looks
PAUSE_S = 5.0  # where it doesn't tell
AGAIN_S = 15.0  # after a run that answers nothing: what disturbed it may be over
ANSWERS = 9  # among the loads of a space, for the estimate
SPARE = 1.15  # of the time: a run that is begun is ended
# What all runs of a search have in common, as far as the server says.
SAME = ("version", "system_fingerprint", "model_root", "max_model_len", "settings")
# Of its settings not what each start measures: the memory that is free then.
MEASURED = ("num_gpu_blocks", "num_cpu_blocks", "kv_cache_size_tokens", "kv_cache_max_concurrency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to search, in which time."""

    scenario: Scenario
    of: Of
    space: Space
    minutes: float

    @property
    def budget_s(self) -> float:
        return 60 * self.minutes

    @property
    def checksum(self) -> str:
        """What is equal where another search can be gone on with."""
        settings = {k: v for k, v in self.scenario.masked().items() if k != "description"}
        return checksum([settings, self.of, repr(self.space)])


def asked_of(
    scenario: Scenario, of: Of | None, low: float | None, high: float | None, minutes: float
) -> Asked:
    """Return what to search. Raises UsageError."""
    refuse_questions(scenario)
    axis = axis_of(scenario, of)
    space = space_of(scenario, axis, low, high)
    least_s = FEWEST_REQUESTS / space.low
    if axis == "rate" and least_s > 60 * minutes:
        raise UsageError(
            f"--minutes {minutes:g}: at {space.low:g} requests/s the shortest run, of "
            f"{FEWEST_REQUESTS} requests, takes {in_words(least_s)}: give more, or another --low"
        )
    return Asked(scenario=scenario, of=axis, space=space, minutes=minutes)


# ---- how long it will take ----


def estimate_s(asked: Asked) -> tuple[float, float]:
    """Return how long a search takes at least and at most, by where in its space the answer lies.

    Without runs that are repeated, and without those that are ended early.
    """
    low, high = asked.space.low, asked.space.high
    answers = [low * (high / low) ** (n / (ANSWERS - 1)) for n in range(ANSWERS)]
    times_s = [sum(each for _, _, each in planned(asked, at)) for at in answers]
    return min(asked.budget_s, *times_s), min(asked.budget_s, max(times_s))


def planned(asked: Asked, answer: float) -> Iterator[tuple[Step, Size, float]]:
    """Yield the runs of a search with this answer, each with its size and its seconds."""
    for step in expected(asked.space, answer):
        size = size_of(step, asked.space, asked.budget_s, _per_s(asked, step, ()))
        yield step, size, run_s(size, _per_s(asked, step, ()))


def _per_s(asked: Asked, step: Step, probes: tuple[Probe, ...]) -> float:
    """Return how many requests a run gets in a second: of streams as in the run nearest to it."""
    if asked.of == "rate":
        return step.load
    known = [p for p in probes if p.per_s]
    nearest = min(known, key=lambda p: abs(p.load - step.load), default=None)
    return nearest.per_s if nearest and nearest.per_s else step.load * STREAM_RATE


# ---- the search ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Searching:
    """One search on one server, run by run. `kept` is called with the search after each."""

    asked: Asked
    session: Session  # in whose manner runs are made; its folder is that of the results
    say: Callable[[str], None]
    _said: set[str] = field(default_factory=set)  # notes, which are true for each of the runs

    def begun(self, *, resume: bool) -> Search:
        """Return the search to go on with, or a new one."""
        if resume:
            for found in searches(self.session.folder):
                if found.asked == self.asked.checksum and found.status != "done":
                    return self._again(found)
            self.say("no search of this scenario and range is left to go on with: a new one")
        return Search(
            id=f"{self.asked.scenario.name}-{new_id()}",
            asked=self.asked.checksum,
            scenario=self.asked.scenario.masked(),
            of=self.asked.of,
            space=self.asked.space,
            minutes=self.asked.minutes,
            estimate_s=estimate_s(self.asked),
            server={},
        )

    def _again(self, found: Search) -> Search:
        """Return a search to be gone on with; the last run that ended it answering nothing goes."""
        kept = found.probes[:-1] if stuck(found.probes) else found.probes
        return replace(found, status="going on", why=None, minutes=self.asked.minutes, probes=kept)

    def run(self, search: Search) -> Search:
        """Make runs until the search has its answer, or no time; return it as it is then.

        It is on disk after each run, however this ends. Raises BenchError, OSError,
        KeyboardInterrupt.
        """
        began_s = time.monotonic()
        try:
            while (step := self._step(search, began_s)) is not None:
                search = self._made(search, step, began_s)
                self._told(search)  # a signal that comes meanwhile finds the run in it
        except KeyboardInterrupt:
            self._end(search, began_s, "interrupted", "interrupted: --resume goes on")
            raise
        except (BenchError, OSError) as e:
            self._end(search, began_s, "failed", printable(e, 300))
            raise
        return self._end(search, began_s, *self._how(search))

    def _how(self, search: Search) -> tuple[Status, str | None]:
        if (why := stuck(search.probes)) is not None:
            return "stuck", f"{SPOILT} runs in a row answered nothing: {why}"
        if next_step(search.space, search.probes) is None:
            return "done", None
        return "out of time", (
            f"{self.asked.minutes:g} minutes were over: --minutes, or --resume, gives it more"
        )

    def _end(self, search: Search, began_s: float, status: Status, why: str | None) -> Search:
        took_s = search.took_s + time.monotonic() - began_s
        ended = replace(search, status=status, why=why, took_s=round(took_s, 1))
        if ended.probes:
            write_search(self.session.folder, ended)
        return ended

    def _step(self, search: Search, began_s: float) -> Step | None:
        """Return the next run for which there is time; None: there is none, or no need."""
        left_s = self.asked.budget_s - (time.monotonic() - began_s)
        step = next_step(search.space, search.probes)
        if step is None or not search.probes:
            return step
        confirm_s = FEWEST * self._seconds(search, replace(step, purpose="confirm"))
        if step.purpose == "close" and left_s < self._seconds(search, step) + confirm_s:
            step = next_step(search.space, search.probes, hurry=True)
        return step if step and self._seconds(search, step) < left_s * SPARE else None

    def _size(self, search: Search, step: Step) -> Size:
        per_s = _per_s(self.asked, step, search.probes)
        return size_of(step, search.space, self.asked.budget_s, per_s)

    def _seconds(self, search: Search, step: Step) -> float:
        return run_s(self._size(search, step), _per_s(self.asked, step, search.probes))

    def _made(self, search: Search, step: Step, began_s: float) -> Search:
        """Make a run, and let the server come to rest. Raises BenchError, KeyboardInterrupt."""
        size, number = self._size(search, step), len(search.probes) + 1
        self.say(f"[{number}] {step_words(self.asked.of, step, size.requests)}")
        start_s = time.monotonic()
        rows, info = self._sent(search, step, size, number)
        _check_it_is_the_same(search.server, _server(info))
        self._rest(f"{load_words(self.asked.of, step.load)}, {rows.stem}")
        took_s = time.monotonic() - start_s
        stopped = info.notes[-1] if info.status == "stopped" and info.notes else None
        run = Run(number, step, size, round(took_s, 1), stopped)
        probe = judged(run, load_run(rows))
        known = {name: value for name, value in search.server.items() if value is not None}
        found = replace(search.with_probe(probe), server={**_server(info), **known})
        write_search(
            self.session.folder,
            replace(found, took_s=round(search.took_s + time.monotonic() - began_s, 1)),
        )
        return found

    def _told(self, search: Search) -> None:
        """Say what the last run was; wait before one that was spoilt is made again."""
        probe = search.probes[-1]
        for line in probe_words(probe, search.space):
            self.say(f"  {line}")
        if probe.spoilt is not None and stuck(search.probes) is None:
            time.sleep(AGAIN_S)

    def _sent(self, search: Search, step: Step, size: Size, number: int) -> tuple[Path, RunInfo]:
        """Send a run. Raises BenchError where it broke off, KeyboardInterrupt after a signal."""
        seed = derive_seed(self.asked.scenario.seed, f"run {number} of a search")
        scenario = scenario_at(self.asked.scenario, self.asked.of, step.load, size, seed)
        session = replace(
            self.session,
            folder=self.session.folder / FOLDER / search.id,
            say=self._say_once,
            resume=False,
            experiment={"kind": "capacity", "id": search.id, "dropped": size.dropped},
            enough=partial(self._enough, step, size),
        )
        ((rows, status),) = session.runs([scenario])
        if status == "interrupted":
            raise KeyboardInterrupt
        info = read_run_info(rows.with_suffix(".json"))
        if status == "failed":
            why = info.notes[-1] if info.notes else "see its JSON"
            raise BenchError(f"{rows.stem} broke off: {why}")
        return rows, info

    def _say_once(self, line: str) -> None:
        """Say what a session says, each note once, and not which of its one run it is at."""
        if line in self._said or line.startswith(("1 run: ", "[1/1] ")):
            return
        if line.startswith("note: "):
            self._said.add(line)
        self.say(line if line.startswith("  ") else f"  {line}")

    def _enough(self, step: Step, size: Size, plan: Plan) -> Enough:
        """Return what ends a run that is clearly over."""
        load = Load("requests/s" if self.asked.of == "rate" else "streams", step.load)
        tiers = [
            [replace(o, metric=o.metric and headline_metric(o.metric, load)) for o in of_tier]
            for of_tier in objectives(self.asked.scenario).values()
        ]
        classes = self.asked.scenario.by_class
        shares = {name: one.share for name, one in classes.items() if one.share is not None}
        return Counts(tiers, size, OVER[step.purpose], plan.measured_s, shares).enough

    def _rest(self, run: str) -> None:
        """Wait until the server has nothing left to do; where it doesn't say, a while.

        Raises BenchError where there is none any more: that a server which is gone answers nobody
        says nothing of its load.
        """
        with closing(server_of(self.asked.scenario, self.session.environ)) as server:
            give_up_s = time.monotonic() + REST_S
            while (busy := _busy(server.metrics_text)) and time.monotonic() < give_up_s:
                time.sleep(LOOK_S)
            if busy is None:
                time.sleep(PAUSE_S)
            if (why := server.why_not_ready()) is not None:
                raise BenchError(f"the server is gone since the run at {run}: {why}")
        if busy:
            self.say(f"  the server still has {busy:.0f} requests: somebody else's?")


def _busy(metrics_text: Callable[[], str]) -> float | None:
    """Return the requests that a server has; None: it doesn't say."""
    with suppress(BenchError):
        values = together(read_page(metrics_text()).engines).values
        if "running" in values:
            return values["running"] + values.get("waiting", 0.0)
    return None


def _server(info: RunInfo) -> dict[str, Any]:
    kept = ("base_url", "model", "simulator", *SAME)
    return {key: info.server[key] for key in kept if key in info.server}


def _check_it_is_the_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise BenchError where a run was of another server than those before: they don't add up."""
    for key in SAME:
        name, then, it_is = key, before.get(key), now.get(key)
        if then is None or it_is is None or then == it_is:
            continue
        if isinstance(then, Mapping) and isinstance(it_is, Mapping):
            names = {*then, *it_is} - {*MEASURED}
            other = sorted(k for k in names if then.get(k) != it_is.get(k))
            if not other:
                continue
            name, then, it_is = other[0], then.get(other[0]), it_is.get(other[0])
        raise BenchError(
            f"this isn't the server of the runs before: its {printable(name, 60)} is "
            f"{printable(str(it_is), 100)}, and was {printable(str(then), 100)}: search anew, "
            "without --resume"
        )
