"""Verdicts: every code fires on a made run, and just doesn't on the threshold's other side."""

from __future__ import annotations

import pytest
from vllm_bench.figures.facts import Facts
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RecordsError
from vllm_bench.records.run_info import ClockPair
from vllm_bench.summary.summary import summarize
from vllm_bench.verdict.finding import Finding, Severity
from vllm_bench.verdict.verdict import CHECKS, Verdict, finding_text, headline, judge

from tests.support.made_runs import (
    NOON_S,
    failed_record,
    frame_of,
    gpu_row,
    made_info,
    made_record,
    whole_reply_record,
    write_gpu_rows,
    write_run,
)


@pytest.fixture
def verdict_of(tmp_path):
    """Judge records; `info` may be changed or left out."""

    def verdict(records, *, no_info=False, **changes):
        info = None if no_info else made_info(records, **changes)
        return judge(Facts(frame_of(tmp_path, records), info))

    return verdict


def healthy(count=100, **changes):
    """A run of some length: a request a second."""
    return [made_record(i, **changes) for i in range(count)]


def finding(verdict: Verdict, code: str) -> Finding | None:
    return next((f for f in verdict.findings if f.code == code), None)


def severity(verdict: Verdict, code: str) -> Severity | None:
    found = finding(verdict, code)
    return found.severity if found else None


def test_a_healthy_run_is_valid_and_has_nothing_to_note(verdict_of):
    verdict = verdict_of(healthy())
    assert verdict.level == "VALID"
    assert verdict.findings == ()
    assert headline(verdict) == "VALID"


@pytest.mark.parametrize(
    ("failed", "of", "expected"),
    [
        (1, 1000, None),  # 0.1 %, not more
        (2, 1000, Severity.SUSPECT),
        (10, 1000, Severity.SUSPECT),  # 1 %, not more
        (11, 1000, Severity.INVALID),
        (10, 10, Severity.INVALID),
    ],
)
def test_errors_past_one_in_a_thousand_are_suspect_past_one_in_a_hundred_invalid(
    verdict_of, failed, of, expected
):
    records = [failed_record(i) if i < failed else made_record(i) for i in range(of)]
    assert severity(verdict_of(records), "errors") == expected


def test_errors_are_named_by_kind_with_their_count(verdict_of):
    records = [*healthy(97), *(failed_record(i, error_kind="truncated") for i in range(97, 100))]
    found = finding(verdict_of(records), "errors")
    assert found is not None
    assert "3 of 100 requests failed (3 %): 3 truncated" in found.figures


def test_requests_that_the_client_cancelled_are_an_interruption_and_no_error(verdict_of):
    records = [*healthy(20), failed_record(20, error_kind="cancelled", error="told to stop")]
    verdict = verdict_of(records, status="interrupted")
    assert severity(verdict, "errors") is None
    assert severity(verdict, "interrupted") == Severity.SUSPECT


@pytest.mark.parametrize(
    ("status", "missing", "expected"),
    [
        ("complete", 0, None),
        ("complete", 1, Severity.SUSPECT),
        ("interrupted", 50, Severity.SUSPECT),
        ("running", 0, Severity.SUSPECT),
        ("failed", 50, Severity.INVALID),
    ],
)
def test_a_run_that_was_not_whole_says_so(verdict_of, status, missing, expected):
    verdict = verdict_of(healthy(), status=status, num_requests=100 + missing)
    assert severity(verdict, "interrupted") == expected


def test_a_run_that_was_killed_says_that_it_was_cut_off(verdict_of):
    found = finding(verdict_of(healthy(), status="running", num_requests=200), "interrupted")
    assert found is not None
    assert found.figures.startswith("cut off while running: 100 of 200")


def test_a_run_without_a_row_is_invalid(tmp_path):
    info = made_info([], status="running", num_requests=50)
    verdict = judge(Facts(frame_of(tmp_path, []), info))
    assert verdict.level == "INVALID"
    assert severity(verdict, "interrupted") == Severity.INVALID


