"""Levels (the repeats of one scenario at one load) and series (the levels of one scenario).

Only runs that aren't INVALID enter a mean, a pooled percentile, a line; and of runs that lie
further apart than repeats do there is none: something differs that no setting tells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, pairwise

from ..figures.attained import Attainment, pooled
from ..figures.digits import short
from ..figures.metrics import TITLES, headline_metric
from ..records.same_run import server_that_counts, settings_that_count
from ..scenario.load import Load
from ..stats.batches import Interval
from ..stats.distribution import Distribution, pooled_sample
from ..stats.repeated import Repeated, repeated
from ..verdict.finding import Severity
from ..verdict.verdict import Level as VerdictLevel
from .summary import RunSummary

Figure = Callable[[RunSummary], float | None]

COMPARED = ("ttft_ms", "tpot_ms", "latency_ms")
APART = 1.5  # repeats differ by a few percent, near saturation by their intervals
HIT_RATES_APART = 0.10  # what is found in the cache needn't be computed: another load
# Servers that send several tokens a chunk (--stream-interval) say so nowhere else. Load alone
# merges a few, from 1.02 to 1.35 tokens a chunk, without such a step between two levels.
CHUNKS_APART = 1.5
DISAGREE = (
    "`repeats_disagree`, of a level and not of a run: its repeats' median TTFT, TPOT or latency, "
    f"or output tokens/s, lie over {APART:g} x apart and outside each other's intervals, or the "
    f"prefix cache held shares over {100 * HIT_RATES_APART:.0f} points apart. Something differs "
    "that no setting tells, so there is no mean: name the runs with bench.py --label."
)


@dataclass(frozen=True)
class Level:
    """The runs of one load, in the order of their start. Never empty.

    Of many runs each figure takes a while: it is computed when it is first needed, once.
    """

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
        return self._each(self.load.number)

    @property
    def run_words(self) -> list[str]:
        """One name per run that stands alone: `8 streams`, or `8 streams, run 2` of several."""
        return self._each(self.load.words)

    def _each(self, load: str) -> list[str]:
        if len(self.runs) == 1:
            return [load]
        return [f"{load}, run {place}" for place in range(1, len(self.runs) + 1)]

    @property
    def class_(self) -> str | None:
        """The class of users that it is a level of; None: of all."""
        return self.runs[0].class_

    @cached_property
    def classes(self) -> dict[str, Level]:
        """The same runs, of each class that all of them have."""
        names = [n for n in self.runs[0].classes if all(n in run.classes for run in self.runs)]
        return {n: Level(tuple(run.classes[n] for run in self.runs)) for n in names}

    @cached_property
    def believed(self) -> tuple[RunSummary, ...]:
        """Its runs that aren't INVALID."""
        return tuple(run for run in self.runs if run.verdict.level != "INVALID")

    @cached_property
    def disagree(self) -> str | None:
        """How its believed runs differ by more than repeats do, in words; None: they don't."""
        found = [words for of in (_far_apart, _hit_rates_apart) for words in of(self.believed)]
        return f"repeats_disagree: {', '.join(found)}" if found else None

    @cached_property
    def figures_of(self) -> tuple[RunSummary, ...]:
        """The runs that its figures are of: those believed; none where these disagree."""
        return () if self.disagree else self.believed

    @cached_property
    def verdict(self) -> VerdictLevel:
        """The worst verdict of the runs that its figures are of; INVALID where there are none."""
        levels = {run.verdict.level for run in self.figures_of}
        return "INVALID" if not levels else "SUSPECT" if "SUSPECT" in levels else "VALID"

    @property
    def reasons(self) -> str:
        """The codes of all its runs' doubts."""
        codes = [f.code for run in self.runs for f in run.verdict.doubts]
        return ", ".join(dict.fromkeys([*(["repeats_disagree"] if self.disagree else []), *codes]))

    @property
    def invalid(self) -> str | None:
        """Which of its runs don't count, and why, in words; None: all do."""
        if self.disagree:
            return self.disagree
        found = [run for run in self.runs if run.verdict.level == "INVALID"]
        if not found:
            return None
        some, every = len(found), len(self.runs)
        who = "its run" if every == 1 else f"its {every} runs"
        who = who if some == every else f"{some} of {who}"
        grave = [f for r in found for f in r.verdict.doubts if f.severity is Severity.INVALID]
        codes = ", ".join(dict.fromkeys(f.code for f in grave))
        return f"{who} {'is' if some == 1 else 'are'} INVALID ({codes})"

    @cached_property
    def attainment(self) -> Attainment | None:
        """Its runs' outcomes together; None where a run has none, or there is no run to count."""
        return _together([run.attainment for run in self.figures_of])

    @cached_property
    def tiers(self) -> dict[str, Attainment]:
        """Those of each of `slo_tiers`; a tier that a run lacks, or has otherwise, is left out."""
        names = dict.fromkeys(name for run in self.figures_of for name in run.tiers)
        of_each = {n: _together([run.tiers.get(n) for run in self.figures_of]) for n in names}
        return {name: found for name, found in of_each.items() if found is not None}

    @cached_property
    def hit_rate(self) -> float | None:
        """Share of prompt tokens found in the prefix cache, 0 to 1, over its runs."""
        rates = [rate for run in self.figures_of if (rate := hit_rate(run)) is not None]
        return sum(rates) / len(rates) if rates else None

    def over_repeats(self, figure: Callable[[RunSummary], object]) -> Repeated | None:
        """Return a figure over the runs that count; None where there are none, or one lacks it."""
        values = [v for run in self.figures_of if isinstance(v := figure(run), int | float)]
        return repeated(values) if len(values) == len(self.figures_of) else None

    def centre(self, figure: Figure) -> float | None:
        """Return its geometric mean over the runs, or None."""
        found = self.over_repeats(figure)
        return found.centre if found else None

    def distribution(self, metric: str) -> Distribution | None:
        """Return a metric's distribution over the rows of all runs that count together."""
        if len(self.figures_of) == 1:
            return self.figures_of[0].distributions.get(metric)
        if metric not in self.pooled:
            rows = pooled_sample([run.samples[metric] for run in self.figures_of])
            self.pooled[metric] = rows.described()
        return self.pooled[metric]

    @cached_property
    def pooled(self) -> dict[str, Distribution | None]:
        """The distributions of all its rows that are known by now, by metric."""
        return {}

    def percentile(self, metric: str, percentile: float) -> float | None:
        """Return a percentile of the pooled rows: the mean of runs' p99s isn't the p99."""
        found = self.distribution(metric)
        return found.percentile(percentile) if found else None

    def over_rows(self, metric: str, percentile: float) -> Repeated | None:
        """Return a percentile of the pooled rows with its interval, and those of each run."""
        found = self.distribution(metric)
        value = found.percentile(percentile) if found else None
        if found is None or value is None:
            return None
        of_each = (run.percentile(metric, percentile) for run in self.figures_of)
        own = tuple(v for v in of_each if v is not None)
        return Repeated(own, value, found.interval(percentile))


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
    def run_words(self) -> list[tuple[str, RunSummary]]:
        """Each run with a name that stands alone."""
        return [pair for lv in self.levels for pair in zip(lv.run_words, lv.runs, strict=True)]

    @property
    def named_runs(self) -> list[tuple[str, RunSummary]]:
        return [pair for lv in self.levels for pair in zip(lv.names, lv.runs, strict=True)]

    @property
    def named_parts(self) -> list[tuple[str, RunSummary]]:
        """Each run with its name, and after it its classes: `8`, `8, chat`."""
        return [
            named
            for name, run in self.named_runs
            for named in ((name, run), *((f"{name}, {n}", p) for n, p in run.classes.items()))
        ]

    @property
    def classes(self) -> dict[str, Series]:
        """The same levels, of each class."""
        names = dict.fromkeys(name for level in self.levels for name in level.classes)
        return {
            name: Series(tuple(lv.classes[name] for lv in self.levels if name in lv.classes))
            for name in names
        }

    @property
    def parts(self) -> list[tuple[str, Series]]:
        """All users together, under no name, and each class under its own."""
        return [("", self), *self.classes.items()]


