"""Replies, prefix cache, and the server's ledger against the client's, on both sides of limits."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.facts import Facts
from vllm_bench.verdict.verdict import judge

from tests.machines.made import made_health
from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_info,
    made_record,
    whole_reply_record,
)
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import INVALID, NOTE, SUSPECT, advice_on, healthy, severity_of

UNMEASURED = {
    "warmup": 4,
    "tail": 16,
    "failed": 0,
    "prompt_tokens": 5000,
    "completion_tokens": 400,
}
COUNTERS = {
    "tokens": "vllm:generation_tokens_total",
    "prompts": "vllm:prompt_tokens_total",
    "requests": "vllm:request_success_total",
}


@pytest.mark.parametrize(
    ("wrong", "expected"), [(1, None), (2, SUSPECT), (5, SUSPECT), (6, INVALID)]
)
def test_lengths_that_were_to_be_exact_are_counted(tmp_path, wrong, expected):
    records = [
        made_record(i, completion_tokens=19 if i < wrong else 20, token_events=19)
        for i in range(100)
    ]
    exact = facts_of(tmp_path, records, scenario={"ignore_eos": True})
    assert severity_of(exact, "length_mismatch") == expected
    assert severity_of(facts_of(tmp_path, records), "length_mismatch") is None


def test_two_choices_are_twice_the_length(tmp_path):
    records = healthy(completion_tokens=40, token_events=40)
    asked = {"ignore_eos": True, "extra_body": {"n": 2}}
    assert severity_of(facts_of(tmp_path, records, scenario=asked), "length_mismatch") is None


@pytest.mark.parametrize(("tokens", "expected"), [(105, None), (106, NOTE), (2000, NOTE)])
def test_more_than_one_token_in_twenty_chunks_is_noted(tmp_path, tokens, expected):
    asked = {"completion_tokens": tokens, "token_events": 100, "token_reads": 100}
    facts = facts_of(tmp_path, healthy(max_tokens=tokens, **asked))
    assert severity_of(facts, "multi_token_chunks") == expected
    assert judge(facts).level == "VALID"


def test_a_reply_in_one_piece_has_no_chunks_to_doubt(tmp_path):
    records = [whole_reply_record(i) for i in range(100)]
    assert judge(facts_of(tmp_path, records, scenario={"stream": False})).level == "VALID"


def moved(records, unmeasured=None, **by):
    """Counters of a server that had nobody else to serve, moved by some more."""
    counters = made_info(records, unmeasured=unmeasured or {}).server_counters
    after = dict(counters["after"] or {})
    for name, more in by.items():
        after[COUNTERS[name]] += more
    return {"before": counters["before"], "after": after}


def ledger(folder, records, unmeasured=None, scenario=None, **by):
    """Facts of a run whose server's counters are off by some."""
    counters = moved(records, unmeasured, **by)
    return facts_of(
        folder,
        records,
        server_counters=counters,
        unmeasured=unmeasured or {},
        scenario=scenario or {},
    )


@pytest.mark.parametrize("unmeasured", [None, UNMEASURED])
@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ({}, None),
        ({"tokens": 1}, SUSPECT),
        ({"tokens": -1}, SUSPECT),
        ({"prompts": 1}, SUSPECT),
        ({"tokens": 25}, SUSPECT),  # 1 % more work, and hardly a figure has moved
        ({"tokens": 100}, SUSPECT),  # 5 % of the rows' tokens, not more
        ({"tokens": 121}, INVALID),  # of the warm-up's too
        ({"tokens": -121}, INVALID),
        ({"prompts": 1501}, INVALID),
        ({"requests": 1}, SUSPECT),
        ({"requests": 50}, SUSPECT),  # requests alone move no token
        ({"requests": 50, "prompts": 12_000, "tokens": 1000}, INVALID),
    ],
)
def test_the_servers_ledger_must_agree_to_the_token(tmp_path, unmeasured, by, expected):
    assert severity_of(ledger(tmp_path, healthy(), unmeasured, **by), "ledger_mismatch") == expected


def test_what_nobody_measured_is_in_the_ledger(tmp_path):
    counters = moved(healthy(), UNMEASURED)
    assert counters["after"][COUNTERS["requests"]] == 120
    without = facts_of(tmp_path, healthy(), server_counters=counters)
    assert severity_of(without, "ledger_mismatch") is not None


