"""From a run's files to what it shows a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.search.judged import Run, judged, limits, spoilt
from vllm_bench.search.probe import Probe, Purpose
from vllm_bench.search.sizes import Size
from vllm_bench.search.steps import Step
from vllm_bench.serverside.server import ServerSide
from vllm_bench.verdict.finding import Finding, Severity

from tests.figures.test_jobs import job_records
from tests.support.made_runs import failed_record, made_info, made_record, write_run

SLO = {"ttft_ms": {"p95": 500.0}}


def probe(
    folder: Path,
    records: list[RequestRecord],
    *,
    stopped: str | None = None,
    purpose: Purpose = "close",
    **changes: Any,
) -> Probe:
    scenario = {"slo": SLO, **changes.pop("scenario", {})}
    path = write_run(folder, records, made_info(records, scenario=scenario, **changes))
    run = Run(4, Step(purpose, 8.0), Size(400, 120), 60.0, stopped)
    return judged(run, load_run(path))


def made(count: int = 400, late: range = range(0), **changes: Any) -> list[RequestRecord]:
    return [
        made_record(n, request_rate=8.0, ttft_ms=900.0 if n in late else 100.0, **changes)
        for n in range(count)
    ]


def test_the_first_requests_arent_counted(tmp_path: Path) -> None:
    dropped = {"experiment": {"kind": "capacity", "id": "x", "dropped": 120}}
    found = probe(tmp_path, made(late=range(0, 120)), **dropped)
    (late,) = found.late[""]
    assert (late.late, found.counted) == (0, late.of)
    assert 270 <= late.of <= 280
    assert found.holds()


def test_without_the_word_of_a_search_they_are(tmp_path: Path) -> None:
    (late,) = probe(tmp_path, made(late=range(0, 120))).late[""]
    assert late.late > 100


def test_it_names_the_figure_of_the_worst_objective(tmp_path: Path) -> None:
    found = probe(tmp_path, made(late=range(200, 240)))
    assert not found.holds()
    assert found.worst().figure == "TTFT from schedule p95"
    assert found.worst().value_ms == pytest.approx(900.1, abs=0.5)


def test_each_tier_has_its_own(tmp_path: Path) -> None:
    tiers = {"fast": {"ttft_ms": {"p95": 50.0}}, "slow": {"latency_ms": {"p95": 2000.0}}}
    found = probe(tmp_path, made(), scenario={"slo_tiers": tiers})
    assert list(found.late) == ["", "fast", "slow"]
    assert [found.holds(tier) for tier in found.late] == [True, False, True]


def test_an_objective_on_a_rate_decides_nothing_and_is_told(tmp_path: Path) -> None:
    slo = {**SLO, "output_tokens_per_s": {"min": 1e6}}
    found = probe(
        tmp_path, made(), scenario={"slo": slo, "slo_tiers": {"t": {"requests_per_s": {"min": 1}}}}
    )
    assert found.holds()
    assert [len(found.late[""]), len(found.short[""])] == [1, 1]
    assert list(found.late) == [""]


@pytest.mark.parametrize(("limit_s", "holds"), [(3.5, True), (2.0, False)])
def test_objectives_on_jobs_decide_alone_or_beside_others(
    tmp_path: Path, limit_s: float, holds: bool
) -> None:
    jobs = {"job_served_s": {"p50": limit_s}}
    found = probe(tmp_path, job_records(80), scenario={"slo": {"ttft_ms": None, **jobs}})
    (late,) = found.late[""]
    assert (found.holds(), found.word()) == (holds, "met" if holds else "missed")
    assert late.value_ms == pytest.approx(2950.0)
    assert 60 <= late.of <= 80
    (tmp_path / "both").mkdir()
    both = probe(tmp_path / "both", job_records(80), scenario={"slo": {**SLO, **jobs}})
    assert (len(both.late[""]), both.holds()) == (2, holds)


def test_without_a_job_that_ended_an_objective_on_them_is_not_judged(tmp_path: Path) -> None:
    slo = {"job_served_s": {"p50": 9.0}}
    begun = [r for r in job_records(80) if r.turn != 3]
    found = probe(tmp_path, begun, scenario={"slo": slo})
    assert found.spoilt is not None


def test_what_was_cut_off_when_it_had_seen_enough_is_neither_late_nor_within(
    tmp_path: Path,
) -> None:
    rows = made(300, late=range(200, 250))
    cut = [failed_record(n, request_rate=8.0, error_kind="cancelled") for n in range(300, 330)]
    found = probe(
        tmp_path, [*rows, *cut], status="stopped", num_requests=1000, stopped="ended after 300"
    )
    (late,) = found.late[""]
    assert late.late == 50
    assert late.of <= 300
    assert found.spoilt is None
    assert not found.holds()
    assert found.verdict != "VALID"


@pytest.mark.parametrize(
    ("lag_ms", "purpose", "believed"),
    [
        (60.0, "close", True),
        (60.0, "confirm", False),
        (450.0, "close", False),
        (0.1, "confirm", True),
    ],
)
def test_late_sends_only_add_so_what_met_even_so_counts(
    tmp_path: Path, lag_ms: float, purpose: Purpose, believed: bool
) -> None:
    found = probe(tmp_path, made(send_lag_ms=lag_ms), purpose=purpose)
    assert (found.spoilt is None) == believed


def finding(code: str, severity: Severity = Severity.INVALID) -> Finding:
    return Finding(code, severity, "figures", "advice")


@pytest.mark.parametrize("code", ["not_stationary", "errors", "turned_away", "interrupted"])
def test_what_a_server_does_under_too_much_load_is_an_answer(code: str) -> None:
    assert spoilt([finding(code)]) is None


@pytest.mark.parametrize("code", ["send_lag", "worker_lost", "ledger_mismatch", "merged_reads"])
def test_what_is_wrong_with_client_or_books_is_none(code: str) -> None:
    found = spoilt([finding("errors"), finding(code)])
    assert found is not None
    assert code in found
    assert spoilt([finding(code, Severity.SUSPECT)]) is None


def test_what_is_held_back_on_the_way_is_what_users_get() -> None:
    assert spoilt([finding("buffered")]) is None
    assert spoilt([finding("buffered"), finding("ledger_mismatch")]) is not None


def test_a_rate_that_the_server_held_back_isnt_the_clients() -> None:
    assert spoilt([finding("rate_shortfall")]) is not None
    assert spoilt([finding("rate_shortfall"), finding("turned_away")]) is None


def side(**figures: Any) -> ServerSide:
    names = [n for n in ServerSide.__dataclass_fields__ if n not in ("samples", "absent")]
    return ServerSide(samples=5, absent={}, **{**dict.fromkeys(names), **figures})


def test_the_servers_limits_are_what_it_was_short_of() -> None:
    full = side(kv_cache_peak=0.99, running_peak=40.0, waiting_peak=34.0, preemptions=3)
    assert [*limits(full, 64)] == [
        "KV cache full",
        "3 requests preempted",
        "40 running, 34 waiting",
    ]
    assert "max_num_seqs (40) reached" in [*limits(full, 40)]
    assert [*limits(side(), 40)] == []
    idle = side(running_peak=1.0, waiting_peak=0.0)
    assert "steps" in "".join(limits(idle, None))
    assert "steps" not in "".join(limits(idle, None, late=False))  # it failed for something else
