"""Which configuration is best, by the aim: a score each, an order, and what two best differ by.

The order of the first measurements chooses; it names nobody. Of several candidates the one that
chance has favoured tends to be first, so the two best are measured again, by turns, and only those
runs say which is better (METHOD.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..figures.digits import short
from ..figures.metrics import TITLES, headline_metric
from ..scenario.load import Load
from ..summary.capacity import gpu_count
from ..summary.levels import Level, output_tokens_per_s, series_of
from ..summary.summary import RunSummary, sorted_summaries
from .configurations import Aim
from .trials import Tried

FEWEST = 2  # configurations that are measured in full


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


def mostly_missed(runs: Sequence[RunSummary]) -> bool:
    """Whether more than half of the runs missed their objectives."""
    missed = sum(run.attainment is not None and run.attainment.word == "missed" for run in runs)
    return 2 * missed > len(runs)


def _missed(level: Level) -> bool:
    return level.attainment is not None and level.attainment.word == "missed"


def _doubt(level: Level) -> str:
    return "" if level.verdict == "VALID" else level.verdict
