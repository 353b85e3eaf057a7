"""Which run of A belongs to which of B: of the same plan, at the same level, side by side in time.

A pair is thrown away whole where one of its runs is INVALID or not whole, or where the two didn't
do the same work. What has no partner is compared as it is: of one run each, without a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..figures.digits import short
from ..records.find_runs import made_again, session_of
from ..records.text import printable
from ..scenario.load import Load
from ..summary.summary import RunSummary
from .comparison import Measure, Pair, Unit

LENGTHS_APART = 0.01  # half the smallest effect worth claiming
CHANCE = 3.0  # standard errors by which means of different requests of one plan may differ
Key = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What another tool tells of a run of its own: figures by the measures' names."""

    name: str
    load: Load
    figures: Mapping[str, float]

    def value(self, measure: Measure) -> float | None:
        return self.figures.get(measure.name)

    def lacking(self, measure: Measure) -> str | None:
        return None if measure.name in self.figures else f"{self.name} doesn't tell it"


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of A, or those of B."""

    name: str
    runs: tuple[RunSummary, ...]
    told: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True)
class Matched:
    """What there is at one level: pairs, pairs thrown away, and what has no partner."""

    scenario: str
    load: Load
    pairs: tuple[Pair, ...]
    dropped: tuple[str, ...]
    alone_a: tuple[Unit | Told, ...]
    alone_b: tuple[Unit | Told, ...]


def matched(a: Side, b: Side) -> list[Matched]:
    """Return the levels that both sides have, by scenario and rising load."""
    ids = _experiments(a.runs), _experiments(b.runs)
    shared = ids[0] & ids[1]
    named = {of: of if of in shared else None for of in ids[0] | ids[1] if all(ids)}
    ours, theirs = _by_key(a.runs, named), _by_key(b.runs, named)
    found: dict[tuple[str, Load], _Level] = {}
    for key in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(key, []), theirs.get(key, [])
        run = (one or other)[0].runs[0]
        found.setdefault((run.scenario, run.load), _Level()).take(one, other)
    for side, told in enumerate((a.told, b.told)):
        for other_tools in told:
            _add_told(found, other_tools, side)
    levels = [
        level.matched(scenario, load)
        for (scenario, load), level in sorted(found.items(), key=lambda item: item[0])
        if level.on_both_sides
    ]
    return [part for level in levels for part in (level, *_of_classes(level))]


def _of_classes(level: Matched) -> Iterator[Matched]:
    """Yield the pairs of each class that all of a level's runs have: A's against B's."""
    runs = [run for pair in level.pairs for run in (*pair.a.runs, *pair.b.runs)]
    for name in runs[0].classes if runs else ():
        if all(name in run.classes for run in runs):
            pairs = tuple(Pair(_class(p.a, name), _class(p.b, name)) for p in level.pairs)
            words = f"{level.scenario}, {printable(name, 32)}"
            yield Matched(words, level.load, pairs, (), (), ())


def _class(unit: Unit, name: str) -> Unit:
    return Unit(tuple(run.classes[name] for run in unit.runs))


# ---- units: a run, or the runs of one start ----


def _experiments(runs: Iterable[RunSummary]) -> set[Hashable]:
    """Return the experiments whose visits tell which runs belong together."""
    asked = [run.info.experiment for run in runs if run.info]
    return {of.get("id") for of in asked if of.get("pair") and of.get("visit")}


def _by_key(
    runs: Sequence[RunSummary], named: Mapping[Hashable, Hashable]
) -> dict[Key, list[Unit]]:
    """Return the units by what partners have in common, each list in the order of time.

    `named`: experiments whose visits are units, with what partners call them: an experiment that
    one side alone has is any other (None), so that runs of one start aren't taken for several.
    """
    visits: dict[tuple[Key, object], list[RunSummary]] = {}
    for place, run in enumerate(sorted(runs, key=lambda run: run.began_s)):
        asked = run.info.experiment if run.info else {}
        if _made_again(run, runs):
            continue
        if asked.get("id") in named and asked.get("pair") and asked.get("visit"):
            key: Key = (named[asked["id"]], asked["pair"], run.scenario, run.load)
            visits.setdefault((key, (asked["id"], asked["visit"])), []).append(run)
        else:
            repeat = run.info.repeat if run.info else 1
            key = (plan_of(run) or run.scenario, run.load, repeat)
            visits.setdefault((key, -place), []).append(run)
    found: dict[Key, list[Unit]] = {}
    for (key, _), of_one in visits.items():
        found.setdefault(key, []).append(Unit(tuple(of_one)))
    return found


def _made_again(run: RunSummary, runs: Sequence[RunSummary]) -> bool:
    """Whether a run was made again in its session, since it or its visit wasn't whole."""
    if run.info is None:
        return False
    session = session_of(run.info)
    others = (o.info for o in runs if o is not run and o.info and session_of(o.info) == session)
    return made_again(run.info, others if session else ())


def plan_of(run: RunSummary) -> str | None:
    """Return the hash of what a run sent; None where it isn't known."""
    found: str | None = run.plan("sha256")
    return found


# ---- pairs ----


