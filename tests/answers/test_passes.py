"""Questions as a scenario asks them: which passes there are, and that each asks the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.crew.judged import Kept, RunFiles
from vllm_bench.crew.tally import Tally
from vllm_bench.errors import UsageError
from vllm_bench.experiments.capacity import asked_of
from vllm_bench.live.progress import progress_of
from vllm_bench.plan.draw import plans_of
from vllm_bench.plan.drawing.part import Material
from vllm_bench.plan.parts.facts import plan_facts
from vllm_bench.plan.plan import Plan
from vllm_bench.prompts.count import CountedBy
from vllm_bench.prompts.prompt import PromptError
from vllm_bench.quality.sets import read_questions
from vllm_bench.records.beside.answers import read_answers
from vllm_bench.reply.exchange import Exchange
from vllm_bench.scenario.scenario import Scenario, ScenarioError, load_scenarios

from tests.support.far_end import delta, event, usage
from tests.support.scenario_files import file_of

BASE: dict[str, Any] = {"name": "q", "model": "m", "max_new_tokens": 64}
QUESTIONS = {"questions": 40}


class Words:
    """Counts a word a token."""

    method: CountedBy = "estimate"
    notes: tuple[str, ...] = ()

    def count(self, prompts: Any) -> list[int | None]:
        return [len(prompt.text.split()) for prompt in prompts]


def plans(folder: Path, name: str = "arithmetic", **settings: Any) -> list[Plan]:
    whole = {**BASE, "concurrencies": [4, 16], "quality": QUESTIONS, **settings}
    found = read_questions(name, cache_dir=folder)
    material = Material(Scenario(**whole), found.source, Words(), answers=found.answers)
    return plans_of(Scenario(**whole), [material])


def bodies(plan: Plan) -> list[dict[str, Any]]:
    """Return what is sent, without its salt, by question."""
    (part,) = plan.parts
    sent = [part.requests[i] for i in range(part.measured)]
    found = {r.prompt_id: json.loads(r.body) for r in sent}
    assert len(found) == len(sent)
    return [{**found[name], "cache_salt": None} for name in sorted(found)]


def test_questions_are_asked_alone_first_and_then_at_each_level(tmp_path: Path) -> None:
    found = plans(tmp_path)
    assert [(p.asked, p.level.concurrency) for p in found] == [
        *(("alone", 1), ("load", 4), ("load", 16)),
    ]
    again = plans(tmp_path, quality={**QUESTIONS, "again": True}, repeats=2)
    passes = ["alone", "load", "load", "load", "load", "again"]
    assert [p.asked for p in again] == passes
    assert [plan_facts(p)["quality"]["pass"] for p in again] == passes


def test_every_pass_asks_the_same_questions_with_a_salt_of_its_own(tmp_path: Path) -> None:
    found = plans(tmp_path, repeats=2, label="x")
    first = bodies(found[0])
    assert len(first) == 40
    assert all(bodies(plan) == first for plan in found)
    assert len({plan.run_id.replace("TIME", "") for plan in found}) == 3  # repeats share a name
    (one,) = {(b["temperature"], b["top_p"], b["seed"]) for b in first}
    assert one == (0, 1, 0)
    assert "ignore_eos" not in first[0]
    salts = {plan.parts[0].requests[0].cache_salt for plan in found}
    assert len(salts) == 3


def test_an_open_loop_is_asked_alone_by_one_stream(tmp_path: Path) -> None:
    found = plans(tmp_path, concurrencies=[], request_rates=[5.0], max_in_flight=8)
    assert [p.level.label for p in found] == ["cc1", "rate5"]
    assert bodies(found[0]) == bodies(found[1])


def test_the_pass_alone_has_no_objectives(tmp_path: Path) -> None:
    slo = {"requests_per_s": {"min": 1000}}
    alone, level, _ = plans(tmp_path, slo=slo, slo_tiers={"fast": slo})
    assert alone.scenario.slo is None
    assert alone.scenario.slo_tiers is None
    assert level.scenario.slo is not None


def test_a_long_label_is_no_obstacle(tmp_path: Path) -> None:
    alone, *_ = plans(tmp_path, label="x" * 32)
    assert alone.scenario.label == "x" * 32 + "-quality-alone"


def test_prompts_that_are_no_questions_have_no_passes(tmp_path: Path) -> None:
    found = read_questions("arithmetic", cache_dir=tmp_path)
    plain = Scenario(**BASE, concurrencies=[2], num_requests=4)
    (plan,) = plans_of(plain, [Material(plain, found.source, Words())])
    assert plan.asked is None
    assert "quality" not in plan_facts(plan)
    assert not plan.expectation(0, 0).keep_text


def test_a_set_that_is_too_small_is_refused(tmp_path: Path) -> None:
    rows = [{"question": f"{i} + 1?", "answer": i + 1} for i in range(30)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(PromptError, match="30 questions can be asked, fewer than 40"):
        plans(tmp_path, f"file:{path}")
    small = {"set": f"file:{path}", "questions": 30}
    assert len(bodies(plans(tmp_path, f"file:{path}", quality=small)[0])) == 30


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ignore_eos": True}, "ignore_eos: True doesn't go with quality"),
        ({"temperature": 0.5}, "temperature: 0.5 doesn't go"),
        ({"dataset": "dolly"}, "dataset doesn't go"),
        ({"num_requests": 7}, "num_requests doesn't go"),
        ({"duration_s": 60}, "duration_s: 60.0 doesn't go"),
        ({"prefill_tokens": 100}, "prefill_tokens: 100 doesn't go"),
        ({"cache": "natural"}, "cache: natural doesn't go"),
        ({"conversations": {"turns": 2}}, "doesn't go with quality"),
        ({"classes": {"a": {"share": 1}}}, "q: classes doesn't go with quality"),
        ({"classes": {"a": {"share": 1}}, "duration_s": 9}, "q: classes doesn't go with quality"),
        ({"extra_body": {"n": 2}}, "extra_body.n doesn't go"),
        ({"extra_body": {"min_tokens": 9}}, "extra_body.min_tokens doesn't go"),
        ({"extra_body": {"top_p": 0.5}}, "extra_body.top_p doesn't go"),
        ({"quality": {"set": "mmlu"}}, "quality.set: must be one of arithmetic, gsm8k, file:PATH"),
        ({"quality": {"set": "file:"}}, "quality.set: must be one of"),
        ({"quality": {"questions": 5}}, "quality.questions: must be 20 or more"),
        ({"quality": {"question": 50}}, "unknown key quality.question; did you mean questions?"),
        ({"quality": 400}, "quality: must be a mapping, as in {set: arithmetic"),
        ({"quality": {"again": "maybe"}}, "quality.again"),
    ],
)
def test_what_contradicts_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    whole = {"model": "m", "max_new_tokens": 64, "concurrencies": [4], "quality": {}, **settings}
    path = file_of(tmp_path, json.dumps({"scenarios": {"q": whole}}))
    with pytest.raises(ScenarioError) as refused:
        load_scenarios(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_defaults_say_of_prompts_is_replaced(tmp_path: Path) -> None:
    defaults = {"model": "m", "max_new_tokens": 64, "dataset": "dolly", "prefill_tokens": 100}
    defaults |= {"ignore_eos": True, "temperature": 0.7, "duration_s": 60, "num_requests": 9}
    scenarios = {"q": {"concurrencies": [4], "quality": QUESTIONS}, "p": {"concurrencies": [4]}}
    path = file_of(tmp_path, json.dumps({"defaults": defaults, "scenarios": scenarios}))
    found = load_scenarios(path)
    assert (found["q"].temperature, found["q"].ignore_eos, found["q"].duration_s) == (
        0,
        False,
        None,
    )
    assert (found["q"].num_requests, found["q"].dataset) == (40, "quality:arithmetic")
    assert (found["p"].dataset, found["p"].ignore_eos) == ("dolly", True)


def test_the_settings_of_a_run_can_be_run_again(tmp_path: Path) -> None:
    alone, level, _ = plans(tmp_path)
    for plan in (alone, level):
        again = Scenario.model_validate({**plan.scenario.masked()})
        assert again.quality == plan.scenario.quality


def test_a_search_refuses_questions() -> None:
    scenario = Scenario(**BASE, concurrencies=[4], quality={}, slo={"ttft_ms": {"p99": 500}})
    with pytest.raises(UsageError, match="quality goes with"):
        asked_of(scenario, None, None, None, 10)


# ---- what comes back ----


def replied(text: list[str], finish: str = "stop") -> list[bytes]:
    return [*map(delta, text), delta("", finish), usage(5, 9), event("[DONE]")]


def test_rows_of_answers_are_scored_as_they_end(tmp_path: Path) -> None:
    plan = plans(tmp_path)[1]
    (part,) = plan.parts
    names = [part.requests[i].prompt_id for i in range(5)]
    answers = [part.answers[name] for name in names]
    replies = [
        replied(["so\n", f"#### {answers[0]}"]),
        replied([f"it is {answers[1]}"]),
        replied(["#### ", str(int(answers[2]) + 1)]),
        replied([f"#### {answers[3]}"], finish="length"),
        [],
    ]
    plan = dataclasses.replace(plan, time_utc="NOW")
    files = RunFiles(plan, tmp_path / f"{plan.run_id}.csv", Kept())
    tally = Tally(plan, progress_of(plan, lambda: 0, 0.0), files)
    tally.begin(0)
    for index, body in enumerate(replies):
        status = 500 if index == 4 else 200
        made = Exchange(index, 0, 0, 0, t_end_ns=9, http_status=status, reads=[(5, b"".join(body))])
        made.content_type = "text/event-stream"
        tally.end(made)
    tally.write()
    files.close()
    rows = read_answers(tmp_path / f"{plan.run_id}.csv")
    assert rows is not None
    assert rows["prompt_id"].tolist() == names[:4]  # the failed one has none
    assert rows["right"].tolist() == [1, 1, 0, 0]
    assert rows["unparsed"].tolist() == [0, 1, 0, 0]
    assert rows["cut"].tolist() == [0, 0, 0, 1]
    assert rows["found"].tolist()[:2] == answers[:2]
