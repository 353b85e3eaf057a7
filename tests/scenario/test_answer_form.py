"""`response_format`, `tools`, `priority`: what is taken, what excludes what, and valid answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.request import body_fields, make_body, tokenized_fields
from vllm_bench.scenario.forms.answer_form import form_of

from tests.plan.test_request import PROMPT, scenario
from tests.scenario.test_scenario import file_with, refusal

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def by(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


def tool(name: str = "look_up", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"response_format": "json"}, "response_format: must be a mapping"),
        ({"response_format": {}}, "response_format: must have a type of json_schema, json_object"),
        ({"response_format": {"type": "json_shema"}}, "did you mean json_schema?"),
        ({"response_format": {"type": "text"}}, "must have a type of"),
        ({"response_format": {"type": "json_schema"}}, "json_schema must be a mapping"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "schema isn't known"),
        ({"response_format": {**by(CITY), "strict": True}}, "strict isn't known"),
        ({"response_format": by(CITY, shema={})}, "did you mean schema?"),
        ({"response_format": by(None)}, "json_schema.schema must be a mapping"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": CITY}}}, "name"),
        ({"response_format": by({"type": "objekt"})}, "isn't a JSON schema: type: "),
        ({"response_format": by({"properties": {"a": {"minimum": "x"}}})}, "properties.a.minimum"),
        ({"response_format": by({"$ref": "#/$defs/a"})}, "#/$defs/a, which isn't in the schema"),
        ({"response_format": by({"$ref": "http://127.0.0.1:9/x"})}, "which isn't in the schema"),
        ({"response_format": by(CITY), "ignore_eos": True}, "doesn't go with ignore_eos"),
        (
            {"response_format": by(CITY), "extra_body": {"guided_json": CITY}},
            "doesn't go with extra_body.guided_json",
        ),
        (
            {"response_format": by(CITY), "extra_body": {"structured_outputs": {"regex": "a"}}},
            "doesn't go with extra_body.structured_outputs",
        ),
        (
            {"response_format": by(CITY), "extra_body": {"response_format": by(CITY)}},
            "response_format and extra_body.response_format are the same field",
        ),
        (
            {"response_format": by(CITY), "extra_body": {"text": {}}},
            "doesn't go with extra_body.text",
        ),
        ({"priority": 1, "extra_body": {"priority": 2}}, "priority and extra_body.priority"),
        ({"priority": 1.5}, "priority: must be a whole number"),
        ({"priority": "high"}, "priority: must be a whole number"),
        ({"priority": 2**40}, "priority: must be below"),
        ({"tools": []}, "tools: must not be empty"),
        ({"tools": {}}, "tools: must be a list"),
        ({"tools": [{"name": "x"}]}, "tools: entry 1 must be {type: function"),
        ({"tools": [tool(), {"type": "function", "function": {}}]}, "tools: entry 2"),
        ({"tools": [tool(parameters=[])]}, "parameters must be a mapping"),
        ({"tools": [tool()], "endpoint": "completions"}, "tools need endpoint: chat"),
        ({"tools": [tool()], "extra_body": {"tools": []}}, "tools and extra_body.tools"),
        ({"tool_choice": "auto"}, "tool_choice goes only with tools"),
        ({"tools": [tool()], "tool_choice": "requird"}, "did you mean required?"),
        ({"tools": [tool()], "tool_choice": tool("look-up")}, "did you mean look_up?"),
        ({"tools": [tool()], "tool_choice": {"name": "look_up"}}, "tool_choice must be as in"),
        (
            {"tools": [tool()], "tool_choice": "required", "response_format": by(CITY)},
            "doesn't go with a tool_choice",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_form_is_one_line(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    text = refusal(file_with(tmp_path, **settings))
    assert text.startswith("scenario chat: ")
    assert said in text
    assert "\n" not in text
    assert len(text) < 600


FIELDS = ("priority", "response_format", "tools", "tool_choice")


def test_fields_are_sent_as_they_are_given_and_only_then() -> None:
    assert not {*body_fields(scenario(), 16)} & {*FIELDS}
    asked = {
        **{"priority": 0, "response_format": by(CITY), "tools": [tool()]},
        "tool_choice": "auto",
    }
    sent = json.loads(make_body(scenario(**asked), PROMPT, None))
    assert {key: sent[key] for key in FIELDS} == asked
    assert tokenized_fields(scenario(tools=[tool()])) == {"tools": [tool()]}
    responses = body_fields(scenario(endpoint="responses", response_format=by(CITY)), 16)
    assert responses["text"] == {"format": {"type": "json_schema", "name": "n", "schema": CITY}}
    assert "response_format" not in responses
    assert scenario(tools=[tool()], tool_choice=tool()).tool_choice == tool()


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"name": "Oslo", "size": 3}', True),
        (' \n{"name":"Oslo"}\n', True),
        ('{"size": 3}', False),
        ('{"name": "Oslo", "size": -1}', False),
        ('{"name": "Oslo", "more": 1}', False),
        ('{"name": "Oslo"', False),  # cut
        ('{"name": "Os\nlo"}', False),  # a raw line break: not JSON
        ('{"name": "Oslo"} and more', False),
        ('```json\n{"name": "Oslo"}\n```', False),
        ('{"name": "Oslo", "size": NaN}', False),
        ("[" * 5000, False),
        ("null", False),
        ("", False),
        ("Oslo is a city.", False),
    ],
)
def test_whether_an_answer_is_valid_by_its_schema(text: str, valid: bool) -> None:
    assert form_of(by(CITY)).holds(text) is valid


@pytest.mark.parametrize(
    ("text", "valid"), [("{}", True), ("[]", False), ("3", False), ('{"a": ', False), ("", False)]
)
def test_a_json_object_is_any_object(text: str, valid: bool) -> None:
    assert form_of({"type": "json_object"}).holds(text) is valid


def test_references_within_the_schema_are_followed_and_depth_has_an_end() -> None:
    tree = {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False}
    form = form_of(by(tree))
    assert form.holds('{"a": {"a": {}}}')
    assert not form.holds('{"a": {"b": 1}}')
    form.holds('{"a":' * 900 + "{}" + "}" * 900)  # whatever it says, it says it
    named = {"$defs": {"n": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/n"}}
    assert form_of(by(named)).holds("[1, 2]")
    assert not form_of(by(named)).holds('["1"]')


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "size", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_an_answer_is_as_valid_as_the_library_says(value: Any) -> None:
    text = json.dumps(value)
    expected = jsonschema.Draft202012Validator(CITY).is_valid(json.loads(text))
    assert form_of(by(CITY)).holds(text) is expected


@given(st.text(max_size=30))
def test_any_text_is_valid_or_not(text: str) -> None:
    assert form_of(by({})).holds(text) is _is_json(text)


def _is_json(text: str) -> bool:
    def refuse(_: str) -> float:
        raise ValueError

    try:
        found = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return not (isinstance(found, float) and math.isinf(found))