def _together(parts: Sequence[Attainment | None]) -> Attainment | None:
    """Return runs' attainment as one; None where a run has none, or there is no run."""
    known = [part for part in parts if part is not None]
    return pooled(known) if len(known) == len(parts) else None


def output_tokens_per_s(run: RunSummary) -> float | None:
    """Return a run's output rate: in the steady window where stamps allow it, else overall."""
    for found in (run.steady, run.throughput):
        if found is not None and found.output_tokens_per_s:
            return found.output_tokens_per_s
    return None


# ---- whether repeats agree ----

Known = tuple[float, Interval | None]


def _far_apart(runs: Sequence[RunSummary]) -> Iterator[str]:
    """Yield each headline figure whose values lie apart, and outside each other's intervals."""
    for metric in COMPARED if runs else ():
        name = headline_metric(metric, runs[0].load)
        known = [(v, _interval(run, name)) for run in runs if (v := run.percentile(name, 50))]
        if _disagree(known):
            yield f"{TITLES[name]} p50 {_from_to(known)} ms"
    rates: list[Known] = [(v, None) for run in runs if (v := output_tokens_per_s(run))]
    if _disagree(rates):
        yield f"{_from_to(rates)} output tokens/s"


def _interval(run: RunSummary, metric: str) -> Interval | None:
    return run.distributions[metric].interval(50)


