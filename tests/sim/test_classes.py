"""What classes of users ask of the simulator: an order of its queue, adapters, forms of answers."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.engine.engine import Engine, EngineConfig
from sim.engine.step import EngineRequest
from sim.faults import read_faults
from sim.faulty import _misheard
from sim.wire import bodies
from sim.wire.errors import ApiError
from sim.wire.generation import CHAT, COMPLETIONS, GenerationRequest, read_request
from sim.wire.replies import make_replies
from sim.wire.settings import Settings
from sim.wire.structured import answer_of

from tests.sim.virtual_engine import Trace, check_blocks, config, play, request

LORA = Settings("m", ("tiny",), adapters=(("red", "/a/red"), ("blue", "/a/blue")))
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 12, "maxLength": 30},
        "size": {"type": "integer", "minimum": 5, "maximum": 9},
        "kind": {"enum": ["town", "city"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 3},
        "twin": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "required": ["name", "size", "kind", "tags", "twin"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": ["boolean", "null"]}},
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}


def urgent(name: str, priority: int, tokens: int = 4, adapter: str | None = None) -> EngineRequest:
    made = request(name, 16, tokens)
    return EngineRequest(
        name, made.prompt_token_ids, tokens, None, priority=priority, adapter=adapter
    )


def started(policy: str, priorities: list[int], at_s: float = 0.0) -> list[str]:
    """The order in which requests start that come together, one at a time in the engine."""
    engine = Engine(config(max_num_seqs=1, scheduling_policy=policy))
    loads = [(at_s, urgent(f"r{i}", priority)) for i, priority in enumerate(priorities)]
    return play(engine, loads).ids("started")


def test_a_lower_number_goes_first_and_ties_by_arrival() -> None:
    priorities = [5, 0, -3, 5, 0]
    assert started("priority", priorities) == ["r2", "r1", "r4", "r0", "r3"]
    assert started("fcfs", priorities) == ["r0", "r1", "r2", "r3", "r4"]


def test_running_requests_keep_their_places() -> None:
    engine = Engine(config(max_num_seqs=1, scheduling_policy="priority"))
    trace = play(engine, [(0.0, urgent("first", 9, tokens=50)), (0.1, urgent("late", 0))])
    assert trace.ids("started") == ["first", "late"]
    assert engine.num_preemptions == 0
    assert trace.token_times_s["late"][0] > trace.token_times_s["first"][-1]


def test_who_needs_room_takes_it_from_the_least_urgent() -> None:
    """Two blocks of 16 each, three in all: the second request to grow finds none."""
    engine = Engine(
        config(scheduling_policy="priority", num_gpu_blocks=3, block_size=16, max_model_len=48)
    )
    loads = [(0.0, urgent("batch", 10, tokens=20)), (0.0, urgent("chat", 0, tokens=20))]
    trace = play(engine, loads, lambda step: check_blocks(engine))
    assert {*trace.ids("preempted")} == {"batch"}
    assert trace.token_times_s["chat"][-1] < trace.token_times_s["batch"][-1]
    assert len(trace.token_times_s["batch"]) == 20


@st.composite
def loads_of(draw: st.DrawFn) -> list[tuple[float, EngineRequest]]:
    return [
        (
            draw(st.sampled_from([0.0, 0.0, 0.05, 0.3])),
            EngineRequest(
                f"r{i}",
                tuple(draw(st.lists(st.integers(0, 1), min_size=1, max_size=20))),
                draw(st.integers(1, 16)),
                priority=draw(st.integers(-2, 2)),
                adapter=draw(st.sampled_from([None, "red", "blue"])),
            ),
        )
        for i in range(draw(st.integers(1, 12)))
    ]


@settings(deadline=None, max_examples=150)
@given(loads_of(), st.integers(1, 4), st.integers(10, 16), st.integers(1, 2))
def test_by_priority_each_request_gets_its_tokens_and_blocks_stay_right(
    loads: list[tuple[float, EngineRequest]], seqs: int, blocks: int, adapters: int
) -> None:
    made: EngineConfig = config(
        max_num_seqs=seqs,
        max_num_batched_tokens=12,
        block_size=4,
        num_gpu_blocks=blocks,
        scheduling_policy="priority",
        max_loras=adapters,
    )
    engine = Engine(made)

    def check(step: Any) -> None:
        assert 0 < step.num_batched_tokens <= 12
        assert 0 < step.num_seqs <= seqs
        running = {each.request.adapter for each in engine._running} - {None}
        assert len(running) <= adapters
        check_blocks(engine)

    trace: Trace = play(engine, loads, check)
    assert {n: len(times) for n, times in trace.token_times_s.items()} == {
        r.request_id: r.max_tokens for _, r in loads
    }
    assert (engine.num_running, engine.num_waiting, engine.kv_cache_usage) == (0, 0, 0.0)


def test_adapters_share_no_block_and_wait_for_a_place() -> None:
    engine = Engine(config(max_num_seqs=8))
    prompt = tuple(range(64))
    found: dict[str, int] = {}
    for name, adapter in (("a", None), ("b", None), ("c", "red"), ("d", "red"), ("e", "blue")):
        trace = play(engine, [(0.0, EngineRequest(name, prompt, 2, adapter=adapter))])
        found |= {k: v for _, step in trace.steps for k, v in step.cached_tokens.items()}
    assert found == {"a": 0, "b": 48, "c": 0, "d": 48, "e": 0}

    one = Engine(config(max_num_seqs=8))  # a place for one adapter
    loads = [(0.0, urgent(n, 0, adapter=a)) for n, a in (("r", "red"), ("b", "blue"), ("n", None))]
    trace = play(one, loads)
    assert trace.ids("started") == ["r", "n", "b"]
    assert trace.token_times_s["b"][0] > trace.token_times_s["r"][-1]


# ---- the wire ----


def ask(endpoint: str = CHAT, settings: Settings = LORA, **body: Any) -> GenerationRequest:
    field: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "Hi"}]} if endpoint == CHAT else {"prompt": "Hi"}
    )
    return read_request(endpoint, {**field, "max_tokens": 200, **body}, settings)


def test_adapters_are_models_of_their_parent() -> None:
    tiny, red, blue = bodies.models(LORA, 0)["data"]
    assert (tiny["id"], tiny["parent"], tiny["max_model_len"]) == ("tiny", None, 131_072)
    assert (red["id"], red["parent"], red["max_model_len"]) == ("red", "tiny", None)
    assert blue["root"] == "/a/blue"
    assert (ask(model="red").model, ask(model="red").adapter) == ("red", "red")
    assert (ask(model="tiny").adapter, ask().adapter) == (None, None)
    with pytest.raises(ApiError) as refused:
        ask(model="green")
    assert refused.value.status == 404


@pytest.mark.parametrize("wrong", [{"priority": "high"}, {"priority": 1.5}], ids=str)
def test_a_priority_that_is_no_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        ask(**wrong)
    assert refused.value.status == 400
    assert ask(priority=-2).priority == -2


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_has_the_form_that_was_asked_for(seed: int) -> None:
    jsonschema.validate(answer_of(CITY, CITY, random.Random(seed)), CITY)
    (reply,) = make_replies(ask(response_format=FORMAT, seed=seed), LORA)
    jsonschema.validate(json.loads(reply.text()), CITY)
    assert reply.finish_reason == "stop"


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    tree = {
        "type": "object",
        "properties": {"child": {"$ref": "#"}, "on": {"type": "array", "items": {"$ref": "#"}}},
    }
    jsonschema.validate(answer_of(tree, tree, random.Random(0)), tree)


def test_what_lies_about_forms() -> None:
    thinking = Settings("m", ("tiny",), reasoning=True)
    (cut,) = make_replies(ask(response_format=FORMAT, max_tokens=10), LORA)
    assert cut.finish_reason == "length"
    assert len(cut.token_ids) == 10
    (long,) = make_replies(ask(response_format=FORMAT, ignore_eos=True), LORA)
    assert len(long.token_ids) == 200
    assert long.text().startswith("{")
    assert ask(COMPLETIONS, thinking, response_format=FORMAT).schema is None
    (thought,) = make_replies(ask(settings=thinking, response_format=FORMAT), thinking)
    jsonschema.validate(json.loads(thought.text(thought.reasoning_tokens)), CITY)
    (any_object,) = make_replies(ask(response_format={"type": "json_object"}), LORA)
    assert isinstance(json.loads(any_object.text()), dict)
    assert ask(guided_json=CITY).schema is None  # removed: taken, and ignored


def test_a_server_that_drops_the_schema_answers_in_free_text() -> None:
    (fault,) = read_faults("ignore_schema")
    asked = _misheard(ask(response_format=FORMAT), fault, 4096)
    assert asked.schema is None
    assert ask(response_format=FORMAT).schema == CITY
