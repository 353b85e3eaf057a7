"""What has ended, counted: in parts as a whole, with rows and without."""

from __future__ import annotations

import copy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.live.counts import Counts
from vllm_bench.live.progress import Progress
from vllm_bench.records.request_record import RequestRecord

from tests.support.made_runs import failed_record, made_record

RECORDS = st.lists(
    st.builds(
        lambda bad, index, name: (failed_record if bad else made_record)(index, class_=name),
        st.booleans(),
        st.integers(0, 99),
        st.sampled_from([None, "chat", "legal"]),
    ),
    max_size=12,
)


def counted(records: list[RequestRecord]) -> Counts:
    found = Counts()
    for record in records:
        found.add(record)
    return found


@given(RECORDS, RECORDS)
def test_parts_make_the_whole_and_can_be_taken_out_again(
    here: list[RequestRecord], there: list[RequestRecord]
) -> None:
    total = counted(here)
    total.put_in(counted(there))
    whole = counted([*here, *there])
    whole.last_error = total.last_error  # of equals in time nobody knows which was the last
    assert total == whole
    total.put_in(counted(there), -1)
    assert (total.ended, total.errors) == (len(here), counted(here).errors)
    assert total.completion_tokens == counted(here).completion_tokens
    assert {n: c for n, c in total.classes.items() if c != [0, 0]} == counted(here).classes


def test_rates_of_what_has_no_rows_are_those_of_its_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 1004.0)
    progress = Progress(100, started_s=1000.0)
    first = counted([made_record(i) for i in range(3)])
    second = copy.deepcopy(first)
    second.add(failed_record(3))
    progress.counted(first, Counts())
    progress.counted(second, first)
    assert (progress.ended, progress.failed, progress.good_tokens) == (4, 1, 60)
    figures = progress.recent.take(4.0)
    assert (figures.requests_per_s, figures.tokens_per_s, figures.failed) == (1.0, 15.0, 1)
    assert figures.ttft_p50_ms is None
    progress.recent.count_no_more()
    assert progress.recent.take(4.0).requests_per_s == 0.0


def test_counts_of_more_than_ten_seconds_ago_are_none_of_the_last_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    progress = Progress(100, started_s=1000.0)
    before = Counts()
    for second in range(1, 31):
        monkeypatch.setattr(time, "perf_counter", lambda s=second: 1000.0 + s)
        now = copy.deepcopy(before)
        now.add(made_record(second))
        progress.counted(now, before)
        before = now
    assert progress.recent.take(30.0).requests_per_s == 1.0
