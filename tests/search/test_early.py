"""When a run of a search is ended early, and when it isn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from vllm_bench.figures.objectives import Objective
from vllm_bench.search.early import GROWING, Counts
from vllm_bench.search.sizes import Size

from tests.support.made_runs import failed_record, made_record

P99 = Objective("ttft_from_schedule_ms", 0.99, 500.0)
P50 = Objective("tpot_ms", 0.50, 1.0)
RATE = 10.0


def counts(*tiers: Sequence[Objective], over: float = 1.0, closed: bool = False) -> Counts:
    due_s = [] if closed else [n / RATE for n in range(1000)]
    return Counts(tiers or [[P99]], Size(1000, 300), over, due_s)


def rows(numbers: Sequence[int], **changes: Any) -> list[Any]:
    return [made_record(n, request_rate=RATE, **changes) for n in numbers]


def late(numbers: Sequence[int]) -> list[Any]:
    return rows(numbers, ttft_ms=501.0)


def test_it_ends_when_more_are_late_than_may_be_of_all_of_them() -> None:
    found = counts()
    assert found.enough(late(range(300, 307)), 40.0) is None  # 1 % of 700
    assert found.enough(late([307]), 41.0) is not None


def test_what_isnt_counted_may_be_late() -> None:
    found = counts()
    assert found.enough(late(range(300)), 31.0) is None
    assert found.enough(late(range(300, 308)), 32.0) is not None


def test_a_failure_is_late_and_a_late_send_is_too() -> None:
    failed = [failed_record(n, request_rate=RATE) for n in range(300, 308)]
    assert counts().enough(failed, 40.0) is not None
    assert counts().enough(rows(range(300, 308), ttft_ms=450.0, send_lag_ms=60.0), 40.0)
    assert counts().enough(rows(range(300, 308), ttft_ms=450.0), 40.0) is None


def test_a_reply_of_one_token_cant_miss_a_limit_between_tokens() -> None:
    one = counts([P50])
    assert one.enough(rows(range(300, 1000), tpot_ms=None), 100.0) is None
    assert one.enough(rows(range(300, 1000)), 100.0) is not None


def test_a_run_goes_on_while_one_tier_may_still_be_met() -> None:
    both = counts([P99], [Objective("ttft_from_schedule_ms", 0.99, 600.0)])
    assert both.enough(late(range(300, 320)), 40.0) is None
    assert both.enough(rows(range(320, 330), ttft_ms=601.0), 41.0) is not None


def test_a_run_that_confirms_may_be_made_up_for_by_others() -> None:
    found = counts(over=2.0)
    assert found.enough(late(range(300, 314)), 40.0) is None
    assert found.enough(late([314]), 41.0) is not None


def test_where_none_may_be_late_the_first_is_enough() -> None:
    assert counts([Objective(None, 1.0, None)]).enough([failed_record(400)], 40.0) is not None


def ends_at(per_s: float, until_s: float, latency_ms: float = 1000.0) -> list[Any]:
    """What a server that ends so many in a second has ended by then."""
    return [
        made_record(n, request_rate=RATE, ttft_ms=100.0, t_end_s=n / per_s + latency_ms / 1000)
        for n in range(int(per_s * until_s))
    ]


@pytest.mark.parametrize(
    ("per_s", "grows"), [(5.0, True), (7.0, True), (9.5, False), (10.0, False)]
)
def test_a_queue_that_grows_ends_it(per_s: float, grows: bool) -> None:
    found = counts()
    why = found.enough(ends_at(per_s, 80.0), 80.0)
    assert (why is not None and why.startswith(GROWING)) == grows


def test_a_queue_is_told_from_the_start_and_a_closed_loop_has_none() -> None:
    assert counts().enough(ends_at(5.0, 40.0), 40.0) is None  # the first 300 aren't over
    assert counts(closed=True).enough(ends_at(5.0, 80.0), 80.0) is None
    # Replies of 100 s: none of the later ones has ended, and none should have.
    slow = [
        made_record(n, request_rate=RATE, ttft_ms=100.0, t_end_s=n / RATE + 100.0, latency_ms=1e5)
        for n in range(350)
    ]
    assert counts().enough(slow, 135.0) is None
