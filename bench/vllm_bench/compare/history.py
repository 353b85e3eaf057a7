"""A candidate against stored nights alone: is it slower than the next night may be?

Without a baseline beside it, a candidate is held against what ten nights or more say of how far
nights differ: a prediction limit of each measure, one-sided in the bad direction, with Holm over
the measures of a level. What all nights of one day say is one night, so that a day with many can't
stand for ten; a session is of the day when it began.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..figures.digits import counted
from ..records.find_runs import session_of
from ..scenario.load import Load
from ..stats.paired import holm
from ..stats.prediction import Prediction, prediction
from ..summary.summary import RunSummary
from .compare import How, known_to, mean_of, why_none
from .comparison import Comparison, Effect, LevelRows, Measure, Pair, Row, Unit
from .differences import differences
from .judge import LEVEL
from .measures import at_load, with_margins
from .notes import of_sides, other_hardware
from .pairs import Side, fault_of, plan_of, why_not

MIN_NIGHTS = 10  # with fewer t is wide, and regressions of 10 % pass
POWER = 0.9  # of the smallest regression that is told
Days = dict[str, list[RunSummary]]


@dataclass(frozen=True, slots=True)
class _Level:
    """The candidate at one level, and the nights that ran the same plans."""

    scenario: str
    load: Load
    candidate: Unit
    nights: tuple[Unit, ...]
    dropped: tuple[str, ...]


def against_history(nights: Side, candidate: Side, how: How | None = None) -> Comparison:
    """Return what a candidate (B) does against stored nights (A). Raises UsageError: a margin.

    A row's `a` is the nights' geometric mean, `limit` how far the candidate's figure may go, and
    `smallest` the smallest regression that would have been seen in nine of ten candidates.
    """
    how = how or How()
    measures = with_margins(how.margins)
    refusal = other_hardware(nights, candidate) if how.same_hardware else None
    levels = tuple(
        _rows(level, measures, refusal) if isinstance(level, _Level) else level
        for level in _levels(nights, candidate)
    )
    said = [level.refusal for level in levels if level.refusal]
    return Comparison(
        nights.name,
        candidate.name,
        differences(nights, candidate),
        levels,
        (*of_sides(nights, candidate), *_not_judged(candidate)),
        () if any(level.words for level in levels) else tuple(dict.fromkeys(said)),
    )


# ---- which runs ----


def _levels(nights: Side, candidate: Side) -> Iterator[_Level | LevelRows]:
    """Yield the candidate's levels; where it has no sound run, why it isn't judged there."""
    at: dict[tuple[str, Load], dict[Hashable, RunSummary]] = {}
    days = _days(nights.runs)
    runs = sorted(candidate.runs, key=lambda run: (run.scenario, run.load, run.name))
    for run in runs:
        sound = at.setdefault((run.scenario, run.load), {})
        if fault_of(run) is None:
            sound.setdefault(plan_of(run), run)
    for (scenario, load), found in at.items():
        if found:
            yield _level(scenario, load, Unit(tuple(found.values())), days)
        else:
            why = next(filter(None, (fault_of(r) for r in runs if _place(r) == (scenario, load))))
            yield LevelRows(scenario, load, (), (), (), why, nights=0)


def _place(run: RunSummary) -> tuple[str, Load]:
    return run.scenario, run.load


def _not_judged(candidate: Side) -> Iterator[str]:
    """Yield which runs of the candidate don't count, where others of their level do."""
    sound = {_place(run) for run in candidate.runs if fault_of(run) is None}
    for run in candidate.runs:
        if _place(run) in sound and (why := fault_of(run)):
            yield f"left out of the candidate: {why}"


def _level(scenario: str, load: Load, candidate: Unit, days: Days) -> _Level:
    kept, dropped = [], []
    for day, runs in days.items():
        of_day = _alike(load, candidate, runs)
        if not of_day:
            continue
        night = _night(candidate, of_day)
        if isinstance(night, str):
            dropped.append(f"{day}: {night}")
        else:
            kept.append(night)
    return _Level(scenario, load, candidate, tuple(kept), tuple(dropped))


def _days(runs: Sequence[RunSummary]) -> Days:
    """Return the runs of each day, in the order of time; a session that goes on is of its first."""
    began: dict[Hashable, str | None] = {}
    days: Days = {}
    for run in sorted(runs, key=lambda run: Unit((run,)).started_s):
        session = session_of(run.info) if run.info else None
        day = began.setdefault(session or (run.folder, run.name), run.started("%Y-%m-%d"))
        if day:
            days.setdefault(day, []).append(run)
    return days


