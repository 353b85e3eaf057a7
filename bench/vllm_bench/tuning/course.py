"""From experiments to an answer: screen all, measure the better half, let the two best take turns.

Each start is kept as it ends, and the tables are written again: whatever breaks this off, what was
measured by then is there, and `--resume` goes on behind it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..compare.compare import compare
from ..compare.pairs import Side
from ..experiments.visits import Estimate, duration, sending, visits
from ..launch.left_behind import Process
from ..records.beside.going_on import checksum, write_kept
from ..records.text import printable
from ..scenario.load import LoadLevel, highest_level, levels_of
from ..scenario.scenario import Scenario
from ..summary.summary import RunSummary
from .answer import Answer, answer, by_objectives
from .best_env import setting_words
from .configurations import Aim, Configuration
from .one_start import Starts
from .ranking import Placed, better_half, gpus_of, mostly_missed, ranked
from .searched import Wanted
from .step import Step, at_level, of_pair, screen
from .tables import lines
from .trials import FILE, Runs, Stage, Trial, Tried, Tuning

FEW = 2  # so many configurations need no screening
START_S, SIMULATOR_START_S = 60.0, 2.0  # a guess, until the first start is seen
THROWN_S = 10.0
PAIRS = 4  # fewer give no word


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is done in which order."""

    configurations: Sequence[Configuration]
    scenario: Scenario
    aim: Aim
    full: bool  # all in full, without screening
    pairs: int  # of the two best by turns; 0: none
    screen_s: float
    wanted: Wanted | None = None  # how a capacity is looked for

    @property
    def screened(self) -> bool:
        return not self.full and len(self.configurations) > FEW

    def screening(self) -> list[Step]:
        """Return a short start of each configuration; none where all are measured in full."""
        short = screen(self.scenario, self.screen_s)
        return [Step("screen", one, short) for one in self.configurations if self.screened]

    def in_full(self, chosen: Sequence[Configuration]) -> list[Step]:
        return [Step("full", one, self.scenario) for one in chosen]

    def by_turns(self, a: Placed, b: Placed) -> list[Step]:
        """Return the visits of the two best, A B B A; each pair has a seed of its own."""
        of = {"a": self.named(a), "b": self.named(b)}
        at = deciding(self.scenario, self.aim, a, b)
        return [
            Step("again", of[visit.side], of_pair(at, visit.pair), visit.number, visit.pair)
            for visit in visits(2 * self.pairs)
        ]

    def named(self, placed: Placed) -> Configuration:
        label = placed.tried.trial.label
        return next(one for one in self.configurations if one.label == label)

    def to_come(self) -> list[Step]:
        """Return as many steps as there will be; which ones is known later."""
        most = len(self.configurations)
        half = max(FEW, -(-most // 2)) if self.screened else most
        turns = 2 * self.pairs if most >= FEW else 0
        one = at_level(self.scenario, levels_of(self.scenario)[-1])
        last = self.configurations[0]
        return [
            *self.screening(),
            *self.in_full(self.configurations[:half]),
            *(Step("again", last, one, visit.number, visit.pair) for visit in visits(turns)),
        ]


def deciding(scenario: Scenario, aim: Aim, a: Placed, b: Placed) -> Scenario:
    """Return the one level at which the two best are held against each other.

    For throughput the one where the better had most; for the capacity the higher of both, where
    the lesser falls behind; for TTFT the highest.
    """
    assert a.score is not None
    assert b.score is not None
    load = a.score.load
    if aim == "capacity" and b.score.value > a.score.value:
        load = b.score.load
    if load is None:
        return at_level(scenario, highest_level(scenario))
    if load.speed is not None:
        return at_level(scenario, LoadLevel(speed=load.speed))
    if load.is_open:
        return at_level(scenario, LoadLevel(request_rate=load.value))
    return at_level(scenario, LoadLevel(concurrency=round(load.value)))


@dataclass(slots=True, kw_only=True)
class Tune:
    """One course on its way, with what is kept of it."""

    course: Course
    starts: Starts
    tuning: Tuning
    say: Callable[[str], None]
    after_each: Callable[[Sequence[Tried]], None]  # writes the tables
    runs: Runs
    made: int = field(default=0)
    began_s: float = field(default_factory=time.monotonic)

    def run(self) -> tuple[list[Placed], Answer | None]:
        """Do all of it; return the configurations that were measured in full, and the answer.

        Raises UsageError, OSError, KeyboardInterrupt.
        """
        course = self.course
        chosen = list(course.configurations)
        if course.screened:
            screened = self._stage("screen", course.screening())
            chosen = [course.named(one) for one in better_half(screened)]
            self.say(f"in full: {'; '.join(printable(one.name) for one in chosen)}")
        found = self._stage("full", course.in_full(chosen))
        best = [one for one in found if one.score is not None][:FEW]
        if len(best) < FEW or not course.pairs:
            return found, None
        return found, self._turns(*best)

    def all_tried(self) -> list[Tried]:
        """Return every start that was made, in its order."""
        stages: tuple[Stage, ...] = ("screen", "full", "again")
        return [one for stage in stages for one in self.runs.tried(self.tuning.at(stage))]

    def _stage(self, stage: Stage, steps: Sequence[Step]) -> list[Placed]:
        for step in steps:
            self._make(step)
        labels = {step.configuration.label for step in steps}
        trials = [trial for trial in self.tuning.at(stage) if trial.label in labels]
        found = ranked(self.course.aim, self.runs.tried(trials))
        for line in lines(found):
            self.say(line)
        return found

    def _turns(self, a: Placed, b: Placed) -> Answer:
        for step in self.course.by_turns(a, b):
            self._make(step)
        trials = self.tuning.at("again")
        runs = {one.name: tuple(self._again(trials, one)) for one in (a, b)}
        first, second = (Side(one.name, runs[one.name]) for one in (a, b))
        gpus = {one.name: n for one in (a, b) if (n := gpus_of(one.tried))}
        found = answer(self.course.aim, a.name, b.name, compare(first, second), gpus)
        if self.course.pairs < PAIRS:
            return found
        return by_objectives(found, {name: mostly_missed(of) for name, of in runs.items()})

    def _again(self, trials: Sequence[Trial], placed: Placed) -> Iterator[RunSummary]:
        own = [t for t in trials if t.label == placed.tried.trial.label]
        for tried in self.runs.tried(own):
            yield from tried.runs

    def _make(self, step: Step) -> None:
        """Make a start, unless it was made before; keep it."""
        total, name = len(self.course.to_come()), printable(step.configuration.name)
        self.made += 1
        turn = f", visit {step.visit}" if step.visit else ""
        head = f"[{self.made}/{total}] {step.stage}{turn}: {name}"
        known = self.tuning.made(*step.key)
        if known is not None and known.why is None:
            self.say(f"{head}: made before")
            return
        self.say(f"{head}; {self.left().words} left")
        trial = self.starts.make(step, self._began)
        if trial.why:
            self.say(f"  failed: {trial.why}")
        self._keep(self.tuning.with_trial(trial))
        self.after_each(self.all_tried())

    def _began(self, server: Process) -> None:
        self._keep(self.tuning.model_copy(update={"server": server}))

    def _keep(self, tuning: Tuning) -> None:
        self.tuning = tuning
        write_kept(self.starts.folder / FILE, tuning)

    @property
    def took(self) -> str:
        """How long it took, and what was said before."""
        before = time_for(self.course, self.course.to_come(), (), self.starts.base)
        took = duration(time.monotonic() - self.began_s)
        return f"it took {took}, and {before.words} was estimated"

    def left(self) -> Estimate:
        """Return how long the steps take that are still to come."""
        steps = self.course.to_come()[self.made - 1 if self.made else 0 :]
        return time_for(self.course, steps, self.tuning.trials, self.starts.base)


def time_for(
    course: Course, steps: Sequence[Step], seen: Sequence[Trial], base: Mapping[str, str]
) -> Estimate:
    """Return how long steps take: what they send for, and what a start takes beside it."""
    whole = [trial.ready_s for trial in seen if trial.ready_s is not None]
    simulated = bool(base.get("SIMULATOR"))
    guess_s = SIMULATOR_START_S if simulated else START_S
    start_s = statistics.fmean(whole) if whole else guess_s
    sends = [_sending(course, step) for step in steps]
    seconds = sum(one.seconds for one in sends) + len(steps) * (start_s + THROWN_S / 2)
    return Estimate(seconds, at_least=not whole or any(one.at_least for one in sends))


def _sending(course: Course, step: Step) -> Estimate:
    if course.wanted is not None and step.stage == "full":
        return Estimate(course.wanted.estimate_s(step.scenario), at_least=False)
    return sending(step.scenario)


def asked_sha256(course: Course, base: Mapping[str, str]) -> str:
    """Return a checksum of what was asked, secrets left out: by it `--resume` finds its folder."""
    settings = {k: v for k, v in course.scenario.masked().items() if k != "base_url"}
    facts = {
        "configurations": [(one.label, dict(one.settings)) for one in course.configurations],
        "base": setting_words(dict(sorted(base.items()))),
        "scenario": settings,
        "aim": course.aim,
        "screen_s": course.screen_s,
        "search": repr(course.wanted),
    }
    return checksum(facts)
