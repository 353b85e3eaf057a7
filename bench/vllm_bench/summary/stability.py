"""Whether the time to first token stays low as load rises, and where throughput stops rising.

TTFT is compared with the lowest level's, after 50 ms were added to both: no user notices these, so
12 ms that become 60 are less of a change than 200 that become 1,000. A median that doubles in this
sense means that requests wait for a place in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..figures.metrics import TITLES, headline_metric
from ..scenario.load import Load
from ..stats.repeated import Repeated
from .levels import Level, output_tokens_per_s

UNNOTICED_MS = 50.0  # added to both times, so that no small time grows by a large factor
SLIGHT_GROWTH = 1.25  # growth by less than a quarter counts as none
P95_GROWTH = 2.0  # ... up to four times the load; above that it grows with the root of load
P50_DOUBLED = 2.0
OVERLOAD = 1.75  # a median that grows so many times as fast as load: the queue, not the batch

# Throughput ~ load ^ elasticity between two levels: 1 while there is room, 0 once the server is
# full. At 0.15 twice the load brings 11 % more tokens; the other requests wait.
FLAT = 0.15
FULL_STEP = 1.25  # a smaller step in load needs intervals: chance alone makes it look flat

State = Literal["baseline", "stable", "acceptable", "unstable", "overloaded", "cannot tell"]
MARKS: dict[State, str] = {
    "baseline": "·",
    "stable": "✓",
    "acceptable": "✓",
    "unstable": "✗",
    "overloaded": "✗",
    "cannot tell": "?",
}
ADVICE: dict[State, str] = {
    "baseline": "the level that the others are compared with",
    "stable": "as at the lowest level",
    "acceptable": "slower, within what batching costs",
    "unstable": "investigate batching: requests wait for their place in a batch; see whether "
    "vllm:num_requests_waiting is above 0, and try a larger --max-num-batched-tokens or "
    "--max-num-seqs (docs/TUNING.md)",
    "overloaded": "the server is past what it can do: keep below this level, raise "
    "--max-num-seqs if KV cache is left, or add replicas",
    "cannot tell": "too few successes here or at the lowest level, or no streaming: send more "
    "requests at each level",
}


@dataclass(frozen=True, slots=True)
class Knee:
    """The level above which more load brought hardly more throughput."""

    load: Load
    next_load: Load
    gain: float  # throughput at the next level / throughput at this one, minus 1

    @property
    def words(self) -> str:
        more = self.next_load.value / self.load.value - 1
        return (
            f"throughput is used up at {self.load.words}: {self.next_load.words} "
            f"({100 * more:+.0f} % load) brought {100 * self.gain:+.1f} % output tokens/s"
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """One level's TTFT, and its state compared with the lowest level's."""

    load: Load
    p50_ms: float | None
    p95_ms: float | None
    state: State
    invalid: str | None = None  # which of its runs are INVALID, in words; None: none

    @property
    def words(self) -> str:
        """The level in a line: `16 streams: TTFT p50=135 ms, p95=210 ms  ✓ stable`."""
        if self.invalid is not None and self.p50_ms is None:
            return f"{self.load.words}: {self.invalid}"
        p50, p95 = (
            "too few" if x is None else f"{x:.{0 if x >= 10 else 1}f} ms"
            for x in (self.p50_ms, self.p95_ms)
        )
        what, mark = TITLES[headline_metric("ttft_ms", self.load)], MARKS[self.state]
        line = f"{self.load.words}: {what} p50={p50}, p95={p95}  {mark} {self.state}"
        if self.invalid is not None:
            line += f", {'and' if mark in '✗?' else 'but'} {self.invalid}"
        return line if self.state == "baseline" else f"{line}: {ADVICE[self.state]}"


@dataclass(frozen=True, slots=True)
class Stability:
    """A scenario's levels, judged, and the knee of throughput."""

    levels: tuple[Judged, ...]
    knee: Knee | None

    @property
    def lines(self) -> list[str]:
        return [*(level.words for level in self.levels), *([self.knee.words] if self.knee else [])]