def _alike(load: Load, candidate: Unit, runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs that sent what the candidate sent, other than its own."""
    plans = {plan_of(run) for run in candidate.runs} - {None}
    return [r for r in runs if r.load == load and plan_of(r) in plans and r not in candidate.runs]


def _night(candidate: Unit, runs: Sequence[RunSummary]) -> Unit | str:
    """Return a night's runs, one of each plan of the candidate; or why it doesn't count.

    As many as the candidate has: then a night's mean spreads as the candidate's does.
    """
    sound = {plan_of(run): run for run in reversed(runs) if fault_of(run) is None}
    if len(sound) < len(candidate.runs):
        lacks = f"{len(sound)} of the candidate's {counted(len(candidate.runs), 'run')}"
        return next(filter(None, map(fault_of, runs)), lacks)
    night = Unit(tuple(sound[plan_of(run)] for run in candidate.runs))
    return why_not(Pair(night, candidate)) or night


# ---- what they say ----


@dataclass(frozen=True, slots=True)
class Limit:
    """How far a measure is worse than the nights, and how far it may be; as logarithms."""

    found: Prediction
    limit: float
    p: float  # adjusted
    smallest: float  # as a fraction

    @property
    def slower(self) -> bool:
        return self.found.above > self.limit


def _rows(level: _Level, measures: Sequence[Measure], refusal: str | None) -> LevelRows:
    sides = level.nights, (level.candidate,)
    refusal = _too_few(level) or refusal
    shown = [at_load(m, level.load) for m in measures if known_to(m, sides)]
    found = {m: one for m in shown if (one := _against(m, sides)) is not None}
    words = {} if refusal else dict(zip(found, limits(found), strict=True))
    rows = tuple(_row(m, sides, words.get(m) or refusal) for m in shown)
    nights = len(level.nights)
    return LevelRows(level.scenario, level.load, (), level.dropped, rows, refusal, nights)


def _too_few(level: _Level) -> str | None:
    number = len(level.nights)
    if number >= MIN_NIGHTS:
        return None
    thrown = f" ({counted(len(level.dropped), 'night')} dropped)" if level.dropped else ""
    return (
        f"{counted(number, 'night')} of the candidate's plan{thrown}, and a limit needs "
        f"{MIN_NIGHTS} on as many days: keep more of them, or run the baseline beside the "
        "candidate (make ab)"
    )


def _against(measure: Measure, sides: tuple[Sequence[Unit], Sequence[Unit]]) -> Prediction | None:
    """Return how far the candidate is worse; None where a figure is missing or 0."""
    values = [value for seen in sides for one in seen if (value := one.value(measure))]
    if why_none(measure, sides) or len(values) < 3:
        return None
    sign = -1 if measure.more_is_better else 1
    *nights, candidate = (value**sign for value in values)
    return prediction(nights, candidate)


def limits(found: Mapping[Measure, Prediction]) -> Iterator[Limit]:
    """Yield how far each measure of a level may be worse than older ones, and how far it is."""
    ps = [one.p for one in found.values()]
    for (measure, one), p, level in zip(found.items(), holm(ps), _levels_of(ps), strict=True):
        margin = math.log1p(measure.margin / 2)
        seen = max(one.limit(LEVEL / len(ps)), margin) + one.limit(1 - POWER)
        yield Limit(one, max(one.limit(level), margin), p, math.expm1(seen))


def _levels_of(ps: Sequence[float]) -> list[float]:
    """Return the level at which Holm's method tests each: the rarest figure has the strictest.

    Past the first that passes no other may be called slower, so its level holds for the rest.
    """
    found, level, passed = [LEVEL] * len(ps), LEVEL, False
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        level = level if passed else LEVEL / (len(ps) - rank)
        passed = passed or ps[place] >= level
        found[place] = level
    return found


def _row(
    measure: Measure, sides: tuple[Sequence[Unit], Sequence[Unit]], word: Limit | str | None
) -> Row:
    a, b = (mean_of(measure, seen) for seen in sides)
    why = why_none(measure, sides)
    effect = Effect(b / a, None, None) if a and b and why is None else None
    if effect is None or not a or not isinstance(word, Limit):
        return Row(measure, a, b, effect, None, why or (word if isinstance(word, str) else None))
    sign = -1 if measure.more_is_better else 1
    return Row(
        measure,
        a,
        b,
        Effect(effect.ratio, None, word.found.spread),
        "slower" if word.slower else "not slower",
        None,
        p=word.p,
        smallest=word.smallest,
        limit=a * math.exp(sign * word.limit),
    )
