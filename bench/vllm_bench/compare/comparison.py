"""What a comparison says: for each level and measure A, B, the effect with its interval, a word."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..figures.metrics import headline_metric
from ..scenario.load import Load
from ..stats.batches import Interval
from ..stats.distribution import min_samples
from ..summary.summary import RunSummary
from ..verdict.finding import Family

# `not slower` is said against stored nights alone, in the place of the last two and of `faster`.
Word = Literal["faster", "slower", "equivalent", "cannot tell", "not slower"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that two runs are compared by."""

    name: str  # output_tokens_per_s, ttft_p95_ms; where summary.csv has it, as there
    title: str  # for people: output tokens/s, TTFT p95
    unit: str  # ms, J, or nothing
    more_is_better: bool
    margin: float  # a difference that nobody would mind: 0.02 of the figure
    headline: bool  # `slower` here is exit code 3
    family: Family  # a run whose figures of this family are INVALID lacks it
    of: Callable[[RunSummary], float | None]


@dataclass(frozen=True, slots=True)
class Unit:
    """One observation: a run, or the runs of one start of a server, at one level. Never empty."""

    runs: tuple[RunSummary, ...]

    def value(self, measure: Measure) -> float | None:
        """Return the geometric mean over its runs; 0 where one has 0; None where one lacks it."""
        found = [_value(run, measure) for run in self.runs]
        known = [value for value in found if value is not None]
        return geometric_mean(known) if len(known) == len(found) else None

    def lacking(self, measure: Measure) -> str | None:
        """Return which of its runs lacks a figure, and why; None: all have it."""
        return next((_why(run, measure) for run in self.runs if _value(run, measure) is None), None)

    @property
    def name(self) -> str:
        return self.runs[0].run_id + (f" and {len(self.runs) - 1} more" if self.runs[1:] else "")

    @property
    def started_s(self) -> float:
        """When it began, in seconds since 1970; 0 where that isn't known."""
        return min(run.began_s for run in self.runs)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the mean of figures, none of them below 0; 0 where one is."""
    if len(set(values)) == 1 or not all(values):
        return min(values)  # exp(log(x)) would change equal figures by rounding
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _value(run: RunSummary, measure: Measure) -> float | None:
    value = measure.of(run)
    if value is None or not 0 <= value < math.inf or run.verdict.of(measure.family) == "INVALID":
        return None
    return value


def _why(run: RunSummary, measure: Measure) -> str:
    """Return why a run lacks a figure."""
    if measure.of(run) is not None:
        codes = [f.code for f in run.verdict.findings if f.about == measure.family]
        return f"{run.run_id}: INVALID ({', '.join(dict.fromkeys(codes))})"
    found = re.fullmatch(r"(\w+)_p(\d+)_ms", measure.name)
    if found is None:
        return f"{run.run_id} has none"
    metric = headline_metric(f"{found[1]}_ms", run.load)
    if metric in run.distributions:
        return f"too few requests: p{found[2]} needs {min_samples(float(found[2]))} ({run.run_id})"
    return f"{run.run_id}: {run.absent.get(metric, 'not measured')}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two observations of the same plan: one of A, one of B."""

    a: Unit
    b: Unit


@dataclass(frozen=True, slots=True)
class Effect:
    """B against A over all pairs: exp(mean ln(b / a)) and its paired t interval."""

    ratio: float
    interval: Interval | None  # 95 %; None: one pair, or none
    spread: float | None  # standard deviation of ln(b / a); None: one pair, or none

    @property
    def change(self) -> float:
        """Return the change of the figure as a fraction: -0.05 for 5 % less."""
        return self.ratio - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One measure at one level."""

    measure: Measure  # with the margin that held here, and the title that it has at this load
    a: float | None  # geometric means over the pairs
    b: float | None
    effect: Effect | None  # None: a figure is missing or 0; a ratio of 0: gone in each pair
    word: Word | None  # None: no word is due, `why` says why
    why: str | None
    p: float | None = None  # two-sided, adjusted for the level's measures by Holm's method
    more_pairs: int | None = None  # about how many, where the word is `cannot tell`
    smallest: float | None = None  # the smallest change that these pairs could have shown: 0.03
    limit: float | None = None  # against stored nights: from which figure on it is `slower`


@dataclass(frozen=True, slots=True)
class LevelRows:
    """All measures at one level of load."""

    scenario: str
    load: Load
    pairs: tuple[Pair, ...]  # none: unpaired; then rows are of one run each, or of several
    dropped: tuple[str, ...]  # a line for each pair that was thrown away whole, and why
    rows: tuple[Row, ...]
    refusal: str | None = None  # why there is no word at this level, and what to do about it
    nights: int | None = None  # stored ones that B is held against; None: it is pairs

    @property
    def words(self) -> list[Word]:
        return [row.word for row in self.rows if row.word is not None]

    @property
    def more_pairs(self) -> int | None:
        """How many pairs more would probably settle every measure; None: none would."""
        return max((row.more_pairs for row in self.rows if row.more_pairs), default=None)


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact in which the sides differ: server version, a setting, GPU, hit rate."""

    what: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, what differs between them, and what that does."""

    a: str  # the sides' names
    b: str
    differences: tuple[Difference, ...]
    levels: tuple[LevelRows, ...]
    notes: tuple[str, ...]  # what a sceptic should know: these two processes; all of A before B
    refusals: tuple[str, ...]  # why there is no word at all, each with its remedy

    @property
    def slower(self) -> list[tuple[LevelRows, Row]]:
        """The headline measures that are slower, with their levels."""
        found = [(level, row) for level in self.levels for row in level.rows]
        return [(lv, row) for lv, row in found if row.word == "slower" and row.measure.headline]

    @property
    def silent(self) -> list[LevelRows]:
        """The levels without any word: each run of one side was INVALID, say."""
        return [level for level in self.levels if not level.words]

    @property
    def exit_code(self) -> int:
        """3: a headline measure is slower; 4: a level, or all, could not be judged; else 0."""
        if self.slower:
            return 3
        return 4 if self.silent or not self.levels else 0
