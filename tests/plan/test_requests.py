"""Requests beyond the prompts that were drawn: used again in order, each use with its own salt."""

from __future__ import annotations

import csv
import json
import pickle
import tracemalloc
from array import array
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.drawing.texts import prompts_drawn
from vllm_bench.plan.dry_run import dry_run_lines, write_plan
from vllm_bench.plan.part import Part
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.plan.pool import Uses
from vllm_bench.plan.share import PlannedRequest
from vllm_bench.scenario.load import levels_of

from tests.plan.test_request import scenario
from tests.support.made_plans import made_part, made_plan, made_prompts, plan_of

SALT = "chat-cc2-prefany-max16-TIME"


def timed(prompts: int = 3, **settings: Any) -> Part:
    """Return the plan of two streams that go by time, with some prompts."""
    found = {"concurrencies": [2], "num_requests": None, "duration_s": 5.0, **settings}
    return made_part(prompts, **found)


def repeating(count: int, different: int, **settings: Any) -> Part:
    """Return a plan in which a small set of prompts is used again within its own requests."""
    plan = made_part(count, **{"concurrencies": [2], "num_requests": count, **settings})
    prompts = made_prompts(different).prompts * count
    return replace(plan, prompts=replace(plan.prompts, prompts=prompts[:count]))


def salt(request: PlannedRequest) -> str | None:
    found: str | None = json.loads(request.body).get("cache_salt")
    assert found == request.cache_salt
    return found


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(0, 40))
def test_uses_are_those_of_a_walk_round_and_round_the_pool(pool: list[str], count: int) -> None:
    uses, seen = Uses.of([ord(content) - ord("a") for content in pool]), Counter[str]()
    for number in range(count):
        content = pool[number % len(pool)]
        assert uses.earlier(number) == seen[content]
        seen[content] += 1
    assert uses.most(count) == max(seen.values(), default=0)


def test_by_time_prompts_are_used_again_in_their_order_under_rising_indexes() -> None:
    requests = timed().requests
    assert [requests[i].prompt_id for i in range(7)] == ["p0", "p1", "p2"] * 2 + ["p0"]
    assert [requests[i].index for i in range(7)] == list(range(7))
    assert requests[5].request_id == f"{SALT}-5"
    bodies = [json.loads(requests[i].body)["messages"] for i in (1, 4)]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("plan", [timed(3), repeating(9, 3)], ids=["by time", "a small set"])
def test_each_use_of_a_prompt_has_a_salt_of_its_own_and_different_prompts_share_one(
    plan: Part,
) -> None:
    of_prompt = defaultdict(list)
    for request in plan.requests[:9]:
        of_prompt[request.prompt_id].append(salt(request))
    assert list(of_prompt.values()) == [[SALT, f"{SALT}-use2", f"{SALT}-use3"]] * 3


@pytest.mark.parametrize("plan", [timed, lambda **s: repeating(9, 3, **s)], ids=["time", "set"])
def test_a_natural_cache_has_no_salt_in_any_use_and_a_cold_one_always_another(plan: Any) -> None:
    assert {salt(request) for request in plan(cache="natural").requests[:9]} == {None}
    cold = [salt(request) for request in plan(cache="cold").requests[:9]]
    assert cold == [f"{SALT}-{i}" for i in range(9)]


def test_the_tail_of_an_open_loop_and_its_small_set_never_send_a_prompt_under_an_old_salt() -> None:
    times_s = array("d", range(12))
    settings = {"concurrencies": [], "request_rates": [1.0], "times_s": times_s}
    plan = repeating(5, 3, **settings, warmups=2)
    sent = Counter((request.prompt_id, salt(request)) for request in plan.requests)
    assert plan.role(4) == "measured" != plan.role(5)
    assert len(sent) == len(plan.requests) == 14
    assert sent.total() == 14


def test_what_a_trace_repeats_was_repeated_in_it_and_keeps_its_salt() -> None:
    plan = replace(repeating(4, 2), level=replace(repeating(4, 2).level, concurrency=None, speed=1))
    assert len({salt(request) for request in plan.requests[:4]}) == 1