@pytest.mark.parametrize(
    ("more", "expected"), [(300, None), (0, None), (-1, SUSPECT), (-500, SUSPECT)]
)
def test_after_a_failure_the_ledger_is_only_a_lower_bound(tmp_path, more, expected):
    unseen = ledger(tmp_path, healthy(), {**UNMEASURED, "failed": 1}, tokens=more)
    assert severity_of(unseen, "ledger_mismatch") == expected
    seen = ledger(tmp_path, [*healthy(), failed_record(100)], tokens=more)
    assert severity_of(seen, "ledger_mismatch") == expected


@pytest.mark.parametrize(
    ("more", "expected"), [(300, None), (0, None), (-1, SUSPECT), (-500, SUSPECT)]
)
@pytest.mark.parametrize(
    "health",
    [
        {"workers": [{"worker": 0, "lost": True}, {"worker": 1, "lost": False}]},
        made_health(machines={"node-b": {"lost": "died"}}),
        made_health(senders={"node-b": {"lost": True}}),  # one process of it
    ],
)
def test_what_was_lost_had_requests_under_way_that_the_server_counted(
    tmp_path, health, more, expected
):
    """By time they are no part of the plan: nothing but the loss tells of them."""
    facts = facts_of(
        tmp_path,
        healthy(),
        server_counters=moved(healthy(), tokens=more),
        client_health=health,
        scenario={"duration_s": 25.0},
    )
    assert severity_of(facts, "ledger_mismatch") == expected


def test_two_choices_compare_output_tokens_alone(tmp_path):
    two = {"extra_body": {"n": 2}}
    fine = ledger(tmp_path, healthy(), scenario=two, prompts=25_000, requests=9)
    off = ledger(tmp_path, healthy(), scenario=two, tokens=1)
    assert severity_of(fine, "ledger_mismatch") is None
    assert severity_of(off, "ledger_mismatch") is not None


def test_a_counter_that_came_into_being_during_the_run_started_at_zero(tmp_path):
    counters = {"before": {"other": 1.0}, "after": moved(healthy())["after"]}
    facts = facts_of(tmp_path, healthy(), server_counters=counters)
    assert severity_of(facts, "ledger_mismatch") is None


@pytest.mark.parametrize(("more", "advice"), [(50, "another client"), (-50, "restarted")])
def test_the_ledger_names_both_counts_and_advises_by_the_sign(tmp_path, more, advice):
    facts = ledger(tmp_path, healthy(), tokens=more)
    found = finding_of(facts, "ledger_mismatch")
    assert found is not None
    assert f"server {2000 + more}, client 2000" in found.figures
    assert advice in advice_on(facts, "ledger_mismatch")


def test_counts_that_somebody_edited_are_none(tmp_path):
    info = dataclasses.replace(made_info(healthy()), unmeasured={"warmup": "many"})
    assert severity_of(Facts(frame_of(tmp_path, healthy()), info), "ledger_mismatch") is None


