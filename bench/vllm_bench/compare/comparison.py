"""What a comparison says: for each level and measure A, B, the effect with its interval, a word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..scenario.load import Load
from ..stats.batches import Interval
from ..summary.summary import RunSummary

Word = Literal["faster", "slower", "equivalent", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that two runs are compared by."""

    name: str  # as in summary.csv: output_tokens_per_s, ttft_ms_p95
    title: str  # for people: output tokens/s, TTFT p95
    unit: str  # ms, J, or nothing
    more_is_better: bool
    margin: float  # a difference that nobody would mind: 0.02 of the figure
    headline: bool  # `slower` here is exit code 3
    of: Callable[[RunSummary], float | None]


@dataclass(frozen=True, slots=True)
class Unit:
    """One observation: a run, or the runs of one start of a server, at one level. Never empty."""

    runs: tuple[RunSummary, ...]

    def value(self, measure: Measure) -> float | None:
        """Return the geometric mean over its runs; None where one lacks it or has 0."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Pair:
    """Two observations of the same plan: one of A, one of B."""

    a: Unit
    b: Unit


@dataclass(frozen=True, slots=True)
class Effect:
    """B against A over all pairs: exp(mean ln(b / a)) and its paired t interval."""

    ratio: float
    interval: Interval | None  # 95 %; None: one pair
    spread: float | None  # standard deviation of ln(b / a); None: one pair


@dataclass(frozen=True, slots=True)
class Row:
    """One measure at one level."""

    measure: Measure
    a: float | None  # geometric means over the pairs
    b: float | None
    effect: Effect | None  # None: a figure is missing, `why` says which
    word: Word | None  # None: no word is due, `why` says why
    why: str | None
    more_pairs: int | None  # about how many, where the word is `cannot tell`
    smallest: float | None  # the smallest change that these pairs could have shown: 0.03


@dataclass(frozen=True, slots=True)
class LevelRows:
    """All measures at one level of load."""

    scenario: str
    load: Load
    pairs: tuple[Pair, ...]
    dropped: tuple[str, ...]  # a line for each pair that was thrown away whole, and why
    rows: tuple[Row, ...]


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
