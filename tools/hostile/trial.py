"""Trials: which fault meets which load at which moment, drawn from seeds; and how one is played."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .check import Case, demanded, findings
from .faults import KINDS, Kind
from .left import LeftRun, runs_in, served_in, verdicts_in
from .loads import LOADS, Load
from .processes import Pulse, wait_until
from .stage import END_LIMIT_S, Stage

LEVELS = 2
READERS = ("summarize", "plot", "report")


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault: everything about it is drawn from the seed and its number."""

    seed: int
    number: int  # from 1
    name: str  # of its kind
    load: Load
    phase: str
    share: float  # of the phase that is over when it strikes

    @property
    def kind(self) -> Kind:
        """What happens."""
        return KINDS[self.name]

    def rng(self) -> random.Random:
        """Return what draws the rest: whom it strikes, how long it lasts."""
        return random.Random(f"{self.seed}-{self.number}-{self.name}-strike")


def trials(seed: int, only: Sequence[str]) -> Iterator[Trial]:
    """Yield trials without end: rounds in which each kind comes, in an order of their own."""
    number = 0
    deck = [name for name, kind in KINDS.items() for _ in range(kind.often)]
    deck = [name for name in deck if not only or name in only]
    for turn in range(1 << 30):
        rng = random.Random(f"{seed}-{turn}")
        for name in rng.sample(deck, len(deck)):
            number += 1
            yield drawn(seed, number, name)


def drawn(seed: int, number: int, name: str) -> Trial:
    """Draw the load and the moment of one."""
    rng = random.Random(f"{seed}-{number}-{name}")
    phase = rng.choice(KINDS[name].phases)
    return Trial(seed, number, name, rng.choice(LOADS), phase, rng.random())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial."""

    trial: Trial
    code: int | None
    rows: int
    due: int  # rows that were demanded
    struck: bool
    wrong: tuple[str, ...]
    seconds: float


def play(trial: Trial, folder: Path, pulse: Pulse) -> Outcome:
    """Play a trial in a new folder; say what was wrong. Raises OSError where it can't be played."""
    began_s = time.monotonic()
    kind = trial.kind
    with closing(Stage(folder, trial.rng(), trial.load, proxied=kind.proxied)) as stage:
        stage.open(*(kind.flags(stage) if kind.flags else ()))
        if kind.prepare is not None:
            kind.prepare(stage)
        stage.bench = stage.start("bench", pipe=kind.piped)
        struck_ns = _strike(trial, stage)
        case = _aftermath(trial, stage, struck_ns, pulse)
    return Outcome(
        trial,
        case.code,
        sum(len(run.rows) for run in case.runs),
        len(demanded(case)),
        struck_ns is not None or kind.strike is None,
        tuple(findings(case)),
        time.monotonic() - began_s,
    )


def _strike(trial: Trial, stage: Stage) -> int | None:
    """Wait for the moment and strike; return when that was; None: bench.py had ended before."""
    strike = trial.kind.strike
    if strike is None:
        return None
    expected = trial.load.requests * LEVELS
    if trial.phase == "start":
        wait_until(lambda: stage.over() or stage.begun(), END_LIMIT_S)
        time.sleep(1.3 * trial.share)
    else:
        share = 0.05 + 0.75 * trial.share if trial.phase == "middle" else 0.9 + 0.1 * trial.share
        wait_until(lambda: stage.seen() >= share * expected or stage.over(), END_LIMIT_S)
        time.sleep(0.3 * trial.share)
    if stage.over():
        return None
    struck_ns = time.perf_counter_ns()
    strike(stage)
    return struck_ns


def _aftermath(trial: Trial, stage: Stage, struck_ns: int | None, pulse: Pulse) -> Case:
    """Wait for the end, read what was left, let the other scripts read it, and resume."""
    code = stage.wait_end(END_LIMIT_S)
    behind = [*_twin_left(stage), *stage.left_behind()]
    stalled_ns = pulse.stalled_ns(struck_ns) if struck_ns is not None else 0
    stage.calm()
    if trial.kind.mend is not None:
        trial.kind.mend(stage)
    runs = runs_in(stage.results)
    case = Case(
        rules=trial.kind.rules,
        requests=trial.load.requests,
        turns=trial.load.turns,
        levels=LEVELS,
        code=code,
        told=stage.told,
        runs=runs,
        served=served_in(stage.simulator.truths),
        struck_ns=struck_ns,
        stalled_ns=stalled_ns,
        behind=behind,
    )
    if stage.results.is_dir():
        case.readers = {name: stage.read(name, *_named(name, runs)) for name in READERS}
    case.verdicts = verdicts_in(stage.results)
    case.resumed = stage.resume()
    case.runs_after = runs_in(stage.results)
    for name in ("bench", "twin"):
        path = stage.folder / f"{name}.err"
        if path.exists():
            stage.told[name] = path.read_text(encoding="utf-8", errors="replace")
    return case


def _named(script: str, runs: Sequence[LeftRun]) -> list[str]:
    """Return the run that plot.py draws, the last one: pictures of all take too long."""
    return [run.run_id for run in runs if run.rows][-1:] if script == "plot" else ["--all"]


def _twin_left(stage: Stage) -> Iterator[str]:
    if stage.twin is None:
        return
    try:
        code = stage.twin.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        yield "the other bench.py didn't end"
        return
    if code not in (0, 1, 4):
        yield f"the other bench.py ended with {code}"
