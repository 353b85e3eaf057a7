"""The words against simulated experiments: a quick part of `python -m tools.compare_truth`."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from vllm_bench.compare.judge import LEVEL

from tools.compare_truth import (
    ABBA,
    FIRST,
    NOISES,
    NOTHING,
    STEPS,
    WAYS,
    Noise,
    Told,
    alarms,
    cell,
    experiment,
    main,
    of_time,
)

MANY = 60
CELLS = [*((noise, FIRST[0]) for noise in NOISES), (NOISES[1], FIRST[1])]
IDS = [f"{noise.title} from {first}" for noise, first in CELLS]


def at_most(share: float, of: int) -> float:
    """A share, and what chance may add to it in this many experiments (2.6 standard errors)."""
    return share + 2.6 * math.sqrt(share * (1 - share) / of)


@functools.cache
def told(noise: Noise, first: int, worse: bool) -> Told:
    return cell(noise, ABBA, first, STEPS if worse else NOTHING, MANY)


@pytest.mark.parametrize(("noise", "first"), CELLS, ids=IDS)
def test_equal_sides_are_seldom_called_different(noise: Noise, first: int) -> None:
    assert told(noise, first, worse=False).alarms / MANY <= at_most(LEVEL, MANY)


@pytest.mark.parametrize(("noise", "first"), CELLS, ids=IDS)
def test_steps_are_found_with_the_pairs_that_are_asked_for(noise: Noise, first: int) -> None:
    found = told(noise, first, worse=True)
    missed = 1 - found.share(found.slower)
    assert missed.max() <= at_most(0.1, MANY)
    assert missed.mean() <= 0.1
    assert found.share(found.equivalent).max() <= at_most(LEVEL, MANY)


def test_all_of_a_before_all_of_b_takes_a_trend_for_an_effect() -> None:
    trend, blocks = NOISES[3], WAYS[2]
    assert alarms(trend, blocks, [8], MANY) > 0.3
    assert alarms(trend, ABBA, [8], MANY) <= at_most(LEVEL, MANY)


def test_one_start_a_side_takes_the_start_for_an_effect() -> None:
    assert alarms(NOISES[0], WAYS[3], [8], MANY) > 0.15


def test_the_noise_is_what_it_says() -> None:
    rng = np.random.default_rng(2)
    for rho in (0.0, 0.5, 0.8):
        column = of_time(Noise("x", rho), 20_000, 1, rng)[:, 0]
        assert column.std() == pytest.approx(1, abs=0.05)
        assert np.corrcoef(column[1:], column[:-1])[0, 1] == pytest.approx(rho, abs=0.05)


def test_turns_cancel_a_trend() -> None:
    rng = np.random.default_rng(2)
    found = [experiment(NOISES[3], ABBA, 8, 8, rng).mean(axis=0)[0] for _ in range(300)]
    assert np.mean(found) == pytest.approx(0, abs=0.002)


def test_the_command_refuses_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["compare_truth", "--experiments", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