class _Level:
    """What gathers at one level while keys are gone through."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.dropped: list[str] = []
        self.alone: tuple[list[Unit | Told], list[Unit | Told]] = [], []  # of A, and of B

    @property
    def on_both_sides(self) -> bool:
        return bool(self.pairs or self.dropped or all(self.alone))

    def take(self, a: Sequence[Unit], b: Sequence[Unit]) -> None:
        """Pair the units of one key in the order of time; keep those that are over."""
        for one, other in zip(a, b, strict=False):
            common = _of_the_same_plans(one, other)
            if common is None:
                self._leave(0, [one])
                self._leave(1, [other])
            elif why := why_not(common):
                self.dropped.append(f"{common.a.name} and {common.b.name}: {why}")
            else:
                self.pairs.append(common)
        self._leave(0, a[len(b) :])
        self._leave(1, b[len(a) :])

    def _leave(self, side: int, units: Sequence[Unit]) -> None:
        """Keep units without a partner, but those at fault."""
        for unit in units:
            if why := next(filter(None, map(fault_of, unit.runs)), None):
                self.dropped.append(why)
            else:
                self.alone[side].append(unit)

    def matched(self, scenario: str, load: Load) -> Matched:
        pairs = sorted(self.pairs, key=lambda pair: min(pair.a.started_s, pair.b.started_s))
        alone = tuple(self.alone[0]), tuple(self.alone[1])
        return Matched(scenario, load, tuple(pairs), tuple(self.dropped), *alone)


def _add_told(found: dict[tuple[str, Load], _Level], told: Told, side: int) -> None:
    """Put what another tool told to every scenario at its load; alone where there is none."""
    at = [level for (scenario, load), level in found.items() if load == told.load and scenario]
    for level in at or [found.setdefault(("", told.load), _Level())]:
        level.alone[side].append(told)


def _of_the_same_plans(a: Unit, b: Unit) -> Pair | None:
    """Return the runs of both that have a partner of the same plan; None: there are none.

    Of a visit that was broken off the other one's further runs are left out.
    """
    plans = Counter(_key(run) for run in a.runs) & Counter(_key(run) for run in b.runs)
    del plans[None]
    if not plans:
        return None
    return Pair(_those(a, Counter(plans)), _those(b, Counter(plans)))


def _key(run: RunSummary) -> tuple[str, int] | None:
    plan = plan_of(run)
    return None if plan is None or run.info is None else (plan, run.info.repeat)


def _those(unit: Unit, wanted: Counter[tuple[str, int] | None]) -> Unit:
    runs = []
    for run in unit.runs:
        if wanted[_key(run)] > 0:
            wanted[_key(run)] -= 1
            runs.append(run)
    return Unit(tuple(runs))


# ---- what makes a pair worthless ----


def why_not(pair: Pair) -> str | None:
    """Return why a pair is thrown away whole, and what to do about it; None: it counts."""
    return next(_faults(pair), None)


def _faults(pair: Pair) -> Iterator[str]:
    a, b = ({(run.folder, run.name) for run in unit.runs} for unit in (pair.a, pair.b))
    if a & b:
        yield "the same run on both sides: name two different sets of runs"
    yield from filter(None, map(fault_of, (*pair.a.runs, *pair.b.runs)))
    yield from _lengths_apart(pair)


def fault_of(run: RunSummary) -> str | None:
    """Return why a run can't be compared, and what to do about it; None: it can."""
    if run.info is not None and run.info.status != "complete":
        return f"{run.run_id} is not whole ({run.info.status}): run it again"
    if run.verdict.level == "INVALID":
        return f"{run.run_id} is INVALID ({run.verdict.reasons}): remove the cause"
    return None


def _lengths_apart(pair: Pair) -> Iterator[str]:
    for metric, what, remedy in (
        ("completion_tokens", "tokens a reply", "set ignore_eos: true"),
        ("prompt_tokens", "tokens a prompt", "give both servers the same tokenizer and template"),
    ):
        one, other = _length(pair.a, metric), _length(pair.b, metric)
        if one is None or other is None:
            continue
        if abs(one.mean - other.mean) > _allowed(one, other):
            yield (f"not the same work, {short(one.mean)} and {short(other.mean)} {what}: {remedy}")


@dataclass(frozen=True, slots=True)
class _Length:
    n: int
    mean: float
    std: float


def _length(unit: Unit, metric: str) -> _Length | None:
    """Return how long the prompts or replies of all successes were; None: not known."""
    n, total, deviation = 0.0, 0.0, 0.0
    for run in unit.runs:
        counts, of = run.throughput, run.distributions.get(metric)
        if counts is None or not counts.requests or of is None:
            return None
        tokens = counts.prompt_tokens if metric == "prompt_tokens" else counts.output_tokens
        n, total = n + counts.requests, total + (tokens or 0.0)
        deviation = max(deviation, of.std)
    return _Length(round(n), total / n, deviation)


def _allowed(one: _Length, other: _Length) -> float:
    """Return how far apart lengths may be: 1 %, or what chance makes of different numbers.

    A closed loop that goes by time sends more of its plan to the faster server: one sent the first
    n requests, the other those and more, and means of both differ by their spread.
    """
    chance = max(one.std, other.std) * math.sqrt(abs(1 / one.n - 1 / other.n))
    return max(LENGTHS_APART * max(one.mean, other.mean), CHANCE * chance)
