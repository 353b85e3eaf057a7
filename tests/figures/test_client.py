"""What a run's JSON says of its own stamps, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.figures.client import exactness, lateness_p99_ms, reads_of
from vllm_bench.figures.machines.reads import reads_in_words

from tests.support.made_runs import as_read, made_info

LATE = {"reads": 9, "p50": 0.02, "p99": 0.3, "max": 12.0}
KERNEL = {
    "clock": "kernel",
    "clock_error_ms": 0.0002,
    "lateness_ms": {"ttft": {**LATE, "p99": 0.1}, "gaps": LATE},
    **{"token_reads": 200, "merged_reads": 3, "first_reads": 10, "merged_first_reads": 1},
    "loop_lag_ms": {"ticks": 1000, "p99": 2.5},
}


def info(**health: Any) -> Any:
    return made_info([], client_health=health)


def test_shares_are_of_the_reads_that_brought_tokens() -> None:
    reads = reads_of(info(**KERNEL))
    assert reads is not None
    assert (reads.clock, reads.merged, reads.first_merged) == ("kernel", 0.015, 0.1)
    assert reads.gaps is not None
    assert (reads.gaps.p50_ms, reads.gaps.p99_ms, reads.gaps.max_ms) == (0.02, 0.3, 12.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0.0002, 0.0002, True)),
        ({"clock": "kernel until a step at 3.0 s"}, (0.1, 0.3, True)),
        ({"clock": "process", "lateness_ms": None}, (2.5, 2.5, False)),
        ({"clock": None}, (2.5, 2.5, False)),  # a run of before
    ],
)
def test_the_error_is_that_of_the_stamps_in_the_figures(
    changes: dict[str, Any], expected: tuple[float, float, bool]
) -> None:
    found = exactness(info(**KERNEL | changes))
    assert found is not None
    assert (found.ttft_ms, found.gaps_ms, found.measured) == expected


def test_how_late_reads_were_is_the_loops_lag_where_no_kernel_tells() -> None:
    assert lateness_p99_ms(info(**KERNEL)) == 0.3
    assert lateness_p99_ms(info(**KERNEL | {"lateness_ms": None})) == 2.5


@pytest.mark.parametrize(
    "odd",
    [
        *({"clock": 3}, {"lateness_ms": 7}, {"lateness_ms": {"ttft": {"p50": "x"}}}),
        *({"token_reads": 0}, {"merged_reads": None}, {"clock_error_ms": []}),
    ],
)
def test_what_somebody_edited_is_not_known(tmp_path: Path, odd: dict[str, Any]) -> None:
    edited = as_read(tmp_path, info(**KERNEL | odd))
    exactness(edited)
    reads_in_words([edited, None])
    reads = reads_of(edited)
    assert reads is None or None in (reads.ttft, reads.merged, reads.error_ms)


def test_the_words_on_several_runs_name_every_clock_and_the_worst_of_each_figure() -> None:
    worse = KERNEL | {"merged_reads": 20, "lateness_ms": {"gaps": {**LATE, "max": 77.0}}}
    own = {"clock": "process", "token_reads": 1, "merged_reads": 0}
    words = reads_in_words([info(**KERNEL), info(**worse), info(**own)])
    for told in ("kernel", "process", "10.00%", "77", "0.3"):
        assert told in words
    assert reads_in_words([info(), None]) == ""