counts = st.integers(0, 1000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(counts, counts, st.integers(0, 100_000), st.integers(0, 100_000), st.integers(-50, 50))
def test_the_ledger_agrees_exactly_where_nothing_else_was_served(
    tmp_path, warmup, tail, prompts, tokens, more
):
    unmeasured = {
        "warmup": warmup,
        "tail": tail,
        "failed": 0,
        "prompt_tokens": prompts,
        "completion_tokens": tokens,
    }
    facts = ledger(tmp_path, healthy(5), unmeasured, tokens=more)
    assert (severity_of(facts, "ledger_mismatch") is not None) == (more != 0)


@pytest.mark.parametrize("read", [True, False])
def test_a_ledger_that_could_not_be_read_is_noted_and_costs_nothing(tmp_path, read):
    counters = moved(healthy()) if read else {"before": None, "after": None}
    facts = facts_of(tmp_path, healthy(), server_counters=counters)
    assert severity_of(facts, "ledger_unread") == (None if read else NOTE)
    assert judge(facts).level == "VALID"


def test_of_a_run_that_was_cut_off_the_missing_ledger_is_no_news(tmp_path):
    """Nobody read the counters at its end, however well they can be reached."""
    counters = {"before": None, "after": None}
    facts = facts_of(tmp_path, healthy(), server_counters=counters, status="interrupted")
    found = {finding.code for finding in judge(facts).findings}
    assert ("interrupted" in found, "ledger_unread" in found) == (True, False)


STARTED = "process_start_time_seconds"
BEGAN_S = made_info(healthy()).clock_start.wall_s


def of_starts(before, after, moved_by=0):
    """Counters of a server, or of two, that began at these times."""
    counters = moved(healthy(), tokens=moved_by)
    starts = {"before": {STARTED: before}, "after": {STARTED: after}}
    return {when: {**counters[when], **starts[when]} for when in counters}


def change_of(folder, **known):
    """What is found of the ledger and of who answered."""
    facts = facts_of(folder, healthy(), **known)
    codes = ("server_restarted", "replicas_in_turn", "ledger_mismatch", "ledger_unread")
    return {code: found for code in codes if (found := severity_of(facts, code)) is not None}


@pytest.mark.parametrize(
    ("before", "after", "by", "expected"),
    [
        (BEGAN_S - 900, BEGAN_S - 900, 0, {}),
        (BEGAN_S - 900, BEGAN_S - 900, 50, {"ledger_mismatch": SUSPECT}),
        (BEGAN_S - 900, BEGAN_S + 20, -1500, {"server_restarted": SUSPECT}),
        (BEGAN_S - 900, BEGAN_S + 20, 0, {"server_restarted": SUSPECT}),
        (BEGAN_S - 900, BEGAN_S - 300, 523_016, {"replicas_in_turn": NOTE}),
        (BEGAN_S - 900, BEGAN_S - 950, -1500, {"replicas_in_turn": NOTE}),
    ],
)
def test_counters_of_two_servers_are_not_compared(tmp_path, before, after, by, expected):
    counters = of_starts(before, after, by)
    assert change_of(tmp_path, server_counters=counters) == expected


def test_a_counter_that_shrank_is_a_restart(tmp_path):
    before = dict.fromkeys(COUNTERS.values(), 525016.0)
    counters = {"before": before, "after": dict.fromkeys(COUNTERS.values(), 2000.0)}
    found = change_of(tmp_path, server_counters=counters)
    assert found == {"server_restarted": SUSPECT}


@pytest.mark.parametrize(
    ("noted", "code"),
    [("server_restarted", "server_restarted"), ("replicas", "replicas_in_turn")],
)
def test_what_the_sampler_saw_counts(tmp_path, noted, code):
    observed = {"server_metrics": {"rows": 9, "problems": [{"code": noted, "text": "x"}]}}
    found = change_of(tmp_path, server_counters=moved(healthy(), tokens=400), observed=observed)
    assert list(found) == [code]


def test_a_start_that_moved_while_the_sampler_saw_no_change_is_a_clock_that_was_set(tmp_path):
    """The server tells its start by a clock that somebody set; its counters went on."""
    noted = {"rows": 9, "problems": [], "server_started": [BEGAN_S - 900, BEGAN_S + 20]}
    counters = of_starts(BEGAN_S - 900, BEGAN_S + 20, 0)
    known = {"server_counters": counters, "observed": {"server_metrics": noted}}
    assert change_of(tmp_path, **known) == {}


def test_replicas_are_no_reason_to_doubt_the_run(tmp_path):
    facts = facts_of(tmp_path, healthy(), server_counters=of_starts(BEGAN_S - 9e3, BEGAN_S - 9e2))
    assert judge(facts).level == "VALID"


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (None, None),
        ({"rows": 30, "problems": []}, None),
        ({"problems": [{"code": "no_metrics", "text": "no answer within 5 s"}]}, NOTE),
        ({"rows": 30, "problems": [{"code": "no_answer", "text": "3 of 40"}]}, NOTE),
        ({"rows": 30, "problems": [{"code": "reading_failed", "text": "3 of 40"}]}, NOTE),
        ({"rows": 30, "problems": [{"code": "odd_values", "text": "vllm:x NaN"}]}, NOTE),
        ({"rows": 30, "problems": [], "gaps": [{"from_s": 1.0, "code": "late"}]}, NOTE),
        ({"rows": 30, "problems": "nonsense"}, None),
        ("nonsense", None),
    ],
)
def test_metrics_that_were_not_read_are_noted(tmp_path, noted, expected):
    known = {"observed": {"server_metrics": noted}} if noted is not None else {}
    facts = facts_of(tmp_path, healthy(), server_counters=moved(healthy()), **known)
    assert severity_of(facts, "metrics_gap") == expected
    assert judge(facts).level == "VALID"


def test_a_silent_page_is_told_once_with_its_reason(tmp_path):
    why = "/metrics: no answer within 5 s"
    facts = facts_of(
        tmp_path,
        healthy(),
        server_counters={"before": None, "after": None},
        observed={"server_metrics": {"problems": [{"code": "no_metrics", "text": why}]}},
    )
    assert why in finding_of(facts, "ledger_unread").figures
    assert severity_of(facts, "metrics_gap") is None


