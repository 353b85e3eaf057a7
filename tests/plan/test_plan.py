"""The plan of a run: its requests, salts, ids, secrets and limits."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.part import Part
from vllm_bench.plan.share import Timeouts
from vllm_bench.prompts.prompt import CountedBy

from tests.support.made_plans import made_part, made_prompts, plan_of

TIME = "20251124T120000Z"
RUN_ID = f"chat-cc2-prefany-max16-{TIME}"


def plan(count: int = 3, api_key: str | None = None, **changes: Any) -> Part:
    settings = {"num_requests": count, "concurrencies": [2], **changes}
    return plan_of(made_part(count, api_key=api_key, **settings), TIME).parts[0]


def salts(**changes: Any) -> list[str | None]:
    return [json.loads(r.body).get("cache_salt") for r in plan(**changes).requests]


@given(st.integers(1, 40))
def test_each_prompt_is_one_request_in_the_prompts_order(count: int) -> None:
    found = plan(count)
    assert [r.prompt_id for r in found.requests] == [f"p{i}" for i in range(count)]
    assert [r.index for r in found.requests] == list(range(count))
    assert [r.request_id for r in found.requests] == [f"{RUN_ID}-{i}" for i in range(count)]
    contents = [json.loads(r.body)["messages"][0]["content"] for r in found.requests]
    assert contents == [f"Question {i}?" for i in range(count)]


def test_planning_twice_gives_the_same_plan() -> None:
    assert plan() == plan()
    assert plan().requests == plan().requests


def test_a_run_has_one_salt_of_its_own() -> None:
    assert salts(cache="run") == [RUN_ID] * 3
    assert salts() == salts(cache="run")


def test_cold_gives_each_request_a_salt() -> None:
    assert salts(cache="cold") == [f"{RUN_ID}-{i}" for i in range(3)]


def test_natural_leaves_the_cache_as_the_server_has_it() -> None:
    assert salts(cache="natural") == [None] * 3


@pytest.mark.parametrize(
    ("changes", "secrets"),
    [
        ({}, []),
        ({"api_key": "sk-1"}, ["Bearer sk-1", "sk-1"]),
        ({"headers": {"X-Token": "t0ps"}}, ["t0ps"]),
        ({"api_key": "sk-1", "headers": {"X-Token": "t0ps"}}, ["Bearer sk-1", "sk-1", "t0ps"]),
        ({"headers": {"X-Token": "Bearer t0ps"}}, ["Bearer t0ps", "t0ps"]),
        ({"headers": {"X-Empty": "", "X-Priority": "1"}}, []),
    ],
    ids=str,
)
def test_key_and_own_headers_are_secrets_and_nothing_else_is(
    changes: dict[str, Any], secrets: list[str]
) -> None:
    assert set(plan(**changes).secrets) == {*secrets}


def test_a_longer_secret_is_masked_before_a_shorter_one_in_it() -> None:
    found = plan(headers={"X-A": "abcd", "X-B": "abcd-ef"}, api_key="abcd-ef-gh").secrets
    assert list(found) == sorted(found, key=len, reverse=True)


def test_a_requests_expectation_is_what_the_plan_knows_of_it() -> None:
    found = plan(api_key="sk-1", stream=False, extra_body={"n": 2}).expectation(1, start_ns=7)
    assert (found.run_id, found.scenario, found.concurrency) == (RUN_ID, "chat", 2)
    assert (found.request_id, found.prompt_id) == (f"{RUN_ID}-1", "p1")
    assert (found.max_tokens, found.choices, found.stream, found.start_ns) == (16, 2, False, 7)
    assert "sk-1" in found.secrets


def counted_plan(counted_by: CountedBy, **changes: Any) -> Part:
    made = plan(**changes)
    prompts = tuple(dataclasses.replace(p, tokens=9) for p in made.prompts.prompts)
    counted = dataclasses.replace(made.prompts, prompts=prompts, counted_by=counted_by)
    return dataclasses.replace(made, prompts=counted)


@pytest.mark.parametrize(
    ("counted_by", "changes", "planned"),
    [
        ("server", {}, 9),
        ("server", {"extra_body": {"top_p": 0.9, "tools": []}}, 9),
        ("tokenizer", {}, None),
        ("estimate", {}, None),
        ("nobody", {}, None),
        ("server", {"conversations": {"turns": 3}}, None),  # its history isn't known
        ("server", {"extra_body": {"reasoning_effort": "low"}}, None),  # in gpt-oss's template
        ("server", {"extra_body": {"truncate_prompt_tokens": 4}}, None),
    ],
)
def test_only_what_the_server_counted_for_this_prompt_is_planned(
    counted_by: CountedBy, changes: dict[str, Any], planned: int | None
) -> None:
    assert counted_plan(counted_by, **changes).expectation(1, 0).prompt_tokens == planned


def test_requests_that_have_no_rows_have_no_planned_tokens() -> None:
    made = dataclasses.replace(counted_plan("server"), warmup=made_prompts(2, 90).prompts)
    assert [made.expectation(i, 0).prompt_tokens for i in range(5)] == [9, 9, 9, None, None]


@pytest.mark.parametrize("extra", [{}, {"n": None}, {"n": 1}])
def test_one_choice_is_expected_where_no_more_are_asked_for(extra: dict[str, Any]) -> None:
    assert plan(extra_body=extra).expectation(0, 0).choices == 1


def test_the_limits_are_the_scenarios() -> None:
    limits = {"timeout_first_token_s": 1, "timeout_stall_s": 2, "timeout_total_s": 3}
    assert plan(**limits).target.timeouts == Timeouts(1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("prefill", "run_id"),
    [(256, f"chat-cc8-pref256-max16-{TIME}"), (None, f"chat-cc8-prefany-max16-{TIME}")],
)
def test_the_run_id_says_what_was_run(prefill: int | None, run_id: str) -> None:
    assert plan(prefill_tokens=prefill, concurrencies=[8]).whole.run_id == run_id


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"), st.integers(1, 16384))
def test_a_run_id_is_a_file_name_and_a_header_value(name: str, streams: int) -> None:
    found = plan(name=name, concurrencies=[streams]).whole.run_id
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]+", found)
    assert len(found) < 200
