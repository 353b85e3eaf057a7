"""What stands on top of the report: verdicts with their reasons, objectives, and key figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..charts.pen_plotly import run_names
from ..figures.metrics import DOCS, TITLES, headline_metric
from ..figures.objectives import Objective, Outcome
from ..records.text import ABSENT
from ..summary.capacity import capacity
from ..summary.levels import Level, Series
from ..summary.pareto import per_user
from ..summary.stability import find_knee, output_tokens_per_s
from ..summary.summary import RunSummary, headline
from ..verdict.finding import Finding
from ..verdict.verdict import CHECKS
from .tables import number

MEANINGS = {check.code: check.meaning for check in CHECKS}
WORDS = {
    "VALID": "The figures mean what they say.",
    "SUSPECT": "Figures may mislead: read why before you use them.",
    "INVALID": "Figures of the INVALID runs don't mean what they say.",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in runs that share the figures; `advice` where it is theirs alone."""

    runs: tuple[str, ...]
    figures: str
    advice: str


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason code for people: what it means, what was found in which runs, what to do."""

    code: str
    severity: str
    meaning: str
    found: tuple[Found, ...]
    advice: str  # what to do, where it is the same for all


@dataclass(frozen=True, slots=True)
class Mark:
    """One run's verdict, and the name to show it by."""

    name: str
    level: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdict of all runs and of each."""

    level: str
    headline: str
    words: str
    marks: tuple[Mark, ...]
    doubts: tuple[Reason, ...]
    notes: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A figure to see first: its name, its value, and what it is of."""

    name: str
    value: str
    unit: str
    of: str
    doc: str


State = Literal["met", "MISSED", "INVALID"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A scenario's objectives, a row a level; and the highest load that met them."""

    objectives: tuple[str, ...]
    rows: tuple[tuple[str, State, tuple[Met, ...]], ...]
    words: str


@dataclass(frozen=True, slots=True)
class Met:
    """Whether an objective was met, in short and in full."""

    met: bool
    text: str
    words: str


def verdicts(summaries: Sequence[RunSummary]) -> Verdicts:
    """Return the verdicts of all runs, the worst standing for all."""
    levels = [s.verdict.level for s in summaries]
    level = next(name for name in ("INVALID", "SUSPECT", "VALID") if name in levels)
    names = [
        f"{summary.scenario}, {name}"
        for summary, name in zip(summaries, run_names(summaries), strict=True)
    ]
    marks = tuple(
        Mark(name, s.verdict.level, s.run_id) for name, s in zip(names, summaries, strict=True)
    )
    doubts = _reasons(names, [s.verdict.doubts for s in summaries])
    notes = _reasons(names, [s.verdict.notes for s in summaries])
    return Verdicts(level, headline(summaries), WORDS[level], marks, doubts, notes)


def _reasons(names: Sequence[str], findings: Sequence[Sequence[Finding]]) -> tuple[Reason, ...]:
    """Return the findings of named runs by code, the gravest first."""
    by_code: dict[str, dict[Finding, list[str]]] = {}
    for name, of_run in zip(names, findings, strict=True):
        for finding in of_run:
            by_code.setdefault(finding.code, {}).setdefault(finding, []).append(name)
    ordered = sorted(by_code.values(), key=lambda found: -max(f.severity for f in found))
    return tuple(_reason(found, len(names)) for found in ordered)


def _reason(found: Mapping[Finding, Sequence[str]], of: int) -> Reason:
    worst = max(found, key=lambda finding: finding.severity)
    shared = len({finding.advice for finding in found}) == 1
    told = tuple(
        Found(
            ("every run",) if len(runs) == of > 1 else tuple(runs),
            finding.figures,
            "" if shared else finding.advice,
        )
        for finding, runs in found.items()
    )
    meaning = MEANINGS.get(worst.code, "").replace("`", "")
    return Reason(worst.code, worst.severity.name, meaning, told, worst.advice if shared else "")


def outcomes(series: Series) -> Outcomes | None:
    """Return what each level met of its objectives; None where there are none."""
    objectives: dict[Objective, None] = {}
    for level in series.levels:
        objectives |= {
            o.objective: None for o in (level.attainment.outcomes if level.attainment else ())
        }
    if not objectives:
        return None
    most = capacity(series.levels)
    rows = tuple(
        (
            level.load.words,
            _state(level),
            tuple(_met(level, objective) for objective in objectives),
        )
        for level in series.levels
    )
    words = most.words if most else ""
    return Outcomes(tuple(o.words for o in objectives), rows, words)


def _state(level: Level) -> State:
    """Return whether a level met all; what INVALID runs seem to have met doesn't count."""
    if level.attainment is None or not level.attainment.met:
        return "MISSED"
    return "INVALID" if level.verdict == "INVALID" else "met"


def _met(level: Level, objective: Objective) -> Met:
    found = level.attainment
    outcome = next((o for o in found.outcomes if o.objective == objective), None) if found else None
    if outcome is None:
        return Met(False, ABSENT, "its runs had other objectives")
    return Met(outcome.met, _share(outcome), outcome.words)


def _share(outcome: Outcome) -> str:
    if outcome.unmeasured is not None or not outcome.arrivals:
        return "not measured"
    return f"{100 * outcome.within / outcome.arrivals:.3g} % within"


def key_figures(series: Series) -> list[Key]:
    """Return the few figures that say most about a scenario."""
    return [*_rates(series), *_times(series), *_knee(series)]


def _rates(series: Series) -> list[Key]:
    known = [(rate, v) for v in series.levels if (rate := v.centre(output_tokens_per_s))]
    if not known:
        return []
    rate, level = max(known, key=lambda pair: pair[0])
    found = [
        Key(
            "Most throughput",
            number(rate),
            "tokens/s",
            f"at {level.load.words}",
            "generated tokens a second, of requests that succeeded",
        )
    ]
    user = level.centre(per_user)
    if user is not None:
        doc = "1000 / TPOT p50: what the reader of the median reply sees"
        found.append(Key("Each user then gets", number(user), "tokens/s", "median", doc))
    return found


def _times(series: Series) -> list[Key]:
    """Return the TTFT from the lowest level to the highest, at the highest percentile of both."""
    levels = (series.levels[0], series.levels[-1])
    metric = headline_metric("ttft_ms", levels[0].load)
    for percentile in (95.0, 50.0):
        values = [v.centre(lambda run, q=percentile: run.percentile(metric, q)) for v in levels]  # type: ignore[misc]
        if None not in values:
            shown = " → ".join(dict.fromkeys(ABSENT if v is None else number(v) for v in values))
            loads = " → ".join(dict.fromkeys(v.load.words for v in levels))
            name = f"{TITLES[metric]} p{percentile:g}"
            return [Key(name, shown, "ms", loads, f"{DOCS[metric]}, of requests that succeeded")]
    return []


def _knee(series: Series) -> list[Key]:
    knee = find_knee(series.levels)
    if knee is None:
        return []
    doc = "the level from which on more load brought hardly more throughput"
    return [Key("Throughput used up at", knee.load.number, knee.load.unit, "", doc)]
