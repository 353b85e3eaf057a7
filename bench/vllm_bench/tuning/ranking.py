"""Which configuration is best, by the aim: a score each, an order, and what two best differ by.

The order of the first measurements chooses; it names nobody. Of several candidates the one that
chance has favoured tends to be first, so the two best are measured again, by turns, and only those
runs say which is better (METHOD.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..compare.comparison import Comparison, Row
from ..compare.measures import MEASURES
from ..figures.digits import short
from ..figures.metrics import TITLES, headline_metric
from ..scenario.load import Load
from ..summary.capacity import gpu_count
from ..summary.levels import Level, output_tokens_per_s, series_of
from ..summary.summary import RunSummary, sorted_summaries
from .configurations import Aim
from .trials import Tried

FEWEST = 2  # configurations that are measured in full
# What two are compared by when they are measured again: a measure's name (compare/measures.py).
MEASURE: dict[Aim, str] = {
    "throughput": "output_tokens_per_s",
    "capacity": "goodput_per_s",
    "ttft": "ttft_p95_ms",
}
TITLE = {measure.name: measure.title for measure in MEASURES}


@dataclass(frozen=True, slots=True)
class Score:
    """What a configuration reached, by the aim."""

    value: float
    load: Load | None  # at which; None: of a search
    words: str  # for people: `1117 tokens/s at 32 streams`
    missed: bool  # the objectives, wherever it was measured
    doubt: str = ""  # its level's verdict, where that isn't VALID


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A configuration with its score; None: it has none, `why` says why."""

    tried: Tried
    score: Score | None
    why: str = ""

    @property
    def name(self) -> str:
        return self.tried.trial.configuration


def ranked(aim: Aim, found: Sequence[Tried]) -> list[Placed]:
    """Return the configurations, the best first; those without a score last."""
    top = _top(found)
    placed = [_placed(aim, tried, top) for tried in found]
    return sorted(placed, key=lambda one: _order(aim, one))


def better_half(found: Sequence[Placed]) -> list[Placed]:
    """Return the better half of those that have a score, two at least where there are two."""
    scored = [one for one in found if one.score is not None]
    return scored[: max(FEWEST, math.ceil(len(scored) / 2))]


def _order(aim: Aim, placed: Placed) -> tuple[bool, bool, float]:
    if placed.score is None:
        return True, True, 0.0
    value = placed.score.value
    return False, placed.score.missed, value if aim == "ttft" else -value


@dataclass(frozen=True, slots=True)
class _Top:
    """Where TTFT is compared: the highest level, and by a percentile that all have there."""

    load: Load | None
    percentile: float


def _placed(aim: Aim, tried: Tried, top: _Top) -> Placed:
    if tried.trial.why is not None:
        return Placed(tried, None, tried.trial.why)
    levels = levels_of_runs(tried.runs)
    if aim == "capacity" and tried.trial.stage == "full":
        return _by_capacity(tried)
    counted = levels if aim != "ttft" else [lv for lv in levels if lv.load == top.load]
    sound = [level for level in counted if level.figures_of]
    if not sound:
        return Placed(tried, None, _unsound(counted))
    if aim == "ttft":
        score = _by_ttft(sound[-1], top.percentile)
    else:
        score = _by_throughput(sound, gpus_of(tried))
    if score is None:
        return Placed(tried, None, "no such figure: too few requests")
    return Placed(tried, replace(score, doubt=_doubts(score, levels)))


def _unsound(levels: Sequence[Level]) -> str:
    codes = dict.fromkeys(code for lv in levels for code in lv.reasons.split(", ") if code)
    at = ", ".join(level.load.words for level in levels)
    return f"INVALID at {at} ({', '.join(codes)})" if codes else "nothing was measured"


def _doubts(score: Score, levels: Sequence[Level]) -> str:
    """Return the level's own doubt, and which other levels have no figures to choose from."""
    absent = [level.load.words for level in levels if not level.figures_of]
    return ", ".join(filter(None, (score.doubt, *(f"INVALID at {words}" for words in absent))))


def levels_of_runs(runs: Sequence[RunSummary]) -> list[Level]:
    """Return the levels of a trial's runs, by rising load."""
    return [lv for series in series_of(sorted_summaries([*runs])) for lv in series.levels]


def gpus_of(tried: Tried) -> int | None:
    """Return the server's GPUs: those that its scenario, or its samples, tell; None: not known."""
    return gpu_count(tried.runs) if tried.runs else None


def _by_capacity(tried: Tried) -> Placed:
    found = tried.trial.capacity
    if found is None or found.value is None:
        return Placed(tried, None, found.words if found else "no search was made")
    load = Load("requests/s" if found.unit == "requests/s" else "streams", found.value)
    return Placed(tried, Score(found.value, load, found.words, missed=False))


