"""Scenario files: how settings merge, and what every mistake is told as."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from vllm_bench.scenario.nested.groups import ClassKeys, Conversations, Prefix, Quality
from vllm_bench.scenario.objectives import Slo, Tiers
from vllm_bench.scenario.scenario import KNOWN_KEYS, Scenario, ScenarioError, load_scenarios

from tests.support.scenario_files import file_of, file_with, refusal

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-key"
OPEN: dict[str, object] = {"concurrencies": ..., "request_rates": [1.0]}


def test_defaults_hold_for_each_scenario_and_each_can_override_them(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        """
        defaults: {model: big, temperature: 0.5, num_requests: 9, max_new_tokens: 1}
        scenarios:
          one: {concurrencies: [1]}
          two: {concurrencies: [2], temperature: 1, model: small, stream: false}
        """,
    )
    found = load_scenarios(path)
    assert list(found) == ["one", "two"]
    one, two = found.values()
    assert (one.model, one.temperature, one.stream, one.num_requests) == ("big", 0.5, True, 9)
    assert (two.model, two.temperature, two.stream, two.num_requests) == ("small", 1.0, False, 9)


# Of each key a default, and what a scenario has in its place.
VALUES: dict[str, tuple[object, object]] = {
    "base_url": ("http://a/v1", "http://b/v1"),
    "concurrencies": ([1], [2]),
    "dataset": ("dolly", "file:mine.jsonl"),
    "prompt_fit": ("natural", "packed"),
    "endpoint": ("chat", "completions"),
    "max_tokens_field": ("max_tokens", "max_completion_tokens"),
    "cache": ("run", "cold"),
    "headers": ({"X-A": "1"}, {"X-B": "2"}),
    "extra_body": ({"top_p": 0.5}, {"top_k": 5}),
    "slo": ({"success_rate": 0.9}, {"success_rate": 0.99}),
    "quality": ({"questions": 20}, {"set": "gsm8k", "again": True}),
    "classes": ({"a": {"share": 1}}, {"b": {"share": 0.5}, "c": {"share": 0.5}}),
    "response_format": (
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}},
    ),
    "tools": (
        [{"type": "function", "function": {"name": "a"}}],
        [{"type": "function", "function": {"name": "b"}}],
    ),
    "tool_choice": ("auto", "required"),
    "slo_tiers": (
        {"chat": {"success_rate": 0.9}},
        {"chat": {"success_rate": 0.99}, "batch": {"requests_per_s": {"min": 2}}},
    ),
    "telemetry_gpus": ([0], [1, 2]),
    "request_rates": ([1.0], [2.0, 3.0]),
    "arrival": ("poisson", "constant"),
    "start": ("together", "staggered"),
    "speed": ([1.0], [2.0]),
    "history": ("live", "recorded"),
    "depth": ("first", "drawn"),
    "conversations": (
        {"turns": 2, "think_time_s": 0.0},
        {"turns": 3, "think_time_s": 1.0},
    ),
    "prefix": ({"groups": 2, "tokens": 20}, {"groups": 3, "hit_rate": 0.5}),
}
# What else a key needs, to be allowed.
NEEDS: dict[str, dict[str, object]] = {
    **dict.fromkeys(("request_rates", "ramp_s", "max_in_flight", "arrival", "classes"), OPEN),
    "cv": {**OPEN, "arrival": "gamma"},
    "burst_size": {**OPEN, "arrival": "bursts"},
    "duration_s": {**OPEN, "num_requests": ...},
    "trace": {"concurrencies": ...},
    "prefix": {"prefill_tokens": 64},
    "history": {"trace": "sessions"},
    "max_gap_s": {"trace": "sessions"},
    "depth": {"trace": "sessions"},
    "length_divisor": {"trace": "sessions"},
    "speed": {"concurrencies": ..., "trace": "a.csv"},
    "quality": {"num_requests": ...},
    "tool_choice": {"tools": [{"type": "function", "function": {"name": "a"}}]},
}
# Keys whose values are more than numbers and words.
KINDS: dict[str, Any] = {
    **{"slo": Slo, "slo_tiers": Tiers, "conversations": Conversations},
    **{"classes": dict[str, ClassKeys], "quality": Quality, "prefix": Prefix},
}


def usual_values(key: str) -> tuple[object, object]:
    kind = Scenario.model_fields[key].annotation
    if "str" in str(kind):
        return "word", "other"
    return (True, False) if kind is bool else (1, 2)


@pytest.mark.parametrize("key", KNOWN_KEYS)
def test_whatever_stands_under_defaults_can_be_overridden(tmp_path: Path, key: str) -> None:
    others = NEEDS.get(key, {})
    default, own = VALUES[key] if key in VALUES else usual_values(key)
    found = load_scenarios(file_with(tmp_path, {key: default}, **{**others, key: own}))["chat"]
    inherited = load_scenarios(file_with(tmp_path, {key: default}, **{**others, key: ...}))["chat"]
    if key in KINDS:
        default, own = map(TypeAdapter(KINDS[key]).validate_python, (default, own))
    assert getattr(found, key) == own
    assert getattr(inherited, key) == default


def test_flags_stand_over_defaults_and_scenarios(tmp_path: Path) -> None:
    path = file_with(tmp_path, {"base_url": "http://a/v1"}, dataset="dolly")
    flags = {"base_url": "http://b:9/v1/", "model": "other", "dataset": "sample", "label": "b"}
    chat = load_scenarios(path, flags)["chat"]
    assert chat.label == "b"
    assert (chat.base_url, chat.model, chat.dataset) == ("http://b:9/v1", "other", "sample")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"dataset": "sampel"}, "--dataset: must be one of "),
        ({"base_url": "ftp://x"}, "--base-url: must be http://HOST"),
        ({"model": ""}, "--model: must not be empty"),
        ({"label": "a b"}, "--label: must be at most 32 letters, digits, _, . and -"),
    ],
)
def test_a_flag_is_blamed_for_what_it_says_and_nothing_else_is(
    tmp_path: Path, flags: dict[str, object], said: str
) -> None:
    # Not the file, though it names the same keys, and one of them wrongly.
    for defaults in ({}, {"dataset": "dolly", "base_url": "http://a/v1"}, {"seed": -1}):
        with pytest.raises(ScenarioError) as refused:
            load_scenarios(file_with(tmp_path, defaults), flags)
        assert str(refused.value).startswith(said)
        assert "scenario" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prefil_tokens": 3}, "unknown key prefil_tokens; did you mean prefill_tokens?"),
        ({"zzz": 3}, "unknown key zzz; known keys: base_url, description, "),
        ({"name": "x"}, "unknown key name"),
        ({"model": ...}, "model is missing"),
        ({"model": ..., "num_requests": ...}, "model is missing"),
        ({"model": 5}, "model: must be a text: put it in quotes (given: '5')"),
        ({"model": ""}, "model: must not be empty (given: '')"),
        ({"num_requests": "many"}, "num_requests: must be a whole number"),
        ({"num_requests": 2.5}, "num_requests: must be a whole number"),
        ({"num_requests": 0}, "num_requests: must be 1 or more (given: '0')"),
        ({"num_requests": True}, "num_requests: must be a number, not yes or no (given: 'True')"),
        ({"temperature": 3}, "temperature: must be at most 2 (given: '3')"),
        ({"temperature": True}, "temperature: must be a number, not yes or no (given: 'True')"),
        ({"timeout_total_s": float("inf")}, "timeout_total_s: must be a finite number"),
        ({"timeout_stall_s": 0}, "timeout_stall_s: must be above 0 (given: '0')"),
        ({"seed": -1}, "seed: must be 0 or more (given: '-1')"),
        ({"concurrencies": 8}, "concurrencies: must be a list, as in [1, 8, 64] (given: '8')"),
        ({"conversations": 4}, "conversations: must be a mapping, as in {turns: 4, think_time_s:"),
        ({"slo": {"ttft_ms": {99: 5}}}, "slo.ttft_ms.99: isn't a percentile: write p50, p95, p99"),
        ({"slo": {"ttft_ms": 500}}, "slo.ttft_ms: must be a mapping, as in {p99: 500} (given"),
        ({"slo": 5}, "slo: must be a mapping, as in {ttft_ms: {p99: 500}} (given: '5')"),
        ({"headers": {5: "x"}}, "headers.5: isn't a name: put it in quotes"),
        ({"headers": "x"}, "headers: must be a mapping, as in {X-Team: blue}"),
        ({"telemetry_gpus": 0}, "telemetry_gpus: must be a list, as in [0, 1] (given: '0')"),
        ({"concurrencies": []}, "give one of concurrencies: [N, …], request_rates: [R, …]"),
        ({"concurrencies": [4, 0]}, "concurrencies.1: must be 1 or more"),
        ({"concurrencies": [4, 4]}, "concurrencies: must not name a level twice (given: '[4, 4]')"),
        ({"concurrencies": [True]}, "concurrencies: must be a number, not yes or no"),
        *(
            ({"label": label}, "label: must be at most 32 letters, digits")
            for label in ("", "-a", "a/b", "a b", "é", "x" * 33)
        ),
        ({"label": 64}, "label: must be a text: put it in quotes (given: '64')"),
        ({"cache": "hot"}, "cache: must be one of run, cold, natural (given: 'hot')"),
        (
            {"endpoint": "chats"},
            "endpoint: must be one of chat, completions, responses; did you mean chat? "
            "(given: 'chats')",
        ),
        ({"dataset": "doly"}, "file:PATH; did you mean dolly? (given: 'doly')"),
        ({"dataset": "file:"}, "dataset: must be one of dolly, "),
        ({"base_url": "localhost:8000"}, "base_url: must be http://HOST[:PORT]/v1 or https://…"),
        ({"base_url": "http://h:99999/v1"}, "base_url: port out of range 0-65535"),
        ({"base_url": "http://[::1/v1"}, "base_url: invalid IPv6 URL"),
        ({"base_url": "http://h/v1?a=b"}, "base_url: must not have a query or a fragment"),
        ({"base_url": "http://bücher/v1"}, "base_url: must have only ASCII characters, no blanks"),
        ({"base_url": "http://h/v 1"}, "base_url: must have only ASCII characters, no blanks"),
        ({"base_url": "http://h\n/v1"}, "base_url: must have only ASCII characters, no blanks"),
        ({"base_url": "http://a..b/v1"}, "base_url: has an impossible host name"),
        ({"extra_body": {"model": "x"}}, "extra_body: must not set model: use the key model"),
        ({"extra_body": {"max_tokens": 1}}, "must not set max_tokens: use the key max_new_tokens"),
        ({"extra_body": {"logit_bias": {5: 1}}}, "extra_body: isn't JSON: put keys that are"),
        ({"extra_body": {"stop": float("nan")}}, "extra_body: isn't JSON"),
        ({"extra_body": {"n": "two"}}, "extra_body: has an n that isn't a whole number, 1 or more"),
        ({"headers": {"Host": "x"}}, "headers: must not set Host: use the key base_url"),
        ({"headers": {"Content-Length": "1"}}, "headers: must not set Content-Length"),
        ({"headers": {"X\nA": [1]}}, "headers.'X\\nA': must be a text: put it in"),
        ({"headers": {"X A": "1"}}, "headers: has an impossible header name 'X A'"),
        ({"headers": {"X-A": "é"}}, "headers: has a value for X-A that isn't printable ASCII"),
        ({"description": "long" * 999, "seed": "x" * 999}, f"(given: '{'x' * 80}')"),
    ],
    ids=str,
)
def test_a_mistake_names_scenario_and_key_what_was_given_and_what_is_allowed(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    text = refusal(file_with(tmp_path, **settings))
    assert text.startswith("scenario chat: ")
    assert said in text
    assert len(text) < 900


@pytest.mark.parametrize(
    ("defaults", "settings", "said"),
    [
        ({"seed": -1}, {}, "defaults: seed: must be"),
        ({"seed": -1}, {"seed": -2}, "scenario chat: seed: must be"),
        ({"headers": {"X A": "1"}}, {}, "defaults: headers: has an impossible header name"),
        ({"concurrencies": [4, 0]}, {"concurrencies": ...}, "defaults: concurrencies.1: must be"),
        # What is wrong for every scenario comes first, and alone.
        ({"seed": -1}, {"temperature": 3}, "defaults: seed: must be"),
        ({"seed": 1}, {"temperature": 3}, "scenario chat: temperature: must be"),
        ({"seed": 1}, {"model": ...}, "scenario chat: model is missing"),
        # Several keys that don't go together: the scenario chose them.
        ({"speed": 2}, {}, "scenario chat: speed goes only with trace"),
    ],
    ids=str,
)
def test_a_mistake_is_looked_for_where_it_stands(
    tmp_path: Path, defaults: dict[str, object], settings: dict[str, object], said: str
) -> None:
    text = refusal(file_with(tmp_path, defaults, **settings))
    assert text.startswith(said)
    assert not (said.startswith("defaults") and "temperature" in text)


@pytest.mark.parametrize(
    "text",
    [
        f"scenarios: {{a: {{headers: {{Authorization: {SECRET}}}}}}}",
        f"scenarios: {{a: {{headers: {{X-Key: [{SECRET}]}}}}}}",
        f"scenarios: {{a: {{headers: {SECRET}}}}}",
        f'scenarios: {{a: {{headers: {{X-Key: "{SECRET}\\n"}}}}}}',
        f'scenarios:\n  a:\n    headers:\n      X-Key: "{SECRET}\n',
        f"scenarios:\n  a:\n    headers:\n      X-Key: a: {SECRET}\n",
        f"defaults: [{{headers: {{X-Key: {SECRET}}}}}]\nscenarios: {{a: 1}}",
        f"scenarios: {{a: {{api_key_env: {SECRET}}}}}",
        f"scenarios: {{a: {{base_url: 'http://me:{SECRET}@host/v1'}}}}",
        f"scenarios: {{a: {{base_url: 'ftp://me:{SECRET}@host/v1'}}}}",
        f"scenarios: {{a: {{extra_body: {{model: {SECRET}}}}}}}",
    ],
)
def test_what_may_be_a_secret_is_never_echoed(tmp_path: Path, text: str) -> None:
    assert "hunter2" not in refusal(file_of(tmp_path, text))


def test_header_values_are_masked_for_files(tmp_path: Path) -> None:
    chat = load_scenarios(file_with(tmp_path, headers={"X-Key": SECRET}))["chat"]
    assert chat.headers == {"X-Key": SECRET}
    assert chat.masked()["headers"] == {"X-Key": "***"}
    assert SECRET not in str(chat.masked())


YAMLISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KNOWN_KEYS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KNOWN_KEYS), YAMLISH, max_size=5))
def test_any_settings_make_a_scenario_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, object]
) -> None:
    path = file_with(tmp_path_factory.mktemp("s"), **changes)
    try:
        found = load_scenarios(path)["chat"]
    except ScenarioError as e:
        assert re.fullmatch(rf"{re.escape(str(path))}: [^\n]+", str(e))  # noqa: PT017
    else:
        assert found.model
        assert found.num_requests >= 1


def test_the_scenarios_that_come_along_are_right() -> None:
    found = load_scenarios(ROOT / "bench" / "scenarios.yaml")
    assert list(found) == ["smoke_test", "short_chat", "medium_chat", "rag", "long_context", "demo"]
    assert found["smoke_test"].num_requests == 50
    assert all(s.description for s in found.values())


@pytest.mark.parametrize("model", [Scenario, Slo, Conversations, Prefix, Quality])
def test_every_key_says_what_it_means_and_its_example_is_allowed(model: type[BaseModel]) -> None:
    for key, field in model.model_fields.items():
        if key == "name":
            continue
        assert field.description, key
        (example,) = field.examples or ()
        adapter: TypeAdapter[object] = TypeAdapter(Annotated[field.annotation, field])
        adapter.validate_python([example] if key == "speed" else example)
