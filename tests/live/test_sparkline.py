"""Values as a row of bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.live.screen import ASCII_BLOCKS, BLOCKS, sparkline


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([0.0, 0.0], "▁▁"),
        ([8.0, 8.0], "██"),  # a steady value is as high as it gets, not noise
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "▁▂▃▄▅▆▇██"),
        ([None, 4.0, None, 8.0], " ▅ █"),  # an absence is no zero
        ([9.0, 2.0, 1.0, 2.0, 2.0], "█▂▁▂▂"),
        ([0.0, 5e-324], "▁█"),  # so small that its inverse is infinite
        ([5e-324, 1e-310], "▁█"),
    ],
)
def test_bars_stand_on_zero_and_reach_to_the_greatest(
    values: list[float | None], line: str
) -> None:
    assert sparkline(values) == line


def test_a_share_is_held_against_the_whole() -> None:
    assert sparkline([0.0, 0.5, 1.0], top=1.0) == "▁▅█"
    assert sparkline([0.1, 2.0], top=1.0) == "▁█"  # a server that counts beyond the whole


@given(
    st.lists(st.none() | st.floats(0, 1e300), max_size=40), st.sampled_from([BLOCKS, ASCII_BLOCKS])
)
def test_any_values_make_one_character_each(values: list[float | None], blocks: str) -> None:
    line = sparkline(values, blocks)
    assert len(line) == len(values)
    assert set(line) <= {" ", *blocks}