def _by_throughput(levels: Sequence[Level], gpus: int | None) -> Score | None:
    """Return the most tokens/s of a level that didn't miss the objectives; else of any."""
    known = [(level, rate) for level in levels if (rate := level.centre(output_tokens_per_s))]
    if not known:
        return None
    fine = [(level, rate) for level, rate in known if not _missed(level)]
    level, rate = max(fine or known, key=lambda one: one[1])
    per = " a GPU" if gpus and gpus > 1 else ""
    words = f"{short(rate / (gpus or 1))} tokens/s{per} at {level.load.words}"
    return Score(rate / (gpus or 1), level.load, words, not fine, _doubt(level))


def _by_ttft(level: Level, percentile: float) -> Score | None:
    """Return the TTFT at the highest level."""
    metric = headline_metric("ttft_ms", level.load)
    value = level.percentile(metric, percentile)
    if value is None:
        return None
    words = f"{TITLES[metric]} p{percentile:g} {short(value)} ms at {level.load.words}"
    return Score(value, level.load, words, _missed(level), _doubt(level))


def _top(found: Sequence[Tried]) -> _Top:
    """Return the highest level of all, and p95 where all that are sound there have it, else p50."""
    levels = [level for tried in found for level in levels_of_runs(tried.runs)]
    load = max((level.load for level in levels), default=None)
    at = [level for level in levels if level.load == load and level.figures_of]
    known = [level.percentile(headline_metric("ttft_ms", level.load), 95) for level in at]
    return _Top(load, 50.0 if None in known else 95.0)


def _missed(level: Level) -> bool:
    return level.attainment is not None and level.attainment.word == "missed"


def _doubt(level: Level) -> str:
    return "" if level.verdict == "VALID" else level.verdict


# ---- the two best, measured again by turns ----

Outcome = Literal["better", "equivalent", "cannot tell", "nothing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Which of the two best is better, by how much, or that it can't be told."""

    outcome: Outcome
    best: str  # the name of the one to start with
    other: str
    words: str  # a sentence for people


def answer(aim: Aim, a: str, b: str, comparison: Comparison, gpus: Mapping[str, int]) -> Answer:
    """Return what the turns of two configurations say; `a` was first before them.

    `gpus` has each one's GPUs, by name: throughput is compared by GPU.
    """
    row = next((r for lv in comparison.levels for r in lv.rows if _is_it(aim, r)), None)
    if row is None or row.effect is None:
        why = "; ".join(comparison.refusals) or (row.why if row else "") or "no pair counts"
        return Answer("nothing", a, b, f"cannot tell between {a} and {b}: {why}")
    if aim == "throughput" and gpus.get(a, 1) != gpus.get(b, 1):
        return _by_gpu(a, b, row, gpus.get(a, 1) / gpus.get(b, 1))
    change = _change(row.effect.ratio, row)
    what = f"{b} against {a}: {TITLE[row.measure.name]} {change}"
    if row.word in ("faster", "slower"):
        best, other = (b, a) if row.word == "faster" else (a, b)
        return Answer("better", best, other, f"{best} is better than {other}. {what}")
    if row.word == "equivalent":
        alike = f"within {100 * row.measure.margin:g} % of each other: cannot tell between them"
        return Answer("equivalent", a, b, f"{a} and {b} are {alike}. {what}")
    more = f", about {row.more_pairs} more pairs would" if row.more_pairs else ""
    why = f" ({row.why})" if row.word is None and row.why else more
    return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}{why}. {what}")


def _is_it(aim: Aim, row: Row) -> bool:
    return row.measure.name == MEASURE[aim]


def _change(ratio: float, row: Row) -> str:
    """Return `+8.3 % (95 % interval 6.1 to 10.4)`."""
    interval = row.effect.interval if row.effect else None
    if interval is None:
        return f"{_percent(ratio)} %, of one pair"
    low, high = _percent(interval.low), _percent(interval.high)
    return f"{_percent(ratio)} % (95 % interval {low} to {high})"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _by_gpu(a: str, b: str, row: Row, factor: float) -> Answer:
    """Return the answer where the two have another number of GPUs: by the interval alone."""
    assert row.effect is not None
    interval, ratio = row.effect.interval, row.effect.ratio * factor
    if interval is None or row.word is None:
        what = f"{b} against {a}: tokens/s a GPU {_percent(ratio)} %"
        return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}: {row.why}. {what}")
    low, high = interval.low * factor, interval.high * factor
    what = (
        f"{b} against {a}: tokens/s a GPU {_percent(ratio)} % "
        f"(95 % interval {_percent(low)} to {_percent(high)})"
    )
    if low <= 1 <= high:
        return Answer("cannot tell", a, b, f"cannot tell between {a} and {b}. {what}")
    best, other = (b, a) if low > 1 else (a, b)
    return Answer("better", best, other, f"{best} is better than {other}. {what}")
