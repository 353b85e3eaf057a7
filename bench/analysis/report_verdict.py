"""What stands on top of the report: verdicts with their reasons, objectives, and key figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .capacity import capacity
from .codes import CHECKS
from .finding import Finding
from .foreign import ABSENT
from .knee import find_knee, output_tokens_per_s
from .levels import Level, Series
from .objectives import Objective, Outcome
from .report_tables import number
from .report_throughput import user_tokens_per_s
from .summary import RunSummary
from .verdict import Verdict
from .verdict_lists import headline

MEANINGS = {check.code: check.meaning for check in CHECKS}
WORDS = {
    "VALID": "The figures mean what they say.",
    "SUSPECT": "The figures may mislead: read why before you use them.",
    "INVALID": "The figures don't mean what they say.",
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
    reasons: str


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


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A scenario's objectives, a row a level; and the highest load that met them."""

    objectives: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[Met, ...]], ...]
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
    marks = tuple(
        Mark(short_name(s), s.verdict.level, s.run_id, s.verdict.reasons) for s in summaries
    )
    doubts = _reasons(summaries, lambda verdict: verdict.doubts)
    notes = _reasons(summaries, lambda verdict: verdict.notes)
    return Verdicts(level, headline(summaries), WORDS[level], marks, doubts, notes)


def short_name(summary: RunSummary) -> str:
    """Return a run's name for a list: scenario and load."""
    return f"{summary.scenario}, {summary.load.words}"


def _reasons(
    summaries: Sequence[RunSummary], chosen: Callable[[Verdict], Sequence[Finding]]
) -> tuple[Reason, ...]:
    """Return the chosen findings by code, the gravest first."""
    by_code: dict[str, dict[Finding, list[str]]] = {}
    for summary in summaries:
        for finding in chosen(summary.verdict):
            same = by_code.setdefault(finding.code, {})
            same.setdefault(finding, []).append(short_name(summary))
    ordered = sorted(by_code.values(), key=lambda found: -max(f.severity for f in found))
    return tuple(_reason(found, len(summaries)) for found in ordered)


def _reason(found: Mapping[Finding, Sequence[str]], of: int) -> Reason:
    worst = max(found, key=lambda finding: finding.severity)
    shared = len({finding.advice for finding in found}) == 1
    told = tuple(
        Found(
            ("every run",) if len(runs) == of > 1 else tuple(dict.fromkeys(runs)),
            finding.figures,
            "" if shared else finding.advice,
        )
        for finding, runs in found.items()
    )
    meaning = MEANINGS.get(worst.code, "")
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
            bool(level.attainment and level.attainment.met),
            tuple(_met(level, objective) for objective in objectives),
        )
        for level in series.levels
    )
    words = most.words if most else ""
    return Outcomes(tuple(o.words for o in objectives), rows, words)


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
    user = level.centre(user_tokens_per_s)
    if user is not None:
        doc = "1000 / TPOT p50: what the reader of the median reply sees"
        found.append(Key("Each user then gets", number(user), "tokens/s", "median", doc))
    return found


def _times(series: Series) -> list[Key]:
    """Return the TTFT from the lowest level to the highest, at the highest percentile of both."""
    levels = (series.levels[0], series.levels[-1])
    for percentile in (95.0, 50.0):
        values = [v.centre(lambda run, q=percentile: run.percentile("ttft_ms", q)) for v in levels]  # type: ignore[misc]
        if None not in values:
            shown = " → ".join(dict.fromkeys(ABSENT if v is None else number(v) for v in values))
            loads = " → ".join(dict.fromkeys(v.load.words for v in levels))
            doc = "time to first token, from the send, of requests that succeeded"
            return [Key(f"TTFT p{percentile:g}", shown, "ms", loads, doc)]
    return []


def _knee(series: Series) -> list[Key]:
    knee = find_knee(series.levels)
    if knee is None:
        return []
    doc = "the level from which on more load brought hardly more throughput"
    return [Key("Throughput used up at", f"{knee.load.value:g}", knee.load.unit, "", doc)]
