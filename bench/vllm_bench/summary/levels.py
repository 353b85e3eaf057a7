"""Levels (the repeats of one scenario at one load) and series (the levels of one scenario)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..figures.objectives import Attainment, pooled
from ..figures.statistics import Distribution, Repeated, pooled_sample, repeated
from ..records.same_run import server_that_counts, settings_that_count
from ..records.text import printable
from ..scenario.load import Load
from ..verdict.finding import Severity
from ..verdict.verdict import Level as VerdictLevel
from .summary import RunSummary

Figure = Callable[[RunSummary], float | None]

MOST = 4  # differences in a series' name; the others are counted
LONGEST = 40  # characters of a value in a series' name
UNSET = "none"


@dataclass(frozen=True, slots=True)
class Level:
    """The runs of one load, in the order of their start. Never empty."""

    runs: tuple[RunSummary, ...]

    @property
    def scenario(self) -> str:
        return self.runs[0].scenario

    @property
    def load(self) -> Load:
        return self.runs[0].load

    @property
    def names(self) -> list[str]:
        """One name per run, under a heading of the unit: `8`, or `8, run 2` of several."""
        if len(self.runs) == 1:
            return [self.load.number]
        return [f"{self.load.number}, run {place}" for place in range(1, len(self.runs) + 1)]

    @property
    def verdict(self) -> VerdictLevel:
        """The worst verdict of its runs."""
        levels = {run.verdict.level for run in self.runs}
        return "INVALID" if "INVALID" in levels else "SUSPECT" if "SUSPECT" in levels else "VALID"

    @property
    def reasons(self) -> str:
        return ", ".join(dict.fromkeys(f.code for run in self.runs for f in run.verdict.doubts))

    @property
    def invalid(self) -> str | None:
        """Which of its runs are INVALID, and their codes, in words; None: none."""
        found = [run for run in self.runs if run.verdict.level == "INVALID"]
        if not found:
            return None
        some, every = len(found), len(self.runs)
        who = "its run" if every == 1 else f"its {every} runs"
        who = who if some == every else f"{some} of {who}"
        grave = [f for r in found for f in r.verdict.doubts if f.severity is Severity.INVALID]
        codes = ", ".join(dict.fromkeys(f.code for f in grave))
        return f"{who} {'is' if some == 1 else 'are'} INVALID ({codes})"

    @property
    def believed(self) -> tuple[RunSummary, ...]:
        """Its runs that aren't INVALID: only these enter means, percentiles and lines."""
        return tuple(run for run in self.runs if run.verdict.level != "INVALID")

    @property
    def attainment(self) -> Attainment | None:
        parts = [run.attainment for run in self.believed if run.attainment]
        return pooled(parts) if parts and len(parts) == len(self.believed) else None

    def over_repeats(self, figure: Callable[[RunSummary], object]) -> Repeated | None:
        """Return a figure over the believed runs; None where one of them has no number for it."""
        values = [v for run in self.believed if isinstance(v := figure(run), int | float)]
        return repeated(values) if len(values) == len(self.believed) else None

    def centre(self, figure: Figure) -> float | None:
        """Return its geometric mean over the runs, or None."""
        found = self.over_repeats(figure)
        return found.centre if found else None

    def distribution(self, metric: str) -> Distribution | None:
        """Return a metric's distribution over the rows of all believed runs together."""
        if len(self.believed) == 1:
            return self.believed[0].distributions.get(metric)
        return pooled_sample([run.samples[metric] for run in self.believed]).described()

    def percentile(self, metric: str, percentile: float) -> float | None:
        """Return a percentile of the pooled rows: the mean of runs' p99s isn't the p99."""
        found = self.distribution(metric)
        return found.percentile(percentile) if found else None


@dataclass(frozen=True, slots=True)
class Series:
    """The levels of one scenario with one set of settings on one server, by rising load."""

    levels: tuple[Level, ...]

    @property
    def scenario(self) -> str:
        return self.levels[0].scenario

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        return tuple(run for level in self.levels for run in level.runs)

    @property
    def named_runs(self) -> list[tuple[str, RunSummary]]:
        return [pair for lv in self.levels for pair in zip(lv.names, lv.runs, strict=True)]


def series_of(summaries: Sequence[RunSummary]) -> list[Series]:
    """Group sorted summaries: runs with different settings or servers get different series."""
    found: dict[tuple[object, ...], dict[Load, list[RunSummary]]] = {}
    prompts_of: dict[tuple[object, ...], list[object]] = {}
    for summary in summaries:
        key = (summary.scenario, _as_text(_compared(summary)), summary.load.unit)
        # The same draw with different prompts comes from different data: an edited file, say.
        prompts = prompts_of.setdefault((*key, *_draw(summary)), [])
        if summary.prompts_sha256 not in prompts:
            prompts.append(summary.prompts_sha256)
        edition = (*key, prompts.index(summary.prompts_sha256))
        found.setdefault(edition, {}).setdefault(summary.load, []).append(summary)
    return [
        Series(tuple(Level(tuple(runs)) for _, runs in sorted(levels.items())))
        for levels in found.values()
    ]


def _compared(run: RunSummary) -> dict[str, object]:
    """Return what must be equal for two runs to be repeats; empty where it wasn't kept."""
    if run.info is None:
        return {}
    server = server_that_counts(run.info.server)
    said = {f"server {key}": value for key, value in server.items()}
    return {**settings_that_count(run.info.scenario), **said}


def _draw(run: RunSummary) -> tuple[object, ...]:
    """Return the settings that decide which prompts a run draws from its data set."""
    if run.info is None:
        return ()
    return (run.info.num_requests, run.info.repeat, _as_text(run.info.seeds))


def _as_text(facts: object) -> str:
    return json.dumps(facts, sort_keys=True, default=str)


def named_series(series: Sequence[Series]) -> list[tuple[str, Series]]:
    """Return series with their names: the scenario's, and what differs if there are several.

    `short_chat: max_new_tokens=8`. A closed and an open loop need no more: units differ.
    """
    groups = groupby(series, key=lambda one: (one.scenario, one.levels[0].load.unit))
    return [pair for _, group in groups for pair in _named(list(group))]


def _named(group: Sequence[Series]) -> Iterator[tuple[str, Series]]:
    differences = _differences(group)
    for one, settings in zip(group, differences, strict=True):
        checksum = one.runs[0].prompts_sha256 if differences.count(settings) > 1 else None
        prompts = f"prompts sha256={str(checksum)[:8]}" if checksum else ""
        what = ", ".join(part for part in (settings, prompts) if part)
        yield f"{one.scenario}: {what}" if what and len(group) > 1 else one.scenario, one


def _differences(group: Sequence[Series]) -> list[str]:
    facts = [dict(_flat("", _compared(one.runs[0]))) for one in group]
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


def _flat(prefix: str, found: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        elif value is not None:
            yield printable(name, LONGEST), printable(value, LONGEST)
