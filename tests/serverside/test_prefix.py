"""Wanted, possible and served share of the prefix cache, and what lies between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.figures.facts import Facts
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.serverside.prefix import own_share, prefix_shares
from vllm_bench.summary.levels import series_of
from vllm_bench.tables.level_lines import server_lines

from tests.classes.made import info_of, rows_of
from tests.support.made_runs import failed_record, made_record, summed
from tests.support.open_runs import facts_of, finding_of

PLAN = {
    **{"block_size": 16, "block_size_known": True, "wanted_share": 0.5, "possible_share": 0.48},
    **{"groups": 4, "tokens": 128, "working_set_tokens": 512, "primed_cached_tokens": 0},
}
NAMES = {
    "queries": "vllm:prefix_cache_queries_total",
    "hits": "vllm:prefix_cache_hits_total",
    "prompts": "vllm:prompt_tokens_total",
}
CACHE = {"kv_cache_size_tokens": "4096", "enable_prefix_caching": "True", "block_size": "16"}


def records(count: int = 100, possible: int | None = 120, **changes: Any) -> list[RequestRecord]:
    """Requests of 250 prompt tokens; by the plan 120 of them were there before."""
    return [made_record(i, possible_cached_tokens=possible, **changes) for i in range(count)]


def counters(**moved: float) -> dict[str, Any]:
    after = {NAMES[name]: 7.0 + value for name, value in moved.items()}
    return {"before": dict.fromkeys(NAMES.values(), 7.0), "after": after}


def made(tmp_path: Path, rows: list[RequestRecord], **facts: Any) -> Facts:
    given = {"plan": {"prefix": PLAN}, "server": {"cache_config": CACHE}, **facts}
    return facts_of(tmp_path, rows, **given)


def severity(facts: Facts, code: str) -> str | None:
    found = finding_of(facts, code)
    return found.severity.name if found else None


def test_the_replies_say_what_was_served(tmp_path: Path) -> None:
    shares = prefix_shares(made(tmp_path, records(cached_tokens=115)))
    assert (shares.wanted_share, shares.possible_share) == (0.5, 0.48)
    assert (shares.served_share, shares.served_by) == (0.46, "replies")
    assert (shares.working_set_tokens, shares.cache_tokens, shares.block_size) == (512, 4096, 16)


def test_a_reply_without_cached_tokens_beside_others_found_none(tmp_path: Path) -> None:
    half = records(50, cached_tokens=120) + [
        made_record(50 + i, possible_cached_tokens=120) for i in range(50)
    ]
    assert prefix_shares(made(tmp_path, half)).served_share == 0.24


def test_else_the_counters_say_it_without_the_warm_up(tmp_path: Path) -> None:
    beside = {"warmup": 4, "prompt_tokens": 1000, "warmup_prompt_tokens": 1000}
    facts = made(
        tmp_path,
        records(),
        unmeasured=beside,
        server_counters=counters(queries=26_000, hits=12_000, prompts=26_000),
    )
    shares = prefix_shares(facts)
    assert (shares.served_share, shares.served_by) == (0.48, "counters")


@pytest.mark.parametrize(
    ("prompts", "queries"), [(26_000, 25_000), (25_000, 30_000), (50_000, 50_000)]
)
def test_counters_that_others_moved_say_nothing(tmp_path: Path, prompts: int, queries: int) -> None:
    moved = counters(queries=queries, hits=12_000, prompts=prompts)
    shares = prefix_shares(made(tmp_path, records(), server_counters=moved))
    assert (shares.served_share, shares.served_by) == (None, None)
    assert "served_share" in shares.absent


def test_counters_are_of_all_requests_and_so_not_of_a_class_alone(tmp_path: Path) -> None:
    mixed = records(50) + [made_record(50 + i) for i in range(50)]
    moved = counters(queries=25_000, hits=6_000, prompts=25_000)
    shares = prefix_shares(made(tmp_path, mixed, server_counters=moved))
    assert (shares.possible_share, shares.served_share) == (0.48, None)


def test_a_run_that_shares_nothing_by_plan_has_no_shares(tmp_path: Path) -> None:
    shares = prefix_shares(facts_of(tmp_path, records(possible=None, cached_tokens=9)))
    assert not shares.known
    assert shares.absent == {}
    assert shares.served_share is None


def test_failures_are_in_no_share(tmp_path: Path) -> None:
    rows = [*records(90, cached_tokens=120), *(failed_record(90 + i) for i in range(10))]
    shares = prefix_shares(made(tmp_path, rows))
    assert shares.possible_share == shares.served_share == 0.48


def test_what_the_plan_repeats_is_no_surprise_in_the_cache(tmp_path: Path) -> None:
    facts = made(tmp_path, records(cached_tokens=120))
    assert own_share(facts) == 0.48
    assert severity(facts, "cache_hits") == "NOTE"
    more = made(tmp_path, records(cached_tokens=200))
    assert severity(more, "cache_hits") == "SUSPECT"


@pytest.mark.parametrize(("cached", "expected"), [(115, None), (114, "NOTE"), (1, "NOTE")])
def test_less_than_possible_by_over_two_points_is_told(
    tmp_path: Path, cached: int, expected: str | None
) -> None:
    assert severity(made(tmp_path, records(cached_tokens=cached)), "prefix_not_served") == expected


@pytest.mark.parametrize(
    ("plan", "cache", "cached", "words"),
    [
        ({}, {"enable_prefix_caching": "False"}, 0, "switched off"),
        ({"working_set_tokens": 9000}, {}, 60, "9,000 tokens, and its cache holds 4,096"),
        (
            {},
            {"kv_cache_size_tokens": "1200"},
            60,
            "beside 512 of the groups' beginnings",
        ),
        ({}, {}, 60, "doesn't show"),
    ],
    ids=["off", "evicted", "crowded", "unknown"],
)
def test_the_cause_is_named_as_far_as_it_shows(
    tmp_path: Path, plan: dict[str, Any], cache: dict[str, str], cached: int, words: str
) -> None:
    facts = made(
        tmp_path,
        records(cached_tokens=cached),
        plan={"prefix": {**PLAN, **plan}},
        server={"cache_config": {**CACHE, **cache}},
    )
    found = finding_of(facts, "prefix_not_served")
    assert found is not None
    assert words in found.figures


def test_several_replicas_are_a_cause(tmp_path: Path) -> None:
    noted = {"server_metrics": {"problems": [{"code": "replicas", "text": "several"}]}}
    found = finding_of(
        made(tmp_path, records(cached_tokens=60), observed=noted), "prefix_not_served"
    )
    assert found is not None
    assert "several servers" in found.figures


@pytest.mark.parametrize(("wanted", "expected"), [(0.54, None), (0.42, None), (0.56, "NOTE")])
def test_a_plan_further_from_the_wanted_share_than_a_block_is_told(
    tmp_path: Path, wanted: float, expected: str | None
) -> None:
    facts = made(
        tmp_path, records(cached_tokens=120), plan={"prefix": {**PLAN, "wanted_share": wanted}}
    )
    assert severity(facts, "prefix_not_as_wanted") == expected


def test_of_classes_the_beginnings_add_up_and_each_has_its_three_shares(tmp_path: Path) -> None:
    asked = {"chat": {"share": 0.4}, "rag": {"share": 0.3}, "law": {"share": 0.3}}
    found = {"rag": 115, "law": 60}
    rows = [
        dataclasses.replace(
            row,
            possible_cached_tokens=120 if row.class_ in found else None,
            cached_tokens=found.get(row.class_ or "", 0),
        )
        for row in rows_of(["chat", "rag", "law"] * 60, dict.fromkeys(asked, 100.0))
    ]
    info = info_of(rows, asked, server={"cache_config": {**CACHE, "kv_cache_size_tokens": "700"}})
    for name in found:
        info.plan["classes"][name]["plan"]["prefix"] = PLAN
    run = summed(tmp_path, rows, info)
    assert run.prefix.working_set_tokens == 2 * PLAN["working_set_tokens"]
    (finding,) = (f for f in run.verdict.findings if f.code == "prefix_not_served")
    assert "1,024" in finding.figures
    of_each = {n: p.prefix for n, p in run.classes.items()}
    assert not of_each["chat"].known
    for name, cached in found.items():
        one = of_each[name]
        shares = (one.wanted_share, one.possible_share, one.served_share)
        assert shares == pytest.approx((0.5, 0.48, cached / 250))
    (series,) = series_of([run])
    lines = [line for line in server_lines(series) if "wanted" in line]
    assert [line.split(": ")[0].split(", ")[1] for line in lines] == list(found)
    assert ["served 46.0 %" in lines[0], "served 24.0 %" in lines[1]] == [True, True]
