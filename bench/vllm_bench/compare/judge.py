"""From pairs of figures to words: Holm over the measures of a level, and each measure's margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..stats.paired import (
    Bar,
    Paired,
    holm,
    pairs_needed,
    pairs_within,
    smallest_step,
    spread_at_most,
)
from .comparison import Measure, Word

MIN_PAIRS = 4  # with three, t is so wide that only steps of 20 % would show
LEVEL = 0.05  # of false alarms, over all measures of a level
WORTH = 0.05  # a step that should be found: the margin, where that is larger
# Confidence of the interval that must lie inside the margin. 90 % would do for one look, but who
# runs on after "cannot tell" looks twice, and runs near each other are alike: with 90 % a
# difference of a margin was called equivalent in up to 10 % of experiments, with 95 % in 6 %.
EQUIVALENT = 0.96
# Confidence of the spread by which the number of pairs is asked for: it suffices in 90 %.
SAFE = 0.8


@dataclass(frozen=True, slots=True)
class Judged:
    """The word on one measure."""

    word: Word
    p: float  # adjusted
    more_pairs: int | None
    smallest: float


def judged(found: Sequence[tuple[Measure, Paired]]) -> list[Judged]:
    """Return the words on the measures of a level, each of four pairs or more.

    A measure without any spread or difference (each success rate is 1) can raise no alarm, so it
    doesn't count among the tests.
    """
    ps = [1.0 if one.p is None else one.p for _, one in found]
    tested = [place for place, (_, one) in enumerate(found) if one.spread or one.mean]
    for place, adjusted in zip(tested, holm([ps[at] for at in tested]), strict=True):
        ps[place] = adjusted
    return [_judged(m, one, p, len(tested)) for (m, one), p in zip(found, ps, strict=True)]


def _judged(measure: Measure, one: Paired, p: float, tests: int) -> Judged:
    bar = Bar(LEVEL / max(tests, 1), math.log1p(measure.margin / 2))
    word = _word(measure, one, p)
    more = _more(measure, one, bar) if word == "cannot tell" else None
    return Judged(word, p, more, smallest_step(one.spread or 0.0, one.pairs, bar))


def _word(measure: Measure, one: Paired, p: float) -> Word:
    low, high = one.logs(0.95) or (-math.inf, math.inf)
    beyond, margin = math.log1p(measure.margin / 2), math.log1p(measure.margin)
    if p < LEVEL and (low > beyond or high < -beyond):
        return "faster" if (one.mean > 0) == measure.more_is_better else "slower"
    low, high = one.logs(EQUIVALENT) or (-math.inf, math.inf)
    return "equivalent" if -margin < low and high < margin else "cannot tell"


def _more(measure: Measure, one: Paired, bar: Bar) -> int | None:
    """Return how many pairs more would show a step, made even: turns then balance a trend.

    Where these would have shown one, it is the smaller difference that is open: whether it lies
    within the margin or beyond half of it. That takes an interval of so much.
    """
    spread = spread_at_most(one.spread or 0.0, one.pairs - 1, SAFE)
    needed = pairs_needed(spread, max(measure.margin, WORTH), bar)
    if needed is not None and needed <= one.pairs:
        margin = math.log1p(measure.margin)
        open_by = max(margin - abs(one.mean), abs(one.mean) - bar.beyond, margin / 4)
        needed = pairs_within(one.spread or 0.0, open_by, EQUIVALENT)
    if needed is None:
        return None
    needed = max(needed, one.pairs + 2)
    return needed + needed % 2 - one.pairs
