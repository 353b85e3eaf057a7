"""The server's ledger against the client's, with the requests that nobody measured."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.facts import Facts
from vllm_bench.verdict.finding import Severity

from tests.support.made_runs import failed_record, frame_of, made_info, made_record
from tests.support.open_runs import facts_of, finding_of

UNMEASURED = {
    "warmup": 4,
    "tail": 16,
    "failed": 0,
    "prompt_tokens": 5000,
    "completion_tokens": 400,
}
TOKENS = "vllm:generation_tokens_total"
PROMPTS = "vllm:prompt_tokens_total"
REQUESTS = "vllm:request_success_total"


def records():
    return [made_record(i, request_rate=10.0) for i in range(100)]


def moved(unmeasured=UNMEASURED, of=None, **by):
    """Counters of a server that had nobody else to serve, moved by some more."""
    names = {"tokens": TOKENS, "prompts": PROMPTS, "requests": REQUESTS}
    counters = made_info(of or records(), unmeasured=unmeasured).server_counters
    after = dict(counters["after"] or {})
    for name, more in by.items():
        after[names[name]] += more
    return {"before": counters["before"], "after": after}


def test_what_nobody_measured_is_in_the_ledger(tmp_path):
    counters = moved()
    assert counters["after"][REQUESTS] == 120
    facts = facts_of(tmp_path, records(), unmeasured=UNMEASURED, server_counters=counters)
    assert finding_of(facts, "ledger_mismatch") is None
    without = facts_of(tmp_path, records(), server_counters=counters)
    assert finding_of(without, "ledger_mismatch") is not None


@pytest.mark.parametrize(
    ("by", "words", "severity"),
    [
        ({"tokens": 1}, "generation tokens: server 2401, client 2400", Severity.SUSPECT),
        ({"tokens": -1}, "generation tokens: server 2399, client 2400", Severity.SUSPECT),
        ({"prompts": 1}, "prompt tokens: server 30001, client 30000", Severity.SUSPECT),
        ({"requests": 1}, "request success: server 121, client 120", Severity.SUSPECT),
        ({"tokens": 25}, "generation tokens: server 2425, client 2400", Severity.INVALID),
    ],
)
def test_off_by_one_is_told(tmp_path, by, words, severity):
    counters = moved(**by)
    found = finding_of(
        facts_of(tmp_path, records(), unmeasured=UNMEASURED, server_counters=counters),
        "ledger_mismatch",
    )
    assert found is not None
    assert words in found.figures
    assert found.severity == severity


def test_other_traffic_is_told(tmp_path):
    counters = moved(requests=50, prompts=12_000, tokens=1000)
    found = finding_of(
        facts_of(tmp_path, records(), unmeasured=UNMEASURED, server_counters=counters),
        "ledger_mismatch",
    )
    assert found is not None
    assert found.severity == Severity.INVALID
    assert "somebody else used the server" in found.advice


@pytest.mark.parametrize(("more", "doubted"), [(300, False), (0, False), (-1, True)])
def test_after_a_failed_request_that_nobody_measured_the_ledger_is_a_lower_bound(
    tmp_path, more, doubted
):
    unmeasured = {**UNMEASURED, "failed": 1}
    counters = moved(unmeasured, tokens=more)
    facts = facts_of(tmp_path, records(), unmeasured=unmeasured, server_counters=counters)
    assert (finding_of(facts, "ledger_mismatch") is not None) == doubted


def test_after_a_failed_row_it_is_a_lower_bound_too(tmp_path):
    rows = [*records(), failed_record(100, request_rate=10.0)]
    counters = moved(of=rows, tokens=300, requests=1)
    facts = facts_of(tmp_path, rows, unmeasured=UNMEASURED, server_counters=counters)
    assert finding_of(facts, "ledger_mismatch") is None


def test_two_choices_compare_output_tokens_alone(tmp_path):
    settings_ = {"extra_body": {"n": 2}}
    changes = {"unmeasured": UNMEASURED, "scenario": settings_}
    fine = facts_of(tmp_path, records(), server_counters=moved(prompts=9, requests=9), **changes)
    off = facts_of(tmp_path, records(), server_counters=moved(tokens=1), **changes)
    assert finding_of(fine, "ledger_mismatch") is None
    assert finding_of(off, "ledger_mismatch") is not None


def test_counts_that_somebody_edited_are_none(tmp_path):
    info = dataclasses.replace(made_info(records()), unmeasured={"warmup": "many"})
    assert finding_of(Facts(frame_of(tmp_path, records()), info), "ledger_mismatch") is None


counts = st.integers(0, 1000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(counts, counts, st.integers(0, 100_000), st.integers(0, 100_000), st.integers(-50, 50))
def test_the_ledger_agrees_exactly_where_nothing_else_was_served(
    tmp_path, warmup, tail, prompts, tokens, more
):
    rows = [made_record(i, request_rate=10.0) for i in range(5)]
    unmeasured = {
        "warmup": warmup,
        "tail": tail,
        "failed": 0,
        "prompt_tokens": prompts,
        "completion_tokens": tokens,
    }
    counters = moved(unmeasured, of=rows, tokens=more)
    facts = facts_of(tmp_path, rows, unmeasured=unmeasured, server_counters=counters)
    assert (finding_of(facts, "ledger_mismatch") is not None) == (more != 0)
