#!/usr/bin/env python3
"""Hold the words of a comparison to the truth: simulated experiments whose truth is known.

    python -m tools.compare_truth                    1000 experiments a cell, about 4 minutes
    python -m tools.compare_truth --experiments 200

Each experiment is a series of visits, in the order A B B A: a server starts, with a level of its
own, and a run of it has figures. Nothing is sent anywhere. Figures spread as those of real runs do,
they depend on each other, and runs near each other in time may be alike, or drift. An experimenter
makes 4 or 8 pairs, reads the words, and where a measure says `cannot tell` makes as many pairs
more as it asks for, and reads them again. Or a candidate is held against stored nights alone.
Prints three Markdown tables, as docs/METHOD.md has them.

Exit codes: 0 every bar is met; 1 one is missed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.compare.history import Limit, limits
from vllm_bench.compare.judge import LEVEL, Judged, judged
from vllm_bench.compare.measures import MEASURES
from vllm_bench.figures.digits import markdown_table
from vllm_bench.flags import whole
from vllm_bench.script import complain, parser_of, run
from vllm_bench.stats.paired import Paired, paired
from vllm_bench.stats.prediction import prediction

Logs = NDArray[np.float64]

# Standard deviations from run to run, of logarithms: as of 60 s and some hundred requests.
SPREAD = {
    **{"output_tokens_per_s": 0.01, "requests_per_s": 0.01},
    **{"ttft_p50_ms": 0.02, "ttft_p95_ms": 0.04, "ttft_p99_ms": 0.065},
    **{"tpot_p50_ms": 0.01, "tpot_p95_ms": 0.01, "latency_p50_ms": 0.01, "latency_p99_ms": 0.02},
}
MEASURED = tuple(measure for measure in MEASURES if measure.name in SPREAD)
SPREADS = np.array([SPREAD[measure.name] for measure in MEASURED])
WORSE = np.array([-1 if measure.more_is_better else 1 for measure in MEASURED])
STEP = 0.05  # which a user wants to be told of; of a measure with a wider margin, the margin
STEPS = np.array([math.log1p(max(measure.margin, STEP)) for measure in MEASURED])
START = 0.01  # standard deviation of a server's starts
TOGETHER = 0.5  # of the variance, which all measures of a run have in common
DRIFT = 0.05  # over what the experimenter has planned at first
MOST_MORE = 400  # pairs that anybody would add
FIRST = (4, 8)
FOUND, SEED = 0.9, 17


@dataclass(frozen=True, slots=True)
class Noise:
    """How runs depend on their time."""

    title: str
    like_the_last: float = 0.0  # correlation of neighbours in time, AR(1)
    drift: float = 0.0


NOISES = (
    Noise("white"),
    Noise("AR(1), .5", 0.5),
    Noise("AR(1), .8", 0.8),
    Noise("trend of 5 %", 0.0, DRIFT),
)


@dataclass(frozen=True, slots=True)
class Order:
    """In which order the sides are visited, and whether each visit has a start of its own."""

    title: str
    b_first: str = "by turns"  # A B B A; or "never", A B A B; or "all", A ... A B ... B
    restarts: bool = True


def of_time(noise: Noise, visits: int, columns: int, rng: np.random.Generator) -> Logs:
    """Return columns of noise with a standard deviation of 1."""
    fresh = rng.standard_normal((visits, columns))
    rho = noise.like_the_last
    found: Logs = fresh.copy()
    for at in range(1, visits if rho else 0):
        found[at] = rho * found[at - 1] + math.sqrt(1 - rho * rho) * fresh[at]
    return found


def experiment(
    noise: Noise, order: Order, pairs: int, first: int, rng: np.random.Generator
) -> Logs:
    """Return ln(b / a) of each pair and measure where B is A."""
    visits = 2 * pairs
    shared = math.sqrt(TOGETHER) * of_time(noise, visits, 1, rng)
    own = math.sqrt(1 - TOGETHER) * of_time(noise, visits, len(MEASURED), rng)
    found = (shared + own) * SPREADS + noise.drift * np.arange(visits)[:, None] / (2 * first)
    sides = START * rng.standard_normal((2, 1))
    starts = START * rng.standard_normal((visits, 1))
    if order.b_first == "all":
        a, b = found[:pairs], found[pairs:]
    else:
        a, b = found[0::2].copy(), found[1::2].copy()
        if order.b_first == "by turns":
            a[1::2], b[1::2] = found[3::4], found[2::4]
    levels = starts[1::2] - starts[0::2] if order.restarts else sides[1] - sides[0]
    ratios: Logs = WORSE * (b - a + levels)
    return ratios


def words(logs: Logs) -> list[Judged]:
    """Return what is said of pairs with these ln(b / a)."""
    nothing = [1.0] * len(logs)
    found: list[Paired] = [paired(nothing, np.exp(column).tolist()) for column in logs.T]
    return judged(list(zip(MEASURED, found, strict=True)))


# ---- an experimenter ----


@dataclass(slots=True)
class Told:
    """What the experimenters of a cell were told, at either look."""

    alarms: int = 0  # experiments with `faster` or `slower` of anything
    at_once: int = 0  # with `slower` of anything at the first look
    slower: list[list[bool]] = field(default_factory=list)
    equivalent: list[list[bool]] = field(default_factory=list)
    more: list[list[int]] = field(default_factory=list)

    def share(self, which: Sequence[Sequence[bool]]) -> Logs:
        """Return of each measure in which share of the experiments it was said."""
        shares: Logs = np.array(which, dtype=np.float64).mean(axis=0)
        return shares


def looks(logs: Logs, first: int, told: Told) -> None:
    """Look at the first pairs; of each measure that can't tell, again with those that it asks for.

    Each look is at all measures, as anybody's would be: an alarm of any counts.
    """
    one = words(logs[:first])
    seen: dict[int, list[Judged]] = {0: one}
    last = []
    for place, said in enumerate(one):
        more = min(said.more_pairs or MOST_MORE, MOST_MORE) if said.word == "cannot tell" else 0
        seen[more] = seen.get(more) or words(logs[: first + more])
        last.append((said.word, seen[more][place].word, more))
    told.alarms += any(w.word in ("faster", "slower") for those in seen.values() for w in those)
    told.at_once += any(word.word == "slower" for word in one)
    told.slower.append(["slower" in both[:2] for both in last])
    told.equivalent.append(["equivalent" in both[:2] for both in last])
    told.more.append([more for *_, more in last])


def cell(noise: Noise, order: Order, first: int, steps: Logs, experiments: int) -> Told:
    """Return what experimenters were told where B's figures are worse by these steps."""
    rng, told = np.random.default_rng(SEED), Told()
    for _ in range(experiments):
        logs = experiment(noise, order, first + MOST_MORE, first, rng)
        looks(logs + WORSE * steps, first, told)
    return told