def _disagree(known: Sequence[Known]) -> bool:
    pairs = combinations(sorted(known, key=lambda one: one[0]), 2)
    return any(b[0] > APART * a[0] and not _hold(a[1], b[0], b[1], a[0]) for a, b in pairs)


def _hold(low: Interval | None, b: float, high: Interval | None, a: float) -> bool:
    """Whether the lower value's interval holds the higher value b, or the higher one's holds a."""
    return (low is not None and low.high >= b) or (high is not None and high.low <= a)


def _from_to(known: Sequence[Known]) -> str:
    values = [value for value, _ in known]
    return f"{short(min(values))} to {short(max(values))}"


def _hit_rates_apart(runs: Sequence[RunSummary]) -> Iterator[str]:
    rates = [rate for run in runs if (rate := hit_rate(run)) is not None]
    if rates and max(rates) - min(rates) > HIT_RATES_APART:
        yield f"prefix cache hits {100 * min(rates):.0f} to {100 * max(rates):.0f} %"


def hit_rate(run: RunSummary) -> float | None:
    """Return the share of a run's prompt tokens that were found in the prefix cache, 0 to 1.

    By the server's counters, else by its replies; None where neither says.
    """
    if run.server_side.prefix_cache_hit_rate is not None:
        return run.server_side.prefix_cache_hit_rate
    prompt_tokens = run.throughput.prompt_tokens if run.throughput else 0
    known = run.cached_tokens is not None and prompt_tokens
    return (run.cached_tokens or 0) / prompt_tokens if known else None


# ---- which runs are a series ----


def series_of(summaries: Sequence[RunSummary]) -> list[Series]:
    """Group sorted summaries: runs that differ in anything that counts get different series.

    Every table asks for them, and of many runs they take a while: the last ones are kept.
    """
    return list(_grouped(tuple(summaries)))


@lru_cache(maxsize=2)
def _grouped(summaries: tuple[RunSummary, ...]) -> tuple[Series, ...]:
    found: dict[tuple[object, ...], list[RunSummary]] = {}
    prompts_of: dict[tuple[object, ...], list[object]] = {}
    for summary in summaries:
        facts = as_text(identity(summary))
        key = (summary.scenario, summary.load.unit, str(summary.folder), facts)
        # The same draw with different prompts comes from different data: an edited file, say.
        prompts = prompts_of.setdefault((*key, *_draw(summary)), [])
        if summary.prompts_sha256 not in prompts:
            prompts.append(summary.prompts_sha256)
        found.setdefault((*key, prompts.index(summary.prompts_sha256)), []).append(summary)
    parts = (part for runs in found.values() for part in _by_tokens_per_chunk(runs))
    return tuple(Series(levels_of(part)) for part in parts)


def levels_of(runs: Sequence[RunSummary]) -> tuple[Level, ...]:
    """Return runs by their loads, which rise."""
    levels: dict[Load, list[RunSummary]] = {}
    for run in runs:
        levels.setdefault(run.load, []).append(run)
    return tuple(Level(tuple(of_one)) for _, of_one in sorted(levels.items()))


def identity(run: RunSummary) -> dict[str, object]:
    """Return what must be equal for two runs to be repeats; empty where it wasn't kept.

    Its folder and its tokens per chunk count as well: see `series_of`.
    """
    if run.info is None:
        return {}
    said = server_that_counts(run.info.server)
    settings = settings_that_count(run.info.scenario)
    return {**settings, **{f"server {key}": value for key, value in said.items()}}


def _draw(run: RunSummary) -> tuple[object, ...]:
    """Return the settings that decide which prompts a run draws from its data set."""
    if run.info is None:
        return ()
    # How many a closed loop sends in a set time is known at its end.
    timed = not run.load.is_open and run.setting("duration_s") is not None
    many = run.load if timed else run.info.num_requests
    return (many, run.info.repeat, as_text(run.info.seeds))


def as_text(facts: object) -> str:
    """Return facts as a text that is equal where they are."""
    return json.dumps(facts, sort_keys=True, default=str)


def tokens_per_chunk(run: RunSummary) -> float | None:
    """Return the tokens that a chunk of the median reply brought; None without streaming."""
    found = run.distributions.get("tokens_per_chunk")
    return None if found is None else found.percentiles.get(50.0, found.mean)


def _by_tokens_per_chunk(runs: Sequence[RunSummary]) -> Iterator[list[RunSummary]]:
    """Yield the runs in parts whose tokens per chunk are alike; where unknown, in the first."""
    known = sorted(size for run in runs if (size := tokens_per_chunk(run)))
    steps = [high for low, high in pairwise(known) if high > CHUNKS_APART * low]
    for low, high in pairwise([0.0, *steps, float("inf")]):
        yield [run for run in runs if low <= (tokens_per_chunk(run) or 0.0) < high]
