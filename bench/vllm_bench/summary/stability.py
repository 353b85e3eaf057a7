"""Whether the time to first token holds as load rises: a word and a reason for each level.

Held against the lowest level: the median may move by 50 ms; p95 should not double when load
rises fourfold; a median that doubles or triples says that requests wait for a place in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..figures.metrics import TITLES, headline_metric
from ..scenario.load import Load
from .levels import Level
from .summary import RunSummary

# Throughput ~ load ^ elasticity between two levels: 1 while there is room, 0 once there is none.
# At 0.15 twice the load brings 11 % more tokens, and the rest of it waits.
FLAT = 0.15


@dataclass(frozen=True, slots=True)
class Knee:
    """The level from which on more load brought hardly more throughput."""

    load: Load
    next_load: Load
    gain: float  # throughput at the next level over that at this one, less 1

    @property
    def words(self) -> str:
        """The knee for people."""
        more = self.next_load.value / self.load.value - 1
        return (
            f"throughput is used up at {self.load.words}: {self.next_load.words} "
            f"({100 * more:+.0f} % load) brought {100 * self.gain:+.1f} % output tokens/s"
        )


def output_tokens_per_s(run: RunSummary) -> float | None:
    """Return a run's output rate: in the steady window where stamps allow it, else overall."""
    for found in (run.steady, run.throughput):
        if found is not None and found.output_tokens_per_s:
            return found.output_tokens_per_s
    return None


def find_knee(levels: Sequence[Level]) -> Knee | None:
    """Return the knee of levels in rising order; None where throughput rose all the way.

    It is the first level beyond which no level brought much more: one flat step with a rise after
    it is noise.
    """
    points = [_Point(lv.load, _offered(lv), lv.centre(output_tokens_per_s) or 0) for lv in levels]
    known = [point for point in points if point.rate > 0]
    for place, point in enumerate(known[:-1]):
        later = known[place + 1 :]
        if all(_elasticity(point, more) < FLAT for more in later):
            return Knee(point.load, later[0].load, later[0].rate / point.rate - 1)
    return None


@dataclass(frozen=True, slots=True)
class _Point:
    load: Load
    offered: float
    rate: float  # output tokens a second


def _offered(level: Level) -> float:
    """Return the load as it came: a schedule that is drawn at random misses the rate asked for."""
    return level.centre(lambda run: run.realised_rate) or level.load.value


def _elasticity(point: _Point, more: _Point) -> float:
    # Two schedules may come out the other way round: then what was asked for has to do.
    ratio = more.offered / point.offered
    ratio = ratio if ratio > 1 else more.load.value / point.load.value
    return math.log(more.rate / point.rate) / math.log(ratio)


STEADY_MS = 50.0  # nobody feels it; a rise by less is no change, whatever its ratio
SLIGHT_GROWTH = 1.25  # a p95 that grew by less than a quarter is as it was
P95_GROWTH = 2.0  # ... at four times the load; below that too, beyond it with the root of load
P50_DOUBLED = 2.0
OVERLOAD = 2.0  # a median that grows twice as fast as load: the queue, not the batch

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
    "baseline": "what the others are held against",
    "stable": "as at the lowest level",
    "acceptable": "slower, within what batching costs",
    "unstable": "investigate batching: requests wait for their place in a batch; see whether "
    "vllm:num_requests_waiting is above 0, and try a larger --max-num-batched-tokens or "
    "--max-num-seqs (docs/TUNING.md)",
    "overloaded": "the server is past what it can do: keep below this level, raise "
    "--max-num-seqs if KV cache is left, or add replicas",
    "cannot tell": "too few successes here or at the lowest level, or no stream: send more "
    "requests at each level",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One level's TTFT, and what it is worth beside the lowest level's."""

    load: Load
    p50_ms: float | None
    p95_ms: float | None
    state: State
    invalid: str | None = None  # which of its runs are, in words; None: none is

    @property
    def words(self) -> str:
        """The level in a line: `16 streams: TTFT p50=135 ms, p95=210 ms  ✓ stable`."""
        p50, p95 = (
            "too few" if x is None else f"{x:.{0 if x >= 10 else 1}f} ms"
            for x in (self.p50_ms, self.p95_ms)
        )
        what = TITLES[headline_metric("ttft_ms", self.load)]
        told = f"{self.load.words}: {what} p50={p50}, p95={p95}  {MARKS[self.state]} {self.state}"
        if self.invalid is not None:
            told += f", {'and' if MARKS[self.state] in '✗?' else 'but'} {self.invalid}"
        return told if self.state == "baseline" else f"{told}: {ADVICE[self.state]}"


@dataclass(frozen=True, slots=True)
class Stability:
    """A scenario's levels, judged; and where throughput was used up."""

    levels: tuple[Judged, ...]
    knee: Knee | None

    @property
    def lines(self) -> list[str]:
        """All of it in words."""
        return [*(level.words for level in self.levels), *([self.knee.words] if self.knee else [])]


def stability(levels: Sequence[Level]) -> Stability | None:
    """Judge levels of rising load; None where there are fewer than two to compare."""
    if len(levels) < 2:
        return None
    knee = find_knee(levels)
    base, *others = [(level.load, level.centre(_p50), level.centre(_p95)) for level in levels]
    first = Judged(*base, "baseline" if base[1] is not None else "cannot tell", levels[0].invalid)
    judged = [
        Judged(*one, _state(first, one, knee), level.invalid)
        for one, level in zip(others, levels[1:], strict=True)
    ]
    return Stability((first, *judged), knee)


def _p50(run: RunSummary) -> float | None:
    return run.percentile(headline_metric("ttft_ms", run.load), 50)


def _p95(run: RunSummary) -> float | None:
    return run.percentile(headline_metric("ttft_ms", run.load), 95)


def _state(
    base: Judged, found: tuple[Load, float | None, float | None], knee: Knee | None
) -> State:
    load, p50, p95 = found
    if base.p50_ms is None or p50 is None:
        return "cannot tell"
    more_load = load.value / base.load.value
    risen = p50 - base.p50_ms > STEADY_MS
    doubled = risen and p50 >= P50_DOUBLED * base.p50_ms
    past_the_knee = knee is not None and load >= knee.next_load
    if doubled and (past_the_knee or p50 >= OVERLOAD * more_load * base.p50_ms):
        return "overloaded"
    growth = _growth(base.p95_ms, p95)
    if doubled or growth >= P95_GROWTH * max(1.0, math.sqrt(more_load / 4)):
        return "unstable"
    if base.p95_ms is None or p95 is None:
        return "cannot tell"  # p95 is half of what stable means
    return "acceptable" if risen or growth >= SLIGHT_GROWTH else "stable"


def _growth(base_ms: float | None, p95_ms: float | None) -> float:
    """Return by what factor p95 grew; 1 where nobody knows or would feel it."""
    if base_ms is None or p95_ms is None or p95_ms - base_ms <= STEADY_MS:
        return 1.0
    return p95_ms / base_ms
