"""The top of the report: verdicts with their reasons, and which objectives were met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..charts.against_load import objectives_of
from ..figures.objectives import Objective, RateObjective, Word
from ..records.text import ABSENT
from ..summary.capacity import capacity, tiers_of
from ..summary.levels import Level, Series
from ..summary.summary import RunSummary, headline
from ..tables.level_lines import WORDS as WORD
from ..tables.level_lines import tier_words
from ..verdict.finding import Finding
from ..verdict.verdict import CHECKS
from .tables import Cell, Column, Table, table

MEANINGS = {check.code: check.meaning for check in CHECKS}
MARK: dict[Word, tuple[str, str]] = {
    "met": ("✓", "met"),
    "missed": ("✗", "missed"),
    "not shown": ("?", "unshown"),
}
WORDS = {
    "INVALID": "Figures of the INVALID runs don't mean what they say.",
    "SUSPECT": "Figures may mislead: read why before you use them.",
    "VALID": "The figures mean what they say.",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of the runs with the same figures; `advice` where it is only for them."""

    runs: Sequence[str]
    figures: str
    advice: str


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason code: what it means, what was found in which runs, what to do."""

    code: str
    severity: str
    meaning: str
    found: Sequence[Found]
    advice: str  # what to do, where it is the same for all


def verdicts(
    summaries: Sequence[RunSummary], named: Sequence[tuple[str, Series]]
) -> dict[str, Any]:
    """Return the verdict of each run, and of all together: the worst of them.

    `named` has the series of these runs with their names.
    """
    levels = {summary.verdict.level for summary in summaries}
    level = next(name for name in WORDS if name in levels)
    of_each = {
        id(run): f"{name}, {words}" for name, series in named for words, run in series.run_words
    }
    names = [of_each[id(summary)] for summary in summaries]
    return {
        "level": level,
        "headline": headline(summaries),
        "words": WORDS[level],
        "runs": list(zip(names, summaries, strict=True)),
        "doubts": _reasons(names, [summary.verdict.doubts for summary in summaries]),
        "notes": _reasons(names, [summary.verdict.notes for summary in summaries]),
    }


def _reasons(names: Sequence[str], findings: Sequence[Sequence[Finding]]) -> list[Reason]:
    """Return the findings of named runs by code, the most serious first."""
    by_code: dict[str, dict[Finding, list[str]]] = {}
    for name, of_run in zip(names, findings, strict=True):
        for finding in of_run:
            by_code.setdefault(finding.code, {}).setdefault(finding, []).append(name)
    ordered = sorted(by_code.values(), key=lambda found: -max(f.severity for f in found))
    return [_reason(found, len(names)) for found in ordered]


def _reason(found: Mapping[Finding, Sequence[str]], of: int) -> Reason:
    worst = max(found, key=lambda finding: finding.severity)
    shared = len({finding.advice for finding in found}) == 1
    alike: dict[tuple[Sequence[str], str, str], list[str]] = {}  # but for what they are about
    for finding, runs in found.items():
        same = (tuple(runs), finding.figures, "" if shared else finding.advice)
        alike.setdefault(same, []).extend([finding.about] if finding.about != "all" else [])
    each = [
        Found(
            ["every run"] if len(runs) == of > 1 else runs,
            figures + (f" (as to {', '.join(about)})" if about else ""),
            advice,
        )
        for (runs, figures, advice), about in alike.items()
    ]
    meaning = MEANINGS.get(worst.code, "").replace("`", "")
    return Reason(worst.code, worst.severity.name, meaning, each, worst.advice if shared else "")


def objectives(series: Series) -> tuple[list[str], Table] | None:
    """Return the highest load that met its objectives and each tier's, and one row per level.

    None where there are no objectives.
    """
    asked, tiers = objectives_of(series), tiers_of(series)
    if not asked and not tiers:
        return None
    columns = [
        Column("load", "level of load", lambda level: Cell(level.load.words), look=""),
        *([Column("all", "whether every objective was met", _state, look="")] if asked else []),
        *(Column(o.words, "whether it was met", partial(_met, o), look="") for o in asked),
        *(Column(f"tier {t}", "what it didn't meet", partial(_tier, t), look="") for t in tiers),
    ]
    most = capacity(series.levels)
    lines = [f"tier {name}: {tier_words(series, name)}" for name in tiers]
    return [*([most.words] if most else []), *lines], table(columns, series.levels)


def _state(level: Level) -> Cell:
    """Return whether a level met all objectives; one whose runs are INVALID met none."""
    if not level.figures_of:
        return Cell("INVALID", look="pill")
    return Cell(WORD[level.attainment.word if level.attainment else "missed"], look="pill")


def _tier(tier: str, level: Level) -> Cell:
    """Return whether a level met a tier's objectives, and which ones it didn't."""
    found = level.tiers.get(tier)
    if found is None:
        return _not_judged(level)
    mark, look = MARK[found.word]
    failing = ", ".join(o.objective.words for o in found.missed or found.not_shown)
    words = "; ".join(outcome.words for outcome in found.outcomes)
    return Cell(f"{mark} {failing or 'met'}", look=look, more=words)


def _not_judged(level: Level) -> Cell:
    why = level.invalid or "its runs had other objectives"
    return Cell(f"✗ {ABSENT}", look="missed", more=why)


def _met(objective: Objective | RateObjective, level: Level) -> Cell:
    outcomes = level.attainment.outcomes if level.attainment else ()
    outcome = next((o for o in outcomes if o.objective == objective), None)
    if outcome is None:
        return _not_judged(level)
    mark, look = MARK[outcome.word]
    figure = "not measured" if outcome.unmeasured or outcome.interval is None else outcome.figure
    return Cell(f"{mark} {figure}", look=look, more=outcome.words)
