"""Whether the time to first token stays low as load rises, and where throughput stops rising.

TTFT is compared with the lowest level's: the median may rise by 50 ms; p95 should not double when
load rises fourfold; a median that doubles or triples means that requests wait for a place in a
batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..figures.metrics import TITLES, headline_metric
from ..scenario.load import Load
from .levels import Level, output_tokens_per_s

STEADY_MS = 50.0  # no user notices it; a smaller rise counts as no change, whatever its ratio
SLIGHT_GROWTH = 1.25  # a p95 that grew by less than a quarter counts as unchanged
P95_GROWTH = 2.0  # ... up to four times the load; above that it grows with the root of load
P50_DOUBLED = 2.0
OVERLOAD = 2.0  # a median that grows twice as fast as load: the queue, not the batch

# Throughput ~ load ^ elasticity between two levels: 1 while there is room, 0 once the server is
# full. At 0.15 twice the load brings 11 % more tokens; the other requests wait.
FLAT = 0.15

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
    """Judge levels of rising load; None where there are fewer than two to compare."""
    if len(levels) < 2:
        return None
    knee = find_knee(levels)
    first, *others = levels
    p50, p95 = _ttft_ms(first, 50), _ttft_ms(first, 95)
    state: State = "baseline" if p50 is not None else "cannot tell"
    base = Judged(first.load, p50, p95, state, first.invalid)
    return Stability((base, *(_judged(level, base, knee) for level in others)), knee)


def _ttft_ms(level: Level, percentile: float) -> float | None:
    metric = headline_metric("ttft_ms", level.load)
    return level.centre(lambda run: run.percentile(metric, percentile))


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
    risen = p50 - base.p50_ms > STEADY_MS
    doubled = risen and p50 >= P50_DOUBLED * base.p50_ms
    if doubled and (past_the_knee or p50 >= OVERLOAD * more_load * base.p50_ms):
        return "overloaded"
    growth = _growth(base.p95_ms, p95)
    if doubled or growth >= P95_GROWTH * max(1.0, math.sqrt(more_load / 4)):
        return "unstable"
    if base.p95_ms is None or p95 is None:
        return "cannot tell"  # stable needs a p95
    return "acceptable" if risen or growth >= SLIGHT_GROWTH else "stable"


def _growth(base_ms: float | None, p95_ms: float | None) -> float:
    """Return by what factor p95 grew; 1 where it is unknown or too small to notice."""
    if base_ms is None or p95_ms is None or p95_ms - base_ms <= STEADY_MS:
        return 1.0
    return p95_ms / base_ms


def find_knee(levels: Sequence[Level]) -> Knee | None:
    """Return the knee of levels in rising order; None where throughput rose all the way.

    It is the first level above which no level brought much more: a flat step that is followed by a
    rise is noise.
    """
    known = [(level, rate) for level in levels if (rate := level.centre(output_tokens_per_s))]
    for place, (level, rate) in enumerate(known[:-1]):
        later = known[place + 1 :]
        if all(math.log(r / rate) < FLAT * _log_of_more_load(level, lv) for lv, r in later):
            next_level, next_rate = later[0]
            return Knee(level.load, next_level.load, next_rate / rate - 1)
    return None


def _log_of_more_load(one: Level, other: Level) -> float:
    """Return the ratio of two loads, by the rates that were sent.

    A random schedule differs a little from the rate that was asked for."""
    ratio = _offered(other) / _offered(one)
    # Two schedules may come out in the wrong order: then the rates asked for are used.
    return math.log(ratio if ratio > 1 else other.load.value / one.load.value)


def _offered(level: Level) -> float:
    return level.centre(lambda run: run.realised_rate) or level.load.value