@pytest.mark.parametrize(
    ("ttft_ms", "lag_ms", "expected"),
    [
        (1000.0, 20.0, None),  # 2 % of the median TTFT, not more
        (1000.0, 20.1, Severity.SUSPECT),
        (1000.0, 100.0, Severity.SUSPECT),  # 10 %, not more
        (1000.0, 100.1, Severity.INVALID),
        (10.0, 2.0, None),  # 20 %, but a lag that nobody would act on
        (10.0, 2.1, Severity.INVALID),
    ],
)
def test_a_late_client_is_measured_against_the_ttft(verdict_of, ttft_ms, lag_ms, expected):
    records = healthy(ttft_ms=ttft_ms, send_lag_ms=lag_ms, latency_ms=ttft_ms + 190)
    assert severity(verdict_of(records), "send_lag") == expected


def test_without_streaming_a_late_client_is_measured_against_the_latency(verdict_of):
    records = [whole_reply_record(i, send_lag_ms=101.0) for i in range(100)]
    found = finding(verdict_of(records, scenario={"stream": False}), "send_lag")
    assert found is not None
    assert found.severity == Severity.INVALID
    assert "10% of the median latency of 1000.0 ms" in found.figures


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(1, None), (2, Severity.SUSPECT), (5, Severity.SUSPECT), (6, Severity.INVALID)],
)
def test_lengths_that_were_to_be_exact_are_counted(verdict_of, wrong, expected):
    records = [
        made_record(i, completion_tokens=19 if i < wrong else 20, token_events=19)
        for i in range(100)
    ]
    assert severity(verdict_of(records, scenario={"ignore_eos": True}), "length_mismatch") == (
        expected
    )
    assert severity(verdict_of(records), "length_mismatch") is None


def test_two_choices_are_twice_the_length(verdict_of):
    records = healthy(completion_tokens=40, token_events=40)
    settings = {"ignore_eos": True, "extra_body": {"n": 2}}
    assert severity(verdict_of(records, scenario=settings), "length_mismatch") is None


@pytest.mark.parametrize(("tokens", "expected"), [(105, None), (106, Severity.SUSPECT)])
def test_more_than_one_token_in_twenty_chunks_is_suspect(verdict_of, tokens, expected):
    records = healthy(completion_tokens=tokens, token_events=100)
    assert severity(verdict_of(records), "multi_token_chunks") == expected


def test_a_reply_in_one_piece_has_no_chunks_to_doubt(verdict_of):
    records = [whole_reply_record(i) for i in range(100)]
    verdict = verdict_of(records, scenario={"stream": False})
    assert severity(verdict, "multi_token_chunks") is None
    assert verdict.level == "VALID"


@pytest.mark.parametrize(("count", "expected"), [(5, Severity.SUSPECT), (6, None)])
def test_a_median_needs_six_successes(verdict_of, count, expected):
    assert severity(verdict_of(healthy(count)), "few_samples") == expected


def back_to_back(count, latency_s, last_s):
    """One stream, `count` requests without a pause: the window is as long as all of them."""
    one = {"concurrency": 1, "latency_ms": 1000 * latency_s}
    records = [made_record(i, t_sent_s=i * latency_s, **one) for i in range(count - 1)]
    last = {**one, "latency_ms": 1000 * last_s}
    return [*records, made_record(count - 1, t_sent_s=(count - 1) * latency_s, **last)]


@pytest.mark.parametrize(("last_s", "expected"), [(1.0, None), (0.99, Severity.SUSPECT)])
def test_less_than_ten_seconds_is_a_short_window(verdict_of, last_s, expected):
    assert severity(verdict_of(back_to_back(10, 1.0, last_s)), "window_short") == expected


@pytest.mark.parametrize(("last_s", "expected"), [(4.0, None), (3.9, Severity.SUSPECT)])
def test_less_than_three_latencies_is_a_short_window(verdict_of, last_s, expected):
    assert severity(verdict_of(back_to_back(3, 4.0, last_s)), "window_short") == expected


def test_a_smoke_test_of_fifty_requests_is_suspect_and_told_how_many_to_send(verdict_of):
    verdict = verdict_of(back_to_back(50, 0.06, 0.06))  # 3.0 s in all
    assert verdict.level == "SUSPECT"
    assert [f.code for f in verdict.findings] == ["window_short"]
    # 50 requests * 10 s / 3 s = 166.7, rounded up to two digits
    assert "num_requests to about 170" in verdict.findings[0].advice