NOTHING = np.zeros(len(MEASURED))
ABBA = Order("A B B A, a start for each visit")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table of words."""

    noise: Noise
    first: int
    same: Told
    step: Told

    @property
    def alarms(self) -> float:
        return self.same.alarms / len(self.same.slower)

    @property
    def found(self) -> Logs:
        return self.step.share(self.step.slower)

    @property
    def wrongly_equivalent(self) -> Logs:
        return self.step.share(self.step.equivalent)

    @property
    def right(self) -> bool:
        found, wrong = float(self.found.min()), float(self.wrongly_equivalent.max())
        return self.alarms <= LEVEL and found >= FOUND and wrong <= LEVEL


def lines(experiments: int) -> Iterator[Line]:
    """Yield the lines of the table of words."""
    for first in FIRST:
        for noise in NOISES:
            same, step = (cell(noise, ABBA, first, s, experiments) for s in (NOTHING, STEPS))
            yield Line(noise, first, same, step)


def table(found: Sequence[Line]) -> str:
    """Return the table of words, in Markdown."""
    heading = (
        *("noise", "first pairs", "A/A: any alarm", "step: told at once of any"),
        *("step found", "worst measure", "step called equivalent", "worst measure"),
        *(f"asked for: {title}" for title in ("TPOT p50", "TTFT p50", "TTFT p99")),
    )
    rows = [[*heading], ["---", *["--:"] * (len(heading) - 1)]]
    for line in found:
        shares = line.found.mean(), line.found.min()
        wrong = line.wrongly_equivalent.mean(), line.wrongly_equivalent.max()
        more = np.median(np.array(line.step.more), axis=0)
        asked = [more[at] for at in map(_place, ("tpot_p50_ms", "ttft_p50_ms", "ttft_p99_ms"))]
        at_once = line.step.at_once / len(line.step.slower)
        percents = [percent(share) for share in (line.alarms, at_once, *shares, *wrong)]
        rows.append([line.noise.title, str(line.first), *percents, *(f"{n:.0f}" for n in asked)])
    return markdown_table(rows)


def _place(name: str) -> int:
    return [measure.name for measure in MEASURED].index(name)


def percent(share: float) -> str:
    """Return a share as a table has it: `2.5 %`."""
    return f"{100 * share:.1f} %"


# ---- what other ways of asking would bring ----

WAYS = (
    ABBA,
    Order("A B A B", "never"),
    Order("A … A B … B", "all"),
    Order("A B B A, one start a side", restarts=False),
)


def alarms(noise: Noise, order: Order, at: Sequence[int], experiments: int) -> float:
    """Return the share of A/A experiments with an alarm at any of these looks."""
    rng, found = np.random.default_rng(SEED), 0
    for _ in range(experiments):
        logs = experiment(noise, order, max(at), max(at), rng)
        said = (w.word for pairs in at for w in words(logs[:pairs]))
        found += any(word in ("faster", "slower") for word in said)
    return found / experiments


def other_ways(experiments: int) -> str:
    """Return the false alarms of other orders, and of a look after each pair, in Markdown."""
    rows = [["8 pairs, A/A", *(noise.title for noise in NOISES)], ["---", *["--:"] * len(NOISES)]]
    each = range(4, 17)
    for order in WAYS:
        found = [alarms(noise, order, [8], experiments) for noise in NOISES]
        rows.append([order.title, *map(percent, found)])
    found = [alarms(noise, ABBA, each, experiments) for noise in NOISES]
    rows.append(["A B B A, a look after each pair from 4 to 16", *map(percent, found)])
    return markdown_table(rows)


# ---- stored nights ----

NIGHTS = (10, 20, 30)


def seen_against(noise: Noise, nights: int, steps: Logs, rng: np.random.Generator) -> list[Limit]:
    """Return what is said of a candidate that is worse by these steps than stored nights."""
    shared = math.sqrt(TOGETHER) * of_time(noise, nights + 1, 1, rng)
    own = math.sqrt(1 - TOGETHER) * of_time(noise, nights + 1, len(MEASURED), rng)
    starts = START * rng.standard_normal((nights + 1, 1))
    worse = (shared + own) * SPREADS + starts
    worse += noise.drift * np.arange(nights + 1)[:, None] / nights
    worse[-1] += steps
    figures = np.exp(worse)
    found = {
        m: prediction(f[:-1].tolist(), f[-1]) for m, f in zip(MEASURED, figures.T, strict=True)
    }
    return list(limits(found))


def against_nights(experiments: int) -> str:
    """Return the false alarms against stored nights, and the regressions seen, in Markdown."""
    names = ("tpot_p50_ms", "ttft_p50_ms", "ttft_p99_ms")
    heading = ["nights", *(f"alarms, {noise.title}" for noise in NOISES)]
    titles = (MEASURED[_place(name)].title for name in names)
    heading += [f"{title}: seen from, and how often" for title in titles]
    rows = [heading, ["--:"] * len(heading)]
    for nights in NIGHTS:
        rng = np.random.default_rng(SEED)
        same = [
            [seen_against(noise, nights, NOTHING, rng) for _ in range(experiments)]
            for noise in NOISES
        ]
        alarms_of = (np.mean([any(one.slower for one in all_) for all_ in part]) for part in same)
        smallest = np.median([[one.smallest for one in all_] for all_ in same[0]], axis=0)
        steps = np.log1p(smallest)
        worse = [seen_against(NOISES[0], nights, steps, rng) for _ in range(experiments)]
        seen = np.mean([[one.slower for one in all_] for all_ in worse], axis=0)
        found = [f"{percent(smallest[at])}, {percent(seen[at])}" for at in map(_place, names)]
        rows.append([str(nights), *(percent(float(share)) for share in alarms_of), *found])
    return markdown_table(rows)


def main() -> int:
    """Simulate, print the tables, and say whether every bar is met."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--experiments", type=whole(20, 100_000), default=1000, metavar="N", help="a cell"
    )
    args: argparse.Namespace = parser.parse_args()
    found = list(lines(args.experiments))
    print(table(found), other_ways(args.experiments), against_nights(args.experiments), sep="\n\n")
    missed = [f"{line.noise.title} from {line.first} pairs" for line in found if not line.right]
    if missed:
        complain(f"a bar is missed: {'; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(run(main))
