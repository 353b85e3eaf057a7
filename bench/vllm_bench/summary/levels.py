"""Runs of one scenario at one load: repeats of each other, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..figures.objectives import Attainment, pooled
from ..figures.statistics import Repeated, repeated
from ..records.same_run import server_that_counts, settings_that_count
from ..records.text import printable
from ..scenario.load import Load
from ..verdict.finding import Severity
from ..verdict.verdict import Level as VerdictLevel
from .summary import RunSummary

Figure = Callable[[RunSummary], float | None]


@dataclass(frozen=True, slots=True)
class Level:
    """The runs of one load, in the order of their start. Never empty."""

    runs: tuple[RunSummary, ...]

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return self.runs[0].scenario

    @property
    def load(self) -> Load:
        """How hard these runs pushed."""
        return self.runs[0].load

    @property
    def names(self) -> list[str]:
        """A name a run under a heading of the unit: `8`, or `8, run 2` where there are several."""
        several = len(self.runs) > 1
        places = range(1, len(self.runs) + 1)
        return [self.load.number + (f", run {place}" if several else "") for place in places]

    @property
    def verdict(self) -> VerdictLevel:
        """The worst verdict of its runs."""
        levels = {run.verdict.level for run in self.runs}
        return "INVALID" if "INVALID" in levels else "SUSPECT" if "SUSPECT" in levels else "VALID"

    @property
    def reasons(self) -> str:
        """The codes that took VALID away from any of its runs."""
        codes = {f.code: None for run in self.runs for f in run.verdict.doubts}
        return ", ".join(codes)

    @property
    def invalid(self) -> str | None:
        """Which of its runs are INVALID, and by which codes, in words; None: none is."""
        found = [run for run in self.runs if run.verdict.level == "INVALID"]
        if not found:
            return None
        some, all_ = len(found), len(self.runs)
        who = f"{some} of its {all_} runs" if some < all_ else f"its {all_} runs"
        codes = {
            f.code: None for r in found for f in r.verdict.doubts if f.severity is Severity.INVALID
        }
        who = "its run" if all_ == 1 else who
        return f"{who} {'is' if some == 1 else 'are'} INVALID ({', '.join(codes)})"

    @property
    def attainment(self) -> Attainment | None:
        """What its runs met of their objectives, counted together."""
        parts = [run.attainment for run in self.runs]
        return pooled([p for p in parts if p]) if None not in parts else None

    def over_repeats(self, figure: Figure) -> Repeated | None:
        """Return a figure over the runs; None where a run lacks it."""
        values = [figure(run) for run in self.runs]
        return None if None in values else repeated([v for v in values if v is not None])

    def centre(self, figure: Figure) -> float | None:
        """Return a figure's geometric mean over the runs; None where a run lacks it."""
        found = self.over_repeats(figure)
        return found.centre if found else None


@dataclass(frozen=True, slots=True)
class Series:
    """The levels of one scenario with one set of settings on one server, by rising load."""

    levels: tuple[Level, ...]

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return self.levels[0].scenario

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """All runs of all levels."""
        return tuple(run for level in self.levels for run in level.runs)

    @property
    def named_runs(self) -> list[tuple[str, RunSummary]]:
        """All of them with their names."""
        return [pair for lv in self.levels for pair in zip(lv.names, lv.runs, strict=True)]


def series_of(summaries: Sequence[RunSummary]) -> list[Series]:
    """Group sorted summaries: what differs in settings or in the server is not compared."""
    found: dict[tuple[object, ...], dict[Load, list[RunSummary]]] = {}
    editions: dict[tuple[object, ...], list[object]] = {}
    for summary in summaries:
        key = (summary.scenario, _settings(summary), summary.load.unit)
        prompts = editions.setdefault((*key, *_draw(summary)), [])
        checksum = summary.info.prompts.get("sha256") if summary.info else None
        if checksum not in prompts:
            prompts.append(checksum)
        edition = (*key, prompts.index(checksum))
        found.setdefault(edition, {}).setdefault(summary.load, []).append(summary)
    return [
        Series(tuple(Level(tuple(runs)) for _, runs in sorted(levels.items())))
        for levels in found.values()
    ]


def _settings(summary: RunSummary) -> str:
    """Return what must be the same for two runs to be repeats of each other."""
    if summary.info is None:
        return ""
    settings = settings_that_count(summary.info.scenario)
    server = server_that_counts(summary.info.server)
    return json.dumps([settings, server], sort_keys=True, default=str)


def _draw(summary: RunSummary) -> tuple[object, ...]:
    """Return what fixes which prompts a run draws from its data set.

    Two such draws with different prompts are of different data: an edited file, say.
    """
    if summary.info is None:
        return ()
    seeds = json.dumps(summary.info.seeds, sort_keys=True, default=str)
    return (summary.info.num_requests, summary.info.repeat, seeds)


MOST = 4  # differences that a name holds; the rest are counted
LONGEST = 40  # characters of a value
UNSET = "none"


def named_series(series: Sequence[Series]) -> list[tuple[str, Series]]:
    """Return series with their names: the scenario's, and what differs where it has several.

    `short_chat: max_new_tokens=8`. A closed and an open loop need no more to tell them apart.
    """
    groups = groupby(series, key=lambda one: (one.scenario, one.levels[0].load.unit))
    return [pair for _, group in groups for pair in _named(list(group))]


def _named(group: Sequence[Series]) -> Iterator[tuple[str, Series]]:
    told = _differences(group)
    for one, settings in zip(group, told, strict=True):
        prompts = _prompts(one.runs[0]) if told.count(settings) > 1 else ""
        what = ", ".join(part for part in (settings, prompts) if part)
        yield f"{one.scenario}: {what}" if what and len(group) > 1 else one.scenario, one


def _differences(group: Sequence[Series]) -> list[str]:
    facts = [dict(_facts(one.runs[0])) for one in group]
    known = [found for found in facts if found]
    keys = [
        key
        for key in dict.fromkeys(key for found in known for key in found)
        if len({found.get(key, UNSET) for found in known}) > 1
    ]
    more = f", and {len(keys) - MOST} more" if len(keys) > MOST else ""
    return [
        ", ".join(f"{key}={found.get(key, UNSET)}" for key in keys[:MOST]) + more
        if found
        else "settings unknown"
        for found in facts
    ]


def _facts(run: RunSummary) -> Iterator[tuple[str, str]]:
    """Return what two series may differ in; nothing where the run's settings were not kept."""
    if run.info is None:
        return
    yield from _flat("", settings_that_count(run.info.scenario))
    yield from _flat("server ", server_that_counts(run.info.server))


def _flat(prefix: str, found: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        elif value is not None:
            yield printable(name, LONGEST), printable(value, LONGEST)


def _prompts(run: RunSummary) -> str:
    checksum = run.info.prompts.get("sha256") if run.info else None
    return f"prompts sha256={str(checksum)[:8]}" if checksum else ""