@pytest.mark.parametrize(
    ("streams", "count", "gap_s", "why", "advice"),
    [
        (8, 4, 0.0, "4 requests were sent", "set num_requests to about 88 for"),
        (1, 1, 0.0, None, "set num_requests to about 10 for"),
        (8, 10, 0.5, "at most 2 were in flight at once", "set num_requests to about 88 for"),
    ],
)
def test_a_load_that_was_never_held_is_told_as_such(verdict_of, streams, count, gap_s, why, advice):
    records = [made_record(i, concurrency=streams, t_sent_s=i * gap_s) for i in range(count)]
    found = finding(verdict_of(records), "window_short")
    assert found is not None
    assert advice in found.advice
    if why is None:
        assert "was held for 1.0 s" in found.figures
    else:
        assert f"the load of {streams} streams was never held: {why}; 10 s of it" in found.figures


def test_a_long_run_that_never_held_its_load_is_rate_shortfall_s_to_judge(verdict_of):
    # 30 s; each stream is free a second after its send, and waits 3 s for the client.
    found = verdict_of(
        [
            made_record(
                i, concurrency=8, t_sent_s=i * 0.5, t_scheduled_s=max(0.0, (i - 8) * 0.5 + 1)
            )
            for i in range(60)
        ]
    )
    assert severity(found, "window_short") is None
    assert severity(found, "rate_shortfall") == Severity.INVALID


def paused(short):
    """Two streams of back-to-back seconds, of which one is idle for a share of each."""
    for i in range(40):
        at_s, wait_s = float(i // 2), 2 * short if i % 2 and i > 1 else 0.0
        yield made_record(
            i,
            concurrency=2,
            t_scheduled_s=at_s,
            t_sent_s=at_s + wait_s,
            latency_ms=1000 * (1 - wait_s),
        )


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        (0.0, None),
        (0.009, None),
        (0.011, Severity.SUSPECT),
        (0.049, Severity.SUSPECT),
        (0.06, Severity.INVALID),
    ],
)
def test_streams_that_the_client_left_idle_are_load_that_was_not_held(verdict_of, short, expected):
    assert severity(verdict_of(list(paused(short))), "rate_shortfall") == expected


def test_fewer_requests_than_streams_are_never_that_load(verdict_of):
    records = [made_record(i, concurrency=8, t_sent_s=0.0) for i in range(4)]
    found = finding(verdict_of(records), "rate_shortfall")
    assert found is not None
    assert found.severity == Severity.INVALID
    assert "4.00 of 8 streams" in found.figures
    assert "below the number of streams" in found.advice


def offered(per_s, served_per_s, seconds=60):
    """Requests that come at an even rate to a server that takes one after the other."""
    free_s = 0.0
    for i in range(per_s * seconds):
        sent_s = i / per_s
        free_s = max(free_s, sent_s) + 1 / served_per_s
        yield made_record(i, t_sent_s=sent_s, latency_ms=1000 * (free_s - sent_s))


@pytest.mark.parametrize(
    ("per_s", "served_per_s", "expected"),
    [
        (20, 20.0, None),
        (20, 19.2, None),  # 4 % are left over
        (20, 18.0, Severity.SUSPECT),  # 10 %
        (20, 15.0, Severity.INVALID),  # 25 %
    ],
)
def test_more_offered_than_served_is_no_steady_state(verdict_of, per_s, served_per_s, expected):
    records = list(offered(per_s, served_per_s))
    assert severity(verdict_of(records), "not_stationary") == expected


def test_a_closed_loop_never_offers_more_than_it_holds(verdict_of):
    assert severity(verdict_of(healthy(400, latency_ms=3000.0)), "not_stationary") is None


@pytest.mark.parametrize(
    ("drift_ms", "expected"),
    [
        (4.9, None),
        (-4.9, None),
        (5.1, Severity.SUSPECT),
        (-49.0, Severity.SUSPECT),
        (51.0, Severity.INVALID),
    ],
)
def test_clocks_that_moved_apart_are_doubted(verdict_of, drift_ms, expected):
    end = ClockPair(wall_s=NOON_S + 60 + drift_ms / 1000, monotonic_ns=60_000_000_000)
    assert severity(verdict_of(healthy(), clock_end=end), "clock_drift") == expected


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [
        ({"ttft_ms": {"p99": 500}}, 367, Severity.SUSPECT),
        ({"ttft_ms": {"p99": 500}}, 368, None),
        ({"tpot_ms": {"p50": 100, "p95": 200}}, 71, Severity.SUSPECT),
        ({"tpot_ms": {"p50": 100, "p95": 200}}, 72, None),
        ({"success_rate": 0.999}, 80, None),
    ],
)
def test_an_objectives_percentile_needs_its_samples(verdict_of, asked, count, expected):
    assert severity(verdict_of(healthy(count), scenario={"slo": asked}), "few_samples") == expected


