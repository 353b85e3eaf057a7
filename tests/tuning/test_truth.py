"""The course held to a truth that is known: configurations whose speeds are set, seeded noise.

A start has a level of its own (1 %, METHOD.md), a run some noise beside it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from vllm_bench.compare.comparison import Comparison, Effect, LevelRows, Row
from vllm_bench.compare.judge import judged
from vllm_bench.compare.measures import MEASURES
from vllm_bench.scenario.load import Load
from vllm_bench.stats.paired import paired
from vllm_bench.tuning.answer import MEASURE, Answer, answer
from vllm_bench.tuning.ranking import Placed, Score, better_half
from vllm_bench.tuning.trials import Tried

from tests.tuning.made_trials import made_trial

EXPERIMENTS, PAIRS = 300, 4
START, RUN, SHORT = 0.01, 0.01, 0.02  # standard deviations, as parts
MEASURED = next(m for m in MEASURES if m.name == MEASURE["throughput"])


@dataclass
class World:
    """Servers of known speeds, by name."""

    speeds: dict[str, float]
    rng: random.Random

    def measured(self, name: str, noise: float = RUN) -> float:
        """What one start with one run would come out at."""
        return self.speeds[name] * self.rng.gauss(1, START) * self.rng.gauss(1, noise)

    def ordered(self, names: list[str], noise: float) -> list[Placed]:
        """The configurations by one measurement each, the best first."""
        scores = {name: self.measured(name, noise) for name in names}
        return [
            Placed(Tried(made_trial(name), ()), Score(scores[name], None, "", missed=False))
            for name in sorted(names, key=lambda name: -scores[name])
        ]

    def turns(self, a: str, b: str) -> Comparison:
        ours, theirs = ([self.measured(one) for _ in range(PAIRS)] for one in (a, b))
        found = paired(ours, theirs)
        (word,) = judged([(MEASURED, found)])
        effect = Effect(found.ratio, found.interval(), found.spread)
        row = Row(MEASURED, 1.0, 1.0, effect, word.word, None, more_pairs=word.more_pairs)
        return Comparison(a, b, (), (LevelRows("s", Load("streams", 8), (), (), (row,)),), (), ())


def tuned(world: World) -> Answer:
    """Screen all, measure the better half, let the two best take turns."""
    half = [one.name for one in better_half(world.ordered([*world.speeds], SHORT))]
    first, second, *_ = world.ordered(half, RUN)
    return answer("throughput", first.name, second.name, world.turns(first.name, second.name), {})


def answers(speeds: list[float]) -> list[Answer]:
    named = {f"c{place}": speed for place, speed in enumerate(speeds)}
    return [tuned(World(named, random.Random(f"tune {n}"))) for n in range(EXPERIMENTS)]


def share(found: list[Answer], outcome: str) -> float:
    return sum(one.outcome == outcome for one in found) / len(found)


def test_of_six_equal_ones_none_is_named() -> None:
    found = answers([100.0] * 6)
    assert share(found, "better") <= 0.05
    assert share(found, "nothing") == 0


@pytest.mark.parametrize("place", [0, 3, 5])
def test_one_that_is_a_tenth_better_is_named(place: int) -> None:
    speeds = [100.0] * 6
    speeds[place] = 110.0
    found = answers(speeds)
    named = [one for one in found if one.outcome == "better"]
    assert len(named) >= 0.9 * EXPERIMENTS
    assert sum(one.best == f"c{place}" for one in named) >= 0.99 * len(named)


def test_the_best_isnt_lost_by_screening() -> None:
    """The best of six that lie 3 % apart is the one to start with, or one within 3 % of it."""
    found = answers([100.0 * 1.03**n for n in range(6)])
    assert sum(one.best in ("c5", "c4") for one in found) >= 0.99 * EXPERIMENTS
    assert sum(one.best == "c5" for one in found) >= 0.8 * EXPERIMENTS


def test_the_single_measurements_would_mislead() -> None:
    """Why there are turns: of six equal ones the first lies some 2 % above the second's mean."""
    world = World({f"c{n}": 100.0 for n in range(6)}, random.Random("chance"))
    firsts = [world.ordered([*world.speeds], RUN)[0].score for _ in range(EXPERIMENTS)]
    excess = sum(score.value for score in firsts if score) / EXPERIMENTS / 100 - 1
    assert 0.01 < excess < 0.03
