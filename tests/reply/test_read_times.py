"""How late replies were read, and which reads merged events."""

from __future__ import annotations

from array import array

import pytest
from vllm_bench.reply.exchange import Exchange, PackedSegment
from vllm_bench.reply.read_times import ReadTimes

from tests.support.made_runs import made_record

US, MS = 1_000, 1_000_000


def segment(index: int, *reads: tuple[int, int]) -> PackedSegment:
    """A part of a reply: the stamp of each read in ms, and how late it was in us."""
    exchange = Exchange(index, 0, 0, http_status=200)
    exchange.reads = [(stamp * MS, b"x") for stamp, _ in reads]
    exchange.lates_ns = array("q", [late * US for _, late in reads])
    return exchange.hand_over().packed()


def ended(times: ReadTimes, index: int, stamps_ms: list[int]) -> None:
    record = made_record(index, token_events=len(stamps_ms), token_reads=len(set(stamps_ms)))
    times.end(record, [stamp * MS for stamp in stamps_ms])


def test_reads_before_the_first_token_are_nobodys_and_it_may_come_in_a_later_part() -> None:
    times = ReadTimes()
    times.segment(segment(0, (1, 900), (2, 901)), [])  # the role, say
    times.segment(segment(0, (3, 902), (4, 40), (5, 50)), [4 * MS, 5 * MS])
    times.segment(segment(0, (6, 60), (7, 70)), [4 * MS, 5 * MS, 6 * MS, 7 * MS])
    assert dict(times.first) == {40: 1}
    assert dict(times.later) == {50: 1, 60: 1, 70: 1}


def test_parts_of_replies_may_come_in_turns() -> None:
    times = ReadTimes()
    for index in (0, 1):
        times.segment(segment(index, (1, 10 + index)), [MS])
    for index in (0, 1):
        times.segment(segment(index, (2, 20 + index)), [MS, 2 * MS])
        ended(times, index, [1, 2])
    assert dict(times.first) == {10: 1, 11: 1}
    assert dict(times.later) == {20: 1, 21: 1}


def test_lateness_is_told_in_ms_and_own_stamps_have_none() -> None:
    times = ReadTimes()
    lates = [(n, n) for n in range(1, 1002)]
    times.segment(segment(0, *lates, (2000, 0)), [MS])
    assert times.facts()["lateness_ms"] == {
        "ttft": {"reads": 1, "p50": 0.001, "p99": 0.001, "max": 0.001},
        "gaps": {"reads": 1000, "p50": 0.502, "p99": 0.991, "max": 1.001},
    }
    assert ReadTimes().facts()["lateness_ms"] is None


@pytest.mark.parametrize(
    ("stamps_ms", "merged", "first"),
    [
        ([], 0, 0),
        ([5], 0, 0),
        ([5, 6, 7], 0, 0),
        ([5, 6, 6, 6, 7, 7], 2, 0),
        ([5, 5, 6], 1, 1),
        ([5, 5], 1, 1),
    ],
)
def test_reads_of_several_events_count_once_and_first_ones_apart(
    stamps_ms: list[int], merged: int, first: int
) -> None:
    times = ReadTimes()
    ended(times, 0, stamps_ms)
    facts = times.facts()
    assert (facts["merged_reads"], facts["merged_first_reads"]) == (merged, first)
    assert facts["token_reads"] == len(set(stamps_ms))
    assert facts["token_events"] == len(stamps_ms)
    assert facts["first_reads"] == bool(stamps_ms)


def test_a_long_run_counts_few_values_and_none_is_a_thousandth_off() -> None:
    times = ReadTimes()
    lates = [(n + 2, late) for n, late in enumerate(range(9_000, 3_000_000, 97))]
    times.segment(segment(0, (1, 1), *lates), [MS])
    assert len(times.later) < 20_000
    assert times.facts()["lateness_ms"]["gaps"]["max"] == pytest.approx(
        lates[-1][1] / 1000, rel=1e-3
    )
