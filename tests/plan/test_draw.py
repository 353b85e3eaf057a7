"""What runs are made of: prompts, lengths, turns, and a warm-up that shares none of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.plan.draw import plans_of
from vllm_bench.plan.drawing.part import Material
from vllm_bench.plan.drawing.texts import warmup_count
from vllm_bench.plan.dry_run import write_plan
from vllm_bench.plan.part import Part
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.prompts.count import CountedBy
from vllm_bench.prompts.prompt import PromptError, PromptSource, user_prompt
from vllm_bench.prompts.source import load_source
from vllm_bench.scenario.load import LoadLevel, levels_of
from vllm_bench.scenario.scenario import Scenario, ScenarioError

from tests.plan.test_request import scenario
from tests.support.made_plans import plan_of

RUN_ID = "chat-rate1-prefany-max16-TIME"  # of a plan that has not started
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02}.0000000,{20 + second},{5 + second}\n" for second in range(10)
)


class Words:
    """Counts a word a token, and four of a template."""

    method: CountedBy = "estimate"
    notes: tuple[str, ...] = ()

    def count(self, prompts: Any) -> list[int | None]:
        return [4 + len(prompt.text.split()) for prompt in prompts]


def source(count: int = 40) -> PromptSource:
    prompts = [user_prompt(f"set:{i}", f"number {i} " + "word " * 60) for i in range(count)]
    return PromptSource("made", tuple(prompts))


def plans(limit: int | None = None, prompts: int = 40, **settings: Any) -> list[Part]:
    """Return the only part of each run."""
    found = made(**settings)
    made_plans = plans_of(found, [Material(found, source(prompts), Words(), limit)])
    return [plan.parts[0] for plan in made_plans]


def made(**settings: Any) -> Scenario:
    return scenario(**{"num_requests": 6, "concurrencies": [2], **settings})


def texts(plan: Part) -> list[str]:
    return [prompt.text for prompt in plan.prompts.prompts]


def test_repeats_take_turns_with_levels() -> None:
    found = plans(concurrencies=[1, 4], repeats=3)
    runs = [(plan.repeat, plan.level.concurrency) for plan in found]
    assert runs == [(1, 1), (1, 4), (2, 1), (2, 4), (3, 1), (3, 4)]


def test_levels_of_a_repeat_share_their_prompts_and_repeats_do_not() -> None:
    one, two, again, _ = plans(concurrencies=[1, 4], repeats=2)
    assert texts(one) == texts(two)
    assert texts(one) != texts(again)
    assert texts(one) == texts(plans(concurrencies=[1])[0])  # the first repeat is as if alone


@pytest.mark.parametrize(
    ("settings", "level", "count"),
    [
        ({}, LoadLevel(concurrency=7), 7),
        ({"warmup_requests": 3}, LoadLevel(concurrency=7), 3),
        ({"warmup_requests": 0}, LoadLevel(concurrency=7), 0),
        ({}, LoadLevel(request_rate=2.5), 3),
        ({}, LoadLevel(request_rate=1000), 64),
        ({}, LoadLevel(speed=1.0), 8),
    ],
)
def test_a_warm_up_is_as_large_as_the_load(
    settings: dict[str, Any], level: LoadLevel, count: int
) -> None:
    assert warmup_count(made(**settings), level) == count


@pytest.mark.parametrize(
    "settings",
    [{}, {"concurrencies": [], "request_rates": [4]}, {"conversations": {"turns": 2}}],
    ids=str,
)
def test_no_prompt_of_the_warm_up_is_measured(settings: dict[str, Any]) -> None:
    (plan,) = plans(warmup_requests=5, **settings)
    warm = [prompt.text for prompt in plan.warmup]
    assert len(warm) == 5
    assert len(texts(plan)) == 6
    assert not {w[:10] for w in warm} & {t[:10] for t in texts(plan)}


def test_a_longer_warm_up_of_another_level_changes_no_measured_prompt() -> None:
    assert texts(plans(concurrencies=[1, 16])[0]) == texts(plans(concurrencies=[1])[0])


def roles(found: Part) -> list[str]:
    return [found.role(request.index) for request in found.requests]


def test_measured_requests_come_first_in_a_plan_and_the_warm_up_last() -> None:
    settings = {"concurrencies": [], "request_rates": [1.0], "warmup_requests": 2}
    (found,) = plans(**settings)
    tail = len(found.times_s) - 6
    assert tail > 0
    assert roles(found) == ["measured"] * 6 + ["tail"] * tail + ["warm-up"] * 2
    assert [r.index for r in found.requests] == list(range(len(found.requests)))
    ids = [r.prompt_id for r in found.requests]
    assert ids[6:12] == ids[:6]


@pytest.mark.parametrize(
    ("cache", "salts"),
    [
        ("run", {"measured": RUN_ID, "tail": f"{RUN_ID}-use", "warm-up": f"{RUN_ID}-warmup"}),
        ("natural", dict.fromkeys(("measured", "tail", "warm-up"))),
    ],
)
def test_what_is_not_measured_prepares_no_cache_for_what_is(
    cache: str, salts: dict[str, str | None]
) -> None:
    settings = {"concurrencies": [], "request_rates": [1.0], "cache": cache}
    (found,) = plans(**settings)
    for request in found.requests:
        salt = json.loads(request.body).get("cache_salt")
        assert salt == request.cache_salt
        without_use = re.sub(r"(?<=-use)\d+$", "", salt) if salt else None
        assert without_use == salts[found.role(request.index)]


def trace_file(folder: Path) -> str:
    path = folder / "trace.csv"
    path.write_text(AZURE)
    return str(path)


def test_a_trace_gives_each_request_its_time_its_prompt_and_its_length(tmp_path: Path) -> None:
    settings = {
        "concurrencies": [],
        "num_requests": 4,
        "trace": trace_file(tmp_path),
        "speed": [2, 1],
    }
    fast, slow = plans(**settings)
    assert list(fast.measured_s) == [0.0, 0.5, 1.0, 1.5]
    assert list(slow.measured_s) == [0.0, 1.0, 2.0, 3.0]
    lengths = [4 + len(text.split()) for text in texts(fast)]
    assert lengths == pytest.approx([20, 21, 22, 23], abs=1)
    assert texts(fast) == texts(slow)
    assert [r.max_tokens for r in fast.requests[:4]] == [5, 6, 7, 8]
    assert [json.loads(r.body)["max_tokens"] for r in fast.requests[:4]] == [5, 6, 7, 8]
    assert fast.request_rate == pytest.approx(2.0)


def test_a_trace_of_blocks_says_what_share_of_it_came_before(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        "".join(
            f'{{"timestamp": {n}, "input_length": 1024, "output_length": 1, "hash_ids": {ids}}}\n'
            for n, ids in enumerate(([1, 2], [1, 3], [1, 4], [1, 5]))
        )
    )
    settings = {"concurrencies": [], "trace": str(path)}
    three, four = (plan_facts(plan_of(plans(num_requests=n, **settings)[0])) for n in (3, 4))
    assert three["trace_shared_share"] == 2 / 6
    assert four["trace_shared_share"] == 3 / 8
    (azure,) = plans(concurrencies=[], num_requests=4, trace=trace_file(tmp_path))
    assert "trace_shared_share" not in plan_facts(plan_of(azure))


def test_a_trace_leaves_out_what_the_server_cannot_hold_and_says_so(tmp_path: Path) -> None:
    settings = {"concurrencies": [], "num_requests": None, "trace": trace_file(tmp_path)}
    (plan,) = plans(limit=31, **settings)
    assert plan.measured == 4  # 20 + 5, 21 + 6, 22 + 7 and 23 + 8 tokens
    assert any("6 of 10" in note for note in plan.prompts.notes)


@pytest.mark.parametrize(
    ("limit", "content", "words"),
    [(3, AZURE, "no request of it fits"), (None, "a,b\n1,2\n", "trace: ")],
)
def test_a_trace_that_cannot_be_used_is_one_line(
    tmp_path: Path, limit: int | None, content: str, words: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(ScenarioError, match=words) as refused:
        plans(limit=limit, concurrencies=[], num_requests=None, trace=str(path))
    assert "\n" not in str(refused.value)


def test_a_duration_without_a_request_is_refused() -> None:
    slow = {"concurrencies": [], "request_rates": [0.001], "num_requests": None}
    with pytest.raises(ScenarioError, match=r"no request falls into duration_s: 0\.5"):
        plans(duration_s=0.5, **slow)


@pytest.mark.parametrize(
    ("prompts", "settings", "drawn"),
    [(40, {}, 40), (600, {}, 400), (40, {"conversations": {"turns": 3}}, 39)],
    ids=str,
)
def test_by_time_a_small_set_is_drawn_once_and_used_in_equal_turns(
    prompts: int, settings: dict[str, Any], drawn: int
) -> None:
    (plan,) = plans(prompts=prompts, num_requests=None, duration_s=9.0, **settings)
    assert len(texts(plan)) == len(set(texts(plan))) == drawn
    assert plan.prompts.max_uses == 1
    assert not [note for note in plan.prompts.notes if "used" in note]


def test_turns_of_prompts_make_conversations_and_the_last_may_be_short() -> None:
    (found,) = plans(num_requests=5, conversations={"turns": 2})
    named = [(r.conversation_id, r.turn) for r in found.requests[:5]]
    assert found.plays is not None
    ids = [script.name for script in found.plays.scripts]
    assert len(set(ids)) == 3
    assert named == [(ids[0], 1), (ids[0], 2), (ids[1], 1), (ids[1], 2), (ids[2], 1)]
    assert found.talk is not None
    assert list(found.talk.said) == texts(found)
    assert all(r.body == b"" for r in found.requests[:5])


def test_whole_conversations_come_from_a_file_of_them(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    talks = [{"turns": [f"ask {i}", f"ask {i} again", f"ask {i} more"]} for i in range(3)]
    path.write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    (plan,) = plans(dataset=f"file:{path}", num_requests=8, conversations={"turns": 2})
    assert all(a + " again" == b for a, b in zip(texts(plan)[::2], texts(plan)[1::2], strict=True))
    ids = [request.conversation_id for request in plan.requests[:8:2]]
    assert len(ids) == 4 == len(set(ids))  # three conversations: one is held again
    assert plan.prompts.counted_by == "nobody"


def test_conversations_that_are_left_out_are_counted_and_equal_beginnings_are_not(
    tmp_path: Path,
) -> None:
    talks = [["Hi", "a"], ["Hi", "b"], ["Hi"], []]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"turns": turns}) + "\n" for turns in talks))
    settings = made(dataset=f"file:{path}", conversations={"turns": 2}, num_requests=4)
    material = Material(settings, load_source(f"file:{path}", cache_dir=tmp_path), Words())
    (plan,) = (made.drawn[0] for made in plans_of(settings, [material]))
    assert sorted(texts(plan)) == ["Hi", "Hi", "a", "b"]
    assert plan.prompts.left_out == {"without a human prompt": 1, "shorter than 2 turns": 1}
    assert not any("repeated" in note for note in plan.prompts.notes)


def test_conversations_longer_than_any_in_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"turns": ["one", "two"]}) + "\n")
    with pytest.raises(PromptError, match="none of 1 has 3 turns"):
        plans(dataset=f"file:{path}", conversations={"turns": 3})


BASE: dict[str, Any] = {"concurrencies": [], "request_rates": [4.0]}


def sha(**settings: Any) -> str:
    return plans(**{**BASE, **settings})[0].sha256


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"num_requests": 7},
        {"request_rates": [5.0]},
        {"arrival": "constant"},
        {"max_in_flight": 3},
        {"max_new_tokens": 17},
        {"temperature": 0.5},
        {"system_prompt": "Be brief."},
        {"cache": "cold"},
        {"endpoint": "completions"},
        {"extra_body": {"top_p": 0.5}},
    ],
    ids=str,
)
def test_a_plan_has_another_hash_once_anything_that_is_sent_is_different(
    change: dict[str, Any],
) -> None:
    assert sha() == sha()
    assert sha(**change) != sha()


def test_a_plan_keeps_the_hash_that_older_runs_have() -> None:
    """--resume finds the runs of an earlier version by it."""
    assert sha() == "20a222529b7d9e7bd9a5957445cc334237b0acfef9daac013f24258bb65b98bf"
    warm = {"warmup_requests": 5}
    assert sha(**warm) == sha()


CLOSED: dict[str, Any] = {"request_rates": [], "concurrencies": [2]}


@pytest.mark.parametrize(
    "change",
    [
        {"start": "together"},
        {"duration_s": 5.0},
        {"duration_s": 5.0, "num_requests": None},
        {"num_requests": 41},  # of 40 prompts: one is used twice
    ],
    ids=str,
)
def test_a_closed_loop_of_another_start_or_length_has_another_hash(change: dict[str, Any]) -> None:
    assert sha(**CLOSED, **change) != sha(**CLOSED)


def test_names_and_later_levels_are_no_part_of_the_hash() -> None:
    assert sha(description="else", request_rates=[4.0, 9.0], repeats=3) == sha()


def test_the_plan_file_has_one_row_per_measured_request(tmp_path: Path) -> None:
    (plan,) = plans(**BASE)
    write_plan(tmp_path / "plans" / "run.csv", plan_of(plan))
    head, *lines = (tmp_path / "plans" / "run.csv").read_text().splitlines()
    assert head == "request_index,t_scheduled_s,prompt_id,prompt_tokens,max_tokens,class"
    assert [line.split(",")[0] for line in lines] == [str(i) for i in range(6)]
    times = [float(line.split(",")[1]) for line in lines]
    assert times == pytest.approx(list(plan.measured_s), abs=1e-8)
    assert levels_of(made(**BASE))[0] == plan.level