def stability(levels: Sequence[Level]) -> Stability | None:
    """Judge levels of rising load; None where there are fewer than two to compare.

    They are compared with the lowest that has figures.
    """
    if len(levels) < 2:
        return None
    knee = find_knee(levels)
    first = next((level for level in levels if level.figures_of), levels[0])
    p50, p95 = _ttft_ms(first, 50), _ttft_ms(first, 95)
    state: State = "baseline" if p50 is not None else "cannot tell"
    base = Judged(first.load, p50, p95, state, first.invalid)
    judged = (base if level is first else _judged(level, base, knee) for level in levels)
    return Stability(tuple(judged), knee)


def _ttft_ms(level: Level, percentile: float) -> float | None:
    return level.percentile(headline_metric("ttft_ms", level.load), percentile)


def _judged(level: Level, base: Judged, knee: Knee | None) -> Judged:
    p50, p95 = _ttft_ms(level, 50), _ttft_ms(level, 95)
    past_the_knee = knee is not None and level.load >= knee.next_load
    state = _state(base, p50, p95, level.load.value / base.load.value, past_the_knee)
    return Judged(level.load, p50, p95, state, level.invalid)


def _state(
    base: Judged, p50: float | None, p95: float | None, more_load: float, past_the_knee: bool
) -> State:
    if base.p50_ms is None or p50 is None:
        return "cannot tell"
    median, p95_growth = _growth(base.p50_ms, p50), _growth(base.p95_ms, p95)
    if median >= P50_DOUBLED and (past_the_knee or median >= OVERLOAD * more_load):
        return "overloaded"
    if median >= P50_DOUBLED or p95_growth >= P95_GROWTH * max(1.0, math.sqrt(more_load / 4)):
        return "unstable"
    if base.p95_ms is None or p95 is None:
        return "cannot tell"  # stable needs a p95
    return "stable" if max(median, p95_growth) < SLIGHT_GROWTH else "acceptable"


def _growth(base_ms: float | None, now_ms: float | None) -> float:
    """Return by what factor a time grew, as a user feels it; 1 where it is unknown."""
    if base_ms is None or now_ms is None:
        return 1.0
    return (now_ms + UNNOTICED_MS) / (base_ms + UNNOTICED_MS)


def find_knee(levels: Sequence[Level]) -> Knee | None:
    """Return the knee of levels in rising order; None where throughput rose all the way.

    It is the first level above which no level brought much more: a flat step that is followed by a
    rise is noise, and so is one of hardly more load.
    """
    known = [(level, rate) for level in levels if (rate := level.over_repeats(output_tokens_per_s))]
    for place, (level, rate) in enumerate(known[:-1]):
        steps = [_Step(level, rate, *later) for later in known[place + 1 :]]
        if all(step.flat for step in steps) and any(step.counts for step in steps):
            gain = steps[0].rate_there.centre / rate.centre - 1
            return Knee(level.load, steps[0].there.load, gain)
    return None


@dataclass(frozen=True, slots=True)
class _Step:
    """From one level to a higher one, with the output rates at both."""

    here: Level
    rate_here: Repeated
    there: Level
    rate_there: Repeated

    @property
    def more_load(self) -> float:
        """The ratio of the loads, by the rates sent: a random schedule differs a little."""
        ratio = _offered(self.there) / _offered(self.here)
        # Two schedules may come out in the wrong order: then the rates asked for are used.
        return ratio if ratio > 1 else self.there.load.value / self.here.load.value

    @property
    def flat(self) -> bool:
        return self._elasticity(self.rate_here.centre, self.rate_there.centre) < FLAT

    @property
    def counts(self) -> bool:
        """Whether it is large enough to be told from chance, or its interval is."""
        if self.more_load >= FULL_STEP:
            return True
        low, high = self.rate_here.interval, self.rate_there.interval
        if low is None or high is None:
            return False
        return self._elasticity(low.low, high.high) < FLAT

    def _elasticity(self, here: float, there: float) -> float:
        return math.log(there / here) / math.log(self.more_load)


def _offered(level: Level) -> float:
    return level.centre(lambda run: run.realised_rate) or level.load.value
