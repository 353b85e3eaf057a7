"""Words from pairs of figures: where each begins and ends, and what is asked for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.compare.comparison import Measure
from vllm_bench.compare.judge import MIN_PAIRS, WORTH, Judged, judged
from vllm_bench.compare.measures import MEASURES
from vllm_bench.stats.paired import Paired, paired

BY_NAME = {measure.name: measure for measure in MEASURES}
TPOT, RATE, P99 = (BY_NAME[n] for n in ("tpot_p50_ms", "output_tokens_per_s", "ttft_p99_ms"))


def word(measure: Measure, change: float, spread: float, pairs: int = 8) -> Judged:
    """The word on a measure alone."""
    (found,) = judged([(measure, Paired(pairs, math.log1p(change), spread))])
    return found


@pytest.mark.parametrize(
    ("change", "spread", "said"),
    [
        (0.05, 0.01, "slower"),  # 4.2 to 5.8 %
        (-0.05, 0.01, "faster"),
        (0.015, 0.002, "slower"),  # all of it beyond half the margin
        (0.009, 0.002, "equivalent"),  # sure, and too small to mind
        (0.015, 0.01, "cannot tell"),  # 0.7 to 2.3 %
        (0.0, 0.01, "equivalent"),
        (0.0, 0.03, "cannot tell"),
        (0.0, 0.0, "equivalent"),
        (0.03, 0.0, "slower"),
        (0.009, 0.0, "equivalent"),
        (0.5, 1.0, "cannot tell"),
    ],
)
def test_words(change: float, spread: float, said: str) -> None:
    assert word(TPOT, change, spread).word == said
    other_way = {"slower": "faster", "faster": "slower"}
    assert word(RATE, change, spread).word == other_way.get(said, said)


def test_ten_measures_need_more_than_one() -> None:
    """Each alone would be p = .02: Holm takes ten such for chance."""
    one = Paired(8, math.log1p(0.055), 0.052)
    assert 0.01 < (one.p or 0) < 0.03
    ten = [(measure, one) for measure in MEASURES[:10]]
    assert "slower" not in {found.word for found in judged(ten)}
    assert all(found.p == pytest.approx(min(1.0, 10 * (one.p or 0))) for found in judged(ten))


def test_what_cannot_differ_is_no_test() -> None:
    """A success rate of 1 in each run takes nothing away from the others."""
    one, equal = Paired(8, 0.05, 0.03), Paired(8, 0.0, 0.0)
    alone = judged([(TPOT, one)])[0]
    assert judged([(TPOT, one), (BY_NAME["success_rate"], equal)])[0] == alone
    assert judged([(BY_NAME["success_rate"], equal)] * 3)[1].p == 1.0


@given(st.floats(0.002, 0.2), st.integers(MIN_PAIRS, 30), st.sampled_from(MEASURES))
def test_what_is_asked_for_is_more_and_makes_an_even_number(
    spread: float, pairs: int, measure: Measure
) -> None:
    found = word(measure, measure.margin, spread, pairs)
    assert found.smallest >= measure.margin / 2
    if found.word == "cannot tell" and found.more_pairs is not None:
        assert found.more_pairs >= 1
        assert (pairs + found.more_pairs) % 2 == 0
    else:
        assert found.more_pairs is None


@pytest.mark.parametrize("measure", MEASURES)
def test_with_what_is_asked_for_a_step_would_be_shown(measure: Measure) -> None:
    found = word(measure, 0.01, 0.05, MIN_PAIRS)
    assert found.word == "cannot tell"
    if found.more_pairs is not None:
        later = word(measure, 0.01, 0.05, MIN_PAIRS + found.more_pairs)
        assert later.smallest <= max(measure.margin, WORTH)


def test_a_small_difference_that_is_open_asks_for_a_narrow_interval() -> None:
    """Thirty pairs would have shown 5 % of TPOT; is it 0.9 % or 2.1 %?"""
    found = word(TPOT, 0.015, 0.016, 30)
    assert found.word == "cannot tell"
    assert found.smallest < WORTH
    assert (found.more_pairs or 0) > 10


def test_more_spread_asks_for_more_and_shows_less() -> None:
    seen = [word(P99, 0.05, spread) for spread in (0.1, 0.2, 0.4)]
    assert [found.more_pairs or 0 for found in seen] == sorted({f.more_pairs or 0 for f in seen})
    assert [found.smallest for found in seen] == sorted({found.smallest for found in seen})


def test_figures_of_a_real_table() -> None:
    """Eight pairs of TPOT, 23.4 against 24.6 ms."""
    a = [23.41, 23.52, 23.30, 23.44, 23.61, 23.38, 23.29, 23.47]
    b = [24.70, 24.48, 24.61, 24.55, 24.79, 24.60, 24.42, 24.73]
    (found,) = judged([(TPOT, paired(a, b))])
    assert found.word == "slower"
    assert found.smallest < 0.03
