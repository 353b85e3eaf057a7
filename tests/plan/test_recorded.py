"""Plans of recorded sessions, from their files: lengths, texts, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from vllm_bench.plan.dry_run import dry_run_lines
from vllm_bench.plan.part import Part
from vllm_bench.scenario.scenario import ScenarioError

from tests.plan.test_draw import plans
from tests.sessions.made import DATA
from tests.support.made_plans import plan_of


def part(name: str, limit: int | None = None, **settings: Any) -> Part:
    usual: dict[str, Any] = {"trace": str(DATA / name), "num_requests": None, "concurrencies": [1]}
    (found,) = plans(limit, **{**usual, "depth": "first", **settings})
    return found


def test_prompts_and_answers_are_as_long_as_recorded() -> None:
    found = part("weka")
    assert found.output_tokens[-2:] == (30, 20)
    assert [prompt.tokens for prompt in found.prompts.prompts[-2:]] == [400, 480]


def test_a_divisor_makes_prompts_and_answers_shorter() -> None:
    whole, shorter = part("weka"), part("weka", length_divisor=4)
    assert [prompt.tokens for prompt in shorter.prompts.prompts[-2:]] == [100, 120]
    assert shorter.output_tokens[-2:] == (8, 5)
    assert any("length_divisor" in note for note in shorter.prompts.notes)
    assert whole.sha256 != shorter.sha256


def test_texts_have_the_lengths_of_this_servers_tokens() -> None:
    found = part("mlperf.jsonl")
    # The first answer is `hm` and a call of a tool; the last isn't recorded.
    assert found.output_tokens == (3, 1, None)
    with pytest.raises(ScenarioError, match="length_divisor"):
        part("mlperf.jsonl", length_divisor=2)


@pytest.mark.parametrize("name", ["weka", "mlperf.jsonl"])
def test_sessions_that_do_not_fit_are_left_out_whole(name: str) -> None:
    with pytest.raises(ScenarioError, match="max_model_len"):
        part(name, 10)


def test_a_session_that_fits_is_kept() -> None:
    found = part("weka", 600)
    assert len(found.prompts.prompts) == 2
    assert any("1 of 2 sessions left out" in note for note in found.prompts.notes)


@pytest.mark.parametrize(
    "name",
    ["weka", "bailian.jsonl", "tracelab.jsonl", "mlperf.jsonl", "aiperf.jsonl", "aiperf_dag.jsonl",
     "otel.json"],
)  # fmt: skip
@pytest.mark.parametrize("history", ["recorded", "live"])
def test_each_format_makes_a_plan(name: str, history: str) -> None:
    depth = "first" if history == "recorded" else None
    found = part(name, history=history, depth=depth)
    assert found.plays is not None
    assert len(found.prompts.prompts) == sum(len(s.steps) for s in found.plays.scripts)
    assert all(prompt.tokens for prompt in found.prompts.prompts)
    assert found.measured == len(found.prompts.prompts)


def test_a_dry_run_counts_what_is_sent_and_not_each_session_once() -> None:
    made = part("weka", concurrencies=[2], num_requests=40)
    assert made.measured >= 40
    sent = [made.requests[number] for number in range(made.measured)]
    tokens = {prompt.id: prompt.tokens or 0 for prompt in made.prompts.prompts}
    said = "\n".join(dry_run_lines(made.scenario, [plan_of(made)], None, [None]))
    assert f"{sum(tokens[r.prompt_id] for r in sent):,} prompt tokens" in said
    assert f"{sum(r.max_tokens for r in sent):,} tokens asked for" in said