def cache_counters(hits, queries=10_000.0):
    names = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    after = dict(zip(names, (100.0 + hits, 500.0 + queries), strict=True))
    return {"before": dict(zip(names, (100.0, 500.0), strict=True)), "after": after}


@pytest.mark.parametrize(
    ("hits", "cache", "expected"),
    [
        (100.0, "cold", None),  # 1 %, not more
        (101.0, "cold", Severity.SUSPECT),
        (1000.0, "cold", Severity.SUSPECT),
        (1001.0, "cold", Severity.INVALID),
        (5000.0, "run", Severity.NOTE),
        (100.0, "run", None),
    ],
)
def test_prompts_from_the_prefix_cache_are_no_prefill(verdict_of, hits, cache, expected):
    counters = cache_counters(hits)
    verdict = verdict_of(healthy(), server_counters=counters, scenario={"cache": cache})
    assert severity(verdict, "cache_hits") == expected


@pytest.mark.parametrize(("cached", "expected"), [(2, None), (30, Severity.INVALID)])
def test_without_counters_the_replies_own_cached_tokens_count(verdict_of, cached, expected):
    verdict = verdict_of(healthy(cached_tokens=cached), scenario={"cache": "cold"})
    assert severity(verdict, "cache_hits") == expected


def ledger(**off):
    """Counters of 100 healthy requests (250 + 20 tokens each), moved by `off`."""
    after = {
        "vllm:prompt_tokens_total": 25_000.0 + off.get("prompt", 0),
        "vllm:generation_tokens_total": 2_000.0 + off.get("output", 0),
        "vllm:request_success_total": 100.0 + off.get("requests", 0),
    }
    return {"before": dict.fromkeys(after, 7.0), "after": {k: v + 7 for k, v in after.items()}}


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        ({}, None),
        ({"output": 1}, Severity.SUSPECT),
        ({"output": 20}, Severity.SUSPECT),  # 1 % of the tokens, not more
        ({"output": 21}, Severity.INVALID),
        ({"output": -21}, Severity.INVALID),
        ({"prompt": 251}, Severity.INVALID),
        ({"requests": 50}, Severity.SUSPECT),  # requests alone move no token
    ],
)
def test_the_servers_ledger_must_agree_to_the_token(verdict_of, off, expected):
    verdict = verdict_of(healthy(), server_counters=ledger(**off))
    assert severity(verdict, "ledger_mismatch") == expected


def test_after_a_failure_the_ledger_is_only_a_lower_bound(verdict_of):
    records = [*healthy(100), failed_record(100)]
    more = verdict_of(records, server_counters=ledger(output=500))
    fewer = verdict_of(records, server_counters=ledger(output=-500))
    assert severity(more, "ledger_mismatch") is None
    assert severity(fewer, "ledger_mismatch") == Severity.SUSPECT


def test_a_counter_that_came_into_being_during_the_run_started_at_zero(verdict_of):
    counters = ledger()
    counters = {"before": {"other": 1.0}, "after": {k: v - 7 for k, v in counters["after"].items()}}
    assert severity(verdict_of(healthy(), server_counters=counters), "ledger_mismatch") is None


def test_the_advice_on_the_ledger_follows_the_sign(verdict_of):
    more = finding(verdict_of(healthy(), server_counters=ledger(output=50)), "ledger_mismatch")
    fewer = finding(verdict_of(healthy(), server_counters=ledger(output=-50)), "ledger_mismatch")
    assert more is not None
    assert "generation tokens: server 2050, client 2000" in more.figures
    assert "somebody else" in more.advice
    assert fewer is not None
    assert "restarted" in fewer.advice


def test_with_two_choices_only_output_tokens_are_compared(verdict_of):
    verdict = verdict_of(
        healthy(), server_counters=ledger(prompt=25_000), scenario={"extra_body": {"n": 2}}
    )
    assert severity(verdict, "ledger_mismatch") is None