def test_conversations_that_come_again_have_a_name_and_a_salt_of_their_own() -> None:
    plan = timed(4, conversations={"turns": 2})
    first, again = plan.requests[:4], plan.requests[4:8]
    assert [(r.conversation_id, r.turn) for r in first] == [
        *(("c0", 1), ("c0", 2), ("c1", 1), ("c1", 2))
    ]
    assert [(r.conversation_id, r.turn) for r in again] == [
        *(("c0~2", 1), ("c0~2", 2), ("c1~2", 1), ("c1~2", 2))
    ]
    assert {r.cache_salt for r in first} == {SALT}
    assert {r.cache_salt for r in again} == {f"{SALT}-use2"}  # in all turns: the history is found
    assert plan.talk is not None
    turn = plan.talk.request(again[1], [{"role": "user", "content": "hm"}])
    assert json.loads(turn.body)["cache_salt"] == f"{SALT}-use2"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_turn_names_its_limit_as_the_other_requests_do_and_once(field: str) -> None:
    plan = timed(2, conversations={"turns": 2}, max_tokens_field=field)
    assert plan.talk is not None
    body = json.loads(plan.talk.request(plan.requests[0], plan.talk.adds(0)).body)
    assert {key: value for key, value in body.items() if key.startswith("max_")} == {field: 16}


def test_what_the_server_counted_is_known_of_each_use_of_a_prompt() -> None:
    plan = timed(3)
    counted = tuple(replace(p, tokens=10 + i) for i, p in enumerate(plan.prompts.prompts))
    plan = replace(plan, prompts=replace(plan.prompts, prompts=counted, counted_by="server"))
    assert [plan.expectation(i, 0).prompt_tokens for i in range(6)] == [10, 11, 12] * 2


def test_the_warm_up_of_a_run_by_time_is_behind_all_that_it_could_measure() -> None:
    plan = made_part(3, 2, concurrencies=[2], num_requests=None, duration_s=5.0)
    warmup = plan.share(0, 1).warmup
    assert [plan.role(request.index) for request in warmup] == ["warm-up"] * 2
    assert {salt(request) for request in warmup} == {f"{SALT}-warmup"}
    assert plan.expectation(warmup[0].index, 0).prompt_id == "p1000"