def cache_counters(hits):
    """Of 10,000 tokens looked up in this run."""
    names = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    before, after = (100.0, 500.0), (100.0 + hits, 10_500.0)
    return {
        "before": dict(zip(names, before, strict=True)),
        "after": dict(zip(names, after, strict=True)),
    }


@pytest.mark.parametrize(
    ("hits", "cache", "expected"),
    [
        (100.0, "cold", None),  # 1 %, not more
        (101.0, "cold", SUSPECT),
        (1000.0, "cold", SUSPECT),
        (1001.0, "cold", INVALID),
        (100.0, "run", None),
        (1000.0, "run", NOTE),  # 10 %, not more
        (1001.0, "run", SUSPECT),
        (9400.0, "run", SUSPECT),  # prompts that begin alike, or salts that nobody honours
        (9400.0, "natural", NOTE),
    ],
)
def test_prompts_from_the_prefix_cache_are_no_prefill(tmp_path, hits, cache, expected):
    counters = cache_counters(hits)
    facts = facts_of(tmp_path, healthy(), server_counters=counters, scenario={"cache": cache})
    assert severity_of(facts, "cache_hits") == expected


@pytest.mark.parametrize(
    ("hits", "cache", "expected"),
    [
        (7500.0, "cold", None),  # three of four choices, each of the whole prompt
        (7650.0, "cold", SUSPECT),
        (8600.0, "cold", INVALID),
        (7500.0, "run", None),
        (8450.0, "run", NOTE),
        (8600.0, "run", SUSPECT),
    ],
)
def test_choices_of_a_request_find_its_prompt(tmp_path, hits, cache, expected):
    asked = {"cache": cache, "extra_body": {"n": 4}}
    facts = facts_of(tmp_path, healthy(), server_counters=cache_counters(hits), scenario=asked)
    assert severity_of(facts, "cache_hits") == expected


@pytest.mark.parametrize(
    ("scenario", "plan", "uses", "expected"),
    [
        ({}, {}, 20, SUSPECT),  # a small set, sent again and again
        ({"cache": "natural"}, {}, 20, NOTE),
        ({"conversations": {"turns": 4}}, {}, 1, NOTE),  # each turn repeats the history
        ({"trace": "mooncake"}, {"trace_shared_share": 0.54}, 1, NOTE),  # and 60 % were found
        ({"trace": "mooncake"}, {"trace_shared_share": 0.45}, 1, SUSPECT),
        ({"trace": "mooncake"}, {"trace_shared_share": 0.90}, 1, NOTE),  # a cache may be small
        ({"system_prompt": "x" * 450}, {}, 1, NOTE),  # 150 of 250 tokens stand in each prompt
        ({"system_prompt": "x" * 150}, {}, 1, SUSPECT),
    ],
)
def test_hits_that_the_traffic_means_to_have_are_right(tmp_path, scenario, plan, uses, expected):
    facts = facts_of(
        tmp_path,
        healthy(),
        server_counters=cache_counters(6000.0),
        scenario={"cache": "run", **scenario},
        plan=plan,
        prompts={"max_uses": uses},
    )
    assert severity_of(facts, "cache_hits") == expected
    assert severity_of(facts, "prompt_reuse") is None  # said once


@pytest.mark.parametrize(("cached", "expected"), [(2, None), (30, INVALID)])
def test_without_counters_the_replies_own_cached_tokens_count(tmp_path, cached, expected):
    facts = facts_of(tmp_path, healthy(cached_tokens=cached), scenario={"cache": "cold"})
    assert severity_of(facts, "cache_hits") == expected


@pytest.mark.parametrize(
    ("uses", "cache", "expected"),
    [
        (1, "natural", None),
        (2, "natural", NOTE),
        (2, "run", None),  # a salt a use: nothing to find in the cache
        (2, "cold", None),
    ],
)
def test_prompts_sent_twice_are_noted(tmp_path, uses, cache, expected):
    prompts, scenario = {"max_uses": uses}, {"cache": cache}  # and no word from the server
    facts = facts_of(tmp_path, healthy(), prompts=prompts, scenario=scenario)
    assert severity_of(facts, "prompt_reuse") == expected
    assert judge(facts).level == "VALID"


@pytest.mark.parametrize(("count", "expected"), [(0, None), (3, NOTE)])
def test_preemptions_are_noted(tmp_path, count, expected):
    name = "vllm:num_preemptions_total"
    counters = {"before": {name: 5.0}, "after": {name: 5.0 + count}}
    facts = facts_of(tmp_path, healthy(), server_counters=counters)
    assert severity_of(facts, "preemptions") == expected