def test_a_ledger_that_could_not_be_read_is_noted_and_costs_nothing(verdict_of):
    verdict = verdict_of(healthy(), server_counters={"before": None, "after": None})
    assert severity(verdict, "ledger_unread") == Severity.NOTE
    assert verdict.level == "VALID"
    assert severity(verdict_of(healthy()), "ledger_unread") is None


def test_rows_without_their_json_are_never_valid(verdict_of):
    verdict = verdict_of(healthy(), no_info=True)
    assert verdict.level == "SUSPECT"
    assert [f.code for f in verdict.findings] == ["no_run_info"]


@pytest.mark.parametrize(
    ("uses", "cache", "expected"),
    [
        (1, "run", None),
        (2, "run", Severity.NOTE),
        (2, "cold", None),  # a salt a request: nothing to find in the cache
    ],
)
def test_prompts_sent_twice_are_noted(verdict_of, uses, cache, expected):
    verdict = verdict_of(healthy(), prompts={"max_uses": uses}, scenario={"cache": cache})
    assert severity(verdict, "prompt_reuse") == expected
    assert verdict.level == "VALID"


def health(**changes):
    worker = {"worker": 0, "streams": 2, "lost": False, "cpu_share_per_second": [0.1, 0.2]}
    lag = changes.pop("lag_p99_ms", 0.1)
    lost = {"worker": 1, "streams": 2, "lost": True, "cpu_share_per_second": []}
    workers = [{**worker, **changes}, *([lost] if changes.pop("one_lost", False) else [])]
    return {"workers": workers, "loop_lag_ms": {"ticks": 1000, "p99": lag}}


@pytest.mark.parametrize(
    ("lag_p99_ms", "tpot_ms", "expected"),
    [
        (2.0, 10.0, None),  # not above the floor
        (2.1, 43.0, None),  # 4.9 % of a gap
        (2.1, 41.0, Severity.SUSPECT),
        (2.1, 10.4, Severity.INVALID),
        (1.9, 1.0, None),
    ],
)
def test_a_sending_loop_that_is_late_is_doubted(verdict_of, lag_p99_ms, tpot_ms, expected):
    verdict = verdict_of(healthy(tpot_ms=tpot_ms), client_health=health(lag_p99_ms=lag_p99_ms))
    assert severity(verdict, "loop_lag") == expected


def test_a_p99_of_a_few_ticks_doubts_nothing(verdict_of):
    for ticks, expected in ((367, None), (368, Severity.INVALID)):
        late = {"loop_lag_ms": {"ticks": ticks, "p99": 50.0}}
        verdict = verdict_of(healthy(), client_health=late)
        assert severity(verdict, "loop_lag") == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.70, None), (0.71, Severity.SUSPECT), (0.90, Severity.SUSPECT), (0.91, Severity.INVALID)],
)
def test_a_sending_process_near_its_core_is_doubted(verdict_of, share, expected):
    verdict = verdict_of(healthy(), client_health=health(cpu_share_per_second=[0.1, share, 0.2]))
    assert severity(verdict, "client_cpu") == expected


def test_a_lost_sending_process_spoils_the_run_whatever_came_of_the_rest(verdict_of):
    verdict = verdict_of(healthy(), num_requests=102, client_health=health(one_lost=True))
    assert severity(verdict, "worker_lost") == Severity.INVALID
    assert "2 requests without a row" in finding(verdict, "worker_lost").figures
    assert finding(verdict, "interrupted") is None  # said once
    assert severity(verdict_of(healthy(), client_health=health()), "worker_lost") is None


def test_health_that_somebody_edited_is_no_health(verdict_of):
    for odd in ({"workers": 3}, {"workers": [{"cpu_share_per_second": "x"}]}, {"loop_lag_ms": []}):
        assert verdict_of(healthy(), client_health=odd).level == "VALID"


@pytest.mark.parametrize(("told", "expected"), [(True, Severity.NOTE), (False, None)])
def test_client_and_server_on_one_machine_are_noted(verdict_of, told, expected):
    verdict = verdict_of(healthy(), server={"on_client_machine": told})
    assert severity(verdict, "same_machine") == expected