def test_many_requests_cost_a_sending_process_a_few_bytes_each() -> None:
    many, small = 300_000, repeating(150, 150)
    prompts = replace(small.prompts, prompts=small.prompts.prompts * (many // 150))
    plan = replace(small, prompts=prompts)
    opened = replace(
        plan,
        level=replace(plan.level, concurrency=None, request_rate=500.0),
        times_s=array("d", (n / 500 for n in range(many))),
    )
    assert len(pickle.dumps(plan.share(0, 1))) < 6 * many
    assert len(pickle.dumps(opened.share(3, 8))) < 7 * many
    assert opened.share(3, 8).requests[-1].index == many - 5
    assert opened.requests[many - 1].cache_salt == f"{opened.whole.run_id}-use2000"


def test_the_file_of_a_plan_is_written_in_pieces_and_as_csv_has_it(tmp_path: Path) -> None:
    times_s = array("d", (n / 3 for n in range(30_000)))
    plan = repeating(30_000, 7, concurrencies=[], request_rates=[3.0], times_s=times_s)
    odd = [
        replace(p, id=f'a,"{p.id}"', tokens=n or None)
        for n, p in enumerate(plan.prompts.prompts[:7])
    ]
    plan = replace(plan, prompts=replace(plan.prompts, prompts=tuple(odd) * 4285 + tuple(odd[:5])))
    tracemalloc.start()
    write_plan(tmp_path / "plans" / "p.csv", plan_of(plan))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with (tmp_path / "plans" / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert peak < 3_000_000
    assert len(rows) == 30_000
    for index in (0, 1, 6, 7, 9_999, 10_000, 29_999):
        prompt = plan.prompts.prompts[index]
        assert rows[index] == {
            "request_index": str(index),
            "t_scheduled_s": f"{times_s[index]:.9f}",
            "prompt_id": prompt.id,
            "prompt_tokens": str(prompt.tokens or ""),
            "max_tokens": "16",
            "class": "",
        }


def test_requests_cost_memory_by_their_prompts_and_not_by_their_number() -> None:
    small, large = (len(pickle.dumps(repeating(n, 3).share(0, 1))) for n in (10, 10_000))
    endless = len(pickle.dumps(timed(10_000).share(0, 1)))
    assert large - small < 10_000 * 20  # bytes
    again = pickle.loads(pickle.dumps(timed(3).share(0, 1)))
    assert again.requests[1_000_000] == timed(3).requests[1_000_000]
    assert endless < 10_000 * 500


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({"num_requests": 30}, 30),
        ({"num_requests": None, "duration_s": 60}, 400),
        ({"num_requests": 25, "duration_s": 60}, 100),
        ({"num_requests": 500, "duration_s": 60}, 500),
        ({"num_requests": None, "duration_s": 60, "concurrencies": [64]}, 1600),
        ({"num_requests": None, "duration_s": 60, "conversations": {"turns": 3}}, 402),
    ],
    ids=str,
)
def test_prompts_are_drawn_one_per_request_or_some_for_a_time(
    settings: dict[str, Any], drawn: int
) -> None:
    found = scenario(**{"concurrencies": [4], **settings})
    assert prompts_drawn(found, levels_of(found)[0]) == drawn


def test_streams_begin_at_even_steps_in_an_order_of_the_seed_whatever_the_processes() -> None:
    plan = made_part(9, 1, concurrencies=[7])
    assert sorted(plan.begins) == pytest.approx([i / 7 for i in range(7)])
    assert plan.begins == made_part(9, 1, concurrencies=[7]).begins
    assert plan.begins != made_part(9, 1, concurrencies=[7], seed=1).begins
    shares = [plan.share(number, 3) for number in range(3)]
    assert [share.lanes for share in shares] == [len(share.begins) for share in shares]
    for number, share in enumerate(shares):
        assert share.begins == plan.begins[number::3]


def test_streams_begin_together_where_that_is_asked_for_or_nothing_tells_a_latency() -> None:
    staggered = made_part(9, 2, concurrencies=[4])
    assert plan_facts(plan_of(staggered))["start"] == "staggered"
    assert plan_of(staggered).start_facts(1.5) == {"start": "staggered", "start_spread_s": 1.5}
    talks = made_part(9, 2, conversations={"turns": 3, "think_time_s": 2.0})
    assert plan_of(talks).start_facts(1.5)["start_spread_s"] == 3.5
    together = {"start": "together", "start_spread_s": 0.0}
    assert plan_of(staggered).start_facts(None) == together  # all of it failed
    for plan in (
        made_part(9, 2, concurrencies=[4], start="together"),
        made_part(9, 0, concurrencies=[4]),
    ):
        assert plan_facts(plan_of(plan))["start"] == "together"
        assert plan_of(plan).start_facts(1.5) == together
        assert plan.share(0, 1).begins == ()
    times_s = array("d", [0.0, 1.0])
    opened = made_plan(2, concurrencies=[], request_rates=[1], times_s=times_s)
    assert opened.start_facts(1.0) == {}


@pytest.mark.parametrize(
    ("warmups", "settings", "words"),
    [
        (2, {}, ["staggered", "latency"]),
        (2, {"conversations": {"turns": 3, "think_time_s": 2.0}}, ["staggered", "think"]),
        (2, {"start": "together"}, ["together"]),
        (0, {}, ["together", "nothing"]),
    ],
    ids=str,
)
def test_a_dry_run_says_how_the_streams_would_begin(
    warmups: int, settings: dict[str, Any], words: list[str]
) -> None:
    plan = made_part(9, warmups, concurrencies=[4], **settings)
    lines = list(dry_run_lines(plan.scenario, [plan_of(plan)], None, [None]))
    (start,) = [line.strip() for line in lines if line.strip().startswith("start:")]
    assert {*words} <= set(start.replace(",", " ").split())


def test_a_dry_run_shows_no_secret_of_a_body() -> None:
    plan = made_part(2, extra_body={"metadata": {"api_key": 'a"b-s3cret-key', "top": "seen"}})
    *_, first = dry_run_lines(plan.scenario, [plan_of(plan)], None, [None])
    assert "seen" in first
    assert "s3cret" not in first


def test_a_dry_run_of_a_run_by_time_says_its_time_and_the_least_requests() -> None:
    plan = timed(3, num_requests=2)
    first, *_ = dry_run_lines(plan.scenario, [plan_of(plan)] * 2, None, [None, None])
    assert "10 s, at least 4 measured requests" in first
    first, *_ = dry_run_lines(plan.scenario, [plan_of(timed(3))], None, [None])
    assert "5 s" in first
    assert "requests" not in first