def test_the_gravest_finding_decides_and_comes_first(verdict_of):
    records = [*healthy(3), failed_record(3)]
    verdict = verdict_of(records, server={"on_client_machine": True})
    assert verdict.level == "INVALID"
    assert [f.severity for f in verdict.findings] == sorted(
        (f.severity for f in verdict.findings), reverse=True
    )
    assert verdict.findings[0].code == "errors"
    assert "same_machine" not in verdict.reasons


def test_every_check_carries_its_codes_name_and_its_meaning(verdict_of):
    docs = {check.code: check.meaning for check in CHECKS}
    assert len(docs) == len(CHECKS)
    assert all(docs.values())
    records = [*healthy(3), failed_record(3)]
    found = {f.code for f in verdict_of(records, no_info=True).findings}
    assert {"errors", "few_samples", "window_short", "no_run_info"} <= found <= set(docs)


def test_every_limit_has_its_reason_and_rises():
    assert all(check.why for check in CHECKS)
    pairs = [(check.suspect, check.invalid) for check in CHECKS]
    numbers = [p for p in pairs if all(isinstance(limit, int | float) for limit in p)]
    assert len(numbers) > 5
    assert all(suspect < invalid for suspect, invalid in numbers)


def test_the_printed_verdict_is_a_headline_and_lines_without_control_characters(verdict_of):
    verdict = verdict_of([failed_record(i, error_kind="\x1b[31mred") for i in range(10)])
    assert headline(verdict) == "INVALID (errors, few_samples)"
    lines = [finding_text(f) for f in verdict.findings]
    assert len(lines) == 2
    assert all("\x1b" not in line and "\n" not in line for line in lines)


@pytest.mark.parametrize(("count", "expected"), [(0, None), (3, Severity.NOTE)])
def test_preemptions_are_noted(verdict_of, count, expected):
    name = "vllm:num_preemptions_total"
    counters = {"before": {name: 5.0}, "after": {name: 5.0 + count}}
    assert severity(verdict_of(healthy(), server_counters=counters), "preemptions") == expected


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (None, None),
        ({"gpu_index": 1, "from_s": 10.0, "to_s": 13.0, "code": "late"}, None),  # not over 3 s
        ({"gpu_index": 1, "from_s": 10.0, "to_s": 13.1, "code": "late"}, Severity.SUSPECT),
        ({"gpu_index": 1, "from_s": 10.0, "to_s": None, "code": "lost"}, Severity.SUSPECT),
        ("nonsense", None),
    ],
)
def test_a_gpu_that_was_not_read_for_long_is_doubted(verdict_of, gap, expected):
    observed = {"gpu": {"gaps": [gap] if gap else []}}
    verdict = verdict_of(healthy(), observed=observed)
    assert severity(verdict, "gpu_gap") == expected
    if expected:
        assert "GPU 1" in finding(verdict, "gpu_gap").figures


@pytest.mark.parametrize(
    ("t_s", "reasons", "expected"),
    [
        (50.0, "none", None),
        (50.0, "gpu_idle", None),  # nothing to do is no throttling
        (50.0, "applications_clocks_setting", None),  # somebody wanted it so
        (50.0, "sw_power_cap", Severity.SUSPECT),
        (50.0, "gpu_idle|hw_thermal_slowdown", Severity.SUSPECT),
        (-1.0, "sw_power_cap", None),  # before the window
    ],
)
def test_a_gpu_whose_clocks_were_held_down_in_the_window_is_doubted(
    tmp_path, t_s, reasons, expected
):
    # Four at once from start to end, so that there is a window.
    records = [made_record(i, t_sent_s=i // 4 * 0.3) for i in range(400)]
    path = write_run(tmp_path, records, made_info(records))
    at = t_s / 50 * 15  # the run takes 30 s
    write_gpu_rows(path, [gpu_row(at, gpu_index=3, throttle_reasons=reasons)])
    summary = summarize(load_run(path))
    assert severity(summary.verdict, "gpu_throttled") == expected
    if expected:
        assert "GPU 3" in finding(summary.verdict, "gpu_throttled").figures


def test_gpu_samples_that_are_none_are_refused_by_name(tmp_path):
    records = healthy(10)
    path = write_run(tmp_path, records, made_info(records))
    (tmp_path / "telemetry").mkdir()
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "telemetry" / path.name).write_text(text)
        with pytest.raises(RecordsError, match="not GPU samples"):
            summarize(load_run(path))
