"""OpenTelemetry's spans: old and new names, OTLP's values, and who waited for whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.sessions.made import lines, only, read, refusal, turns


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def stamp(second: float) -> str:
    return f"2026-02-25T10:00:{second:09.6f}"


def span(
    name: str, start: float, end: float, messages: Sequence[Any] = (), answer: str = "", **more: Any
) -> dict[str, Any]:
    """A span as files of JSON have it; `more` are attributes, with _ for the dot."""
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat"}
    if messages:
        attributes["gen_ai.input.messages"] = json.dumps(messages)
    if answer:
        attributes["gen_ai.output.messages"] = json.dumps([assistant(answer)])
    own = {key: more.pop(key) for key in ("parent_span_id", "trace_id", "status") if key in more}
    attributes |= {f"gen_ai.{key.replace('__', '.')}": value for key, value in more.items()}
    return {
        "trace_id": "t",
        "span_id": name,
        "parent_span_id": None,
        "start_time": stamp(start),
        "end_time": stamp(end),
        "attributes": attributes,
        "status": {"code": 1},
        **own,
    }


CHAIN = (
    span("1", 0, 2, [user("a")], "b"),
    span("2", 2.5, 4, [user("a"), assistant("b"), user("c")], "d"),
    span("3", 6, 7, [*[user("a"), assistant("b"), user("c"), assistant("d")], user("e")], "f"),
)


def plan(found: Any) -> list[tuple[tuple[int, ...], float, int | None]]:
    return [(turn.after, pytest.approx(turn.wait_s), turn.history) for turn in found]


def test_a_chain_by_what_was_said_before(tmp_path: Path) -> None:
    found = turns(read(tmp_path, {"spans": list(CHAIN)}))
    assert plan(found) == [((), 0, None), ((0,), 0.5, 0), ((1,), 2, 1)]
    assert [len(turn.messages or ()) for turn in found] == [1, 3, 5]
    assert [[m.content for m in turn.new_messages or ()] for turn in found] == [["a"], ["c"], ["e"]]
    assert [turn.answer for turn in found] == ["b", "d", "f"]
    assert [turn.wait_kind for turn in found] == [None, "think", "think"]


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_the_order_of_spans_says_nothing(tmp_path: Path, order: tuple[int, ...]) -> None:
    found = read(tmp_path, lines(CHAIN[n] for n in order))
    assert found == read(tmp_path, lines(CHAIN))


def test_a_turn_waits_for_all_whose_answers_it_has(tmp_path: Path) -> None:
    together = [user("a"), assistant("b"), user("x"), assistant("y"), user("e")]
    spans = [
        span("1", 0, 2, [user("a")], "b"),
        span("2", 0.5, 5, [user("x")], "y"),
        span("other", 1, 8, [user("o")], "p"),
        span("3", 9, 10, together),
    ]
    found = turns(read(tmp_path, lines(spans)))
    assert found[3].after == (0, 1)
    assert found[3].wait_s == pytest.approx(4)
    assert found[3].history == 0


def test_without_texts_a_turn_waits_for_all_that_had_ended(tmp_path: Path) -> None:
    tokens = {"usage__input_tokens": 10, "usage__output_tokens": 3}
    spans = [
        span("1", 0, 2, **tokens),
        span("2", 3, 6, **tokens),
        span("3", 4, 5, **tokens),
        span("4", 7, 8, **{**tokens, "usage__input_tokens": 30}),
    ]
    found = turns(read(tmp_path, lines(spans)))
    assert [turn.after for turn in found] == [(), (0,), (0,), (1, 2)]
    assert [turn.wait_s for turn in found] == pytest.approx([0, 1, 2, 1])
    assert [turn.prompt_tokens for turn in found] == [10, 10, 10, 30]
    assert [turn.wait_kind for turn in found] == [None, "unknown", "unknown", "unknown"]


def test_a_parent_that_sent_a_prompt_is_waited_for(tmp_path: Path) -> None:
    spans = [
        span("1", 0, 2, [user("a")]),
        span("2", 0, 5, [user("b")]),
        span("3", 6, 7, [user("c")], parent_span_id="1"),
    ]
    assert plan(turns(read(tmp_path, lines(spans))))[2] == ((0,), 4, None)


def test_failed_spans_are_left_out_and_counted(tmp_path: Path) -> None:
    failed = [
        span("x", 2.1, 2.4, [user("a")], status={"code": 2}),
        span("y", 2.1, 2.4, [user("a")], status={"code": "STATUS_CODE_ERROR"}),
    ]
    found = read(tmp_path, lines([*CHAIN, *failed]))
    assert found.left_out == {"failed spans": 2}
    assert plan(turns(found)) == plan(turns(read(tmp_path, lines(CHAIN))))


def operation(name: str, start: float, end: float, kind: str, **more: Any) -> dict[str, Any]:
    return span(name, start, end, **{"operation__name": kind, **more})


def test_a_tools_span_makes_the_gap_a_tools(tmp_path: Path) -> None:
    beside = [
        operation("x", 4.5, 5.5, "execute_tool"),
        operation("y", 0, 9, "invoke_agent"),
        operation("z", 1, 2, "embeddings"),
    ]
    found = turns(read(tmp_path, lines([*CHAIN, *beside])))
    assert [turn.wait_kind for turn in found] == [None, "think", "tool"]


def test_a_tools_result_in_the_prompt_makes_the_gap_a_tools(tmp_path: Path) -> None:
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": {"at": 1}}
    called = {"role": "assistant", "parts": [{"type": "text", "content": "well"}, call]}
    for key in ("result", "response"):
        part = {"type": "tool_call_response", "id": "1", key: {"found": [2]}}
        answered = {"role": "tool", "parts": [part]}
        first = span("1", 0, 2, [user("a")])
        first["attributes"]["gen_ai.output.messages"] = [called]
        found = turns(
            read(tmp_path, lines([first, span("2", 5, 6, [user("a"), called, answered])]))
        )
        assert found[0].answer == 'well\n\n{"name":"look","arguments":{"at":1}}'
        assert [m.content for m in found[1].new_messages or ()] == ['{"found":[2]}']
        assert (found[1].wait_kind, found[1].history) == ("tool", 0)


def test_names_that_attributes_had_before(tmp_path: Path) -> None:
    old = {
        "trace_id": "t",
        "span_id": "1",
        "start_time": stamp(0),
        "end_time": stamp(1),
        "attributes": {
            "gen_ai.system": "openai",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be brief",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "why?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "because",
            "gen_ai.usage.prompt_tokens": 12,
            "gen_ai.usage.completion_tokens": 4,
        },
    }
    (turn,) = turns(read(tmp_path, lines([old])))
    assert [(m.role, m.content) for m in turn.messages or ()] == [
        ("system", "be brief"),
        ("user", "why?"),
    ]
    assert (turn.answer, turn.prompt_tokens, turn.output_tokens) == ("because", 12, 4)


def test_the_new_name_counts_where_both_are_there(tmp_path: Path) -> None:
    both = {
        "usage__input_tokens": 7,
        "usage__prompt_tokens": 9,
        "usage__output_tokens": 2,
        "usage__completion_tokens": 3,
    }
    (turn,) = turns(read(tmp_path, lines([span("1", 0, 1, [user("a")], **both)])))
    assert (turn.prompt_tokens, turn.output_tokens) == (7, 2)


def otlp(span_: dict[str, Any], nano: Any = str) -> dict[str, Any]:
    """A span as OTLP's JSON has it."""

    def value(found: Any) -> dict[str, Any]:
        return {"intValue": str(found)} if isinstance(found, int) else {"stringValue": found}

    start, end = (span_[key].partition("10:00:")[2] for key in ("start_time", "end_time"))
    zero = 1_772_013_600_000_000_000
    return {
        "traceId": span_["trace_id"],
        "spanId": span_["span_id"],
        "parentSpanId": "",
        "startTimeUnixNano": nano(zero + round(float(start) * 1e9)),
        "endTimeUnixNano": nano(zero + round(float(end) * 1e9)),
        "attributes": [{"key": k, "value": value(v)} for k, v in span_["attributes"].items()],
        "status": {"code": "STATUS_CODE_OK"},
    }


@pytest.mark.parametrize("nano", [str, int])
def test_otlp_is_the_same(tmp_path: Path, nano: Any) -> None:
    spans = [otlp(one, nano) for one in CHAIN]
    whole = {"resourceSpans": [{"scopeSpans": [{"spans": spans[:2]}, {"spans": spans[2:]}]}]}
    assert turns(read(tmp_path, whole)) == turns(read(tmp_path, lines(CHAIN)))
    batches = [{"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]} for one in spans]
    assert read(tmp_path, lines(batches)) == read(tmp_path, whole)


def test_otlps_lists_and_objects_are_plain_ones(tmp_path: Path) -> None:
    pair = [
        {"key": "role", "value": {"stringValue": "user"}},
        {"key": "content", "value": {"stringValue": "hi"}},
    ]
    messages = {"arrayValue": {"values": [{"kvlistValue": {"values": pair}}]}}
    made = otlp(span("1", 0, 1, usage__input_tokens=5))
    made["attributes"].append({"key": "gen_ai.input.messages", "value": messages})
    (turn,) = turns(read(tmp_path, {"resourceSpans": [{"scopeSpans": [{"spans": [made]}]}]}))
    assert [(m.role, m.content) for m in turn.messages or ()] == [("user", "hi")]


def test_a_conversation_may_be_of_several_traces(tmp_path: Path) -> None:
    talk = {"conversation__id": "c"}
    spans = [
        span("1", 0, 2, [user("a")], "b", trace_id="x", **talk),
        operation("2", 2.5, 3, "execute_tool", trace_id="y"),
        span("3", 4, 5, [user("a"), assistant("b"), user("c")], trace_id="y", **talk),
        span("4", 9, 10, [user("z")], trace_id="z"),
    ]
    found = read(tmp_path, lines(spans))
    assert [(s.id, s.starts_s, len(s.turns)) for s in found.sessions] == [("c", 0, 2), ("z", 9, 1)]
    assert found.sessions[0].turns[1].wait_kind == "tool"


def test_sub_agents_are_named_by_the_span_that_they_stand_in(tmp_path: Path) -> None:
    spans = [
        operation("main", 0, 20, "invoke_agent", agent__name="main"),
        span("1", 0, 2, [user("a")], "b", parent_span_id="main"),
        operation("sub", 3, 9, "invoke_agent", agent__name="sub", parent_span_id="main"),
        span("2", 3, 5, [user("x")], "y", parent_span_id="sub"),
        span("3", 10, 12, [user("a"), assistant("b"), user("y")], parent_span_id="main"),
    ]
    found = turns(read(tmp_path, lines(spans)))
    assert [turn.agent for turn in found] == [None, "sub", None]


def test_spans_without_an_end_and_without_a_prompt_are_counted(tmp_path: Path) -> None:
    endless = {**span("1", 0, 1, [user("a")]), "end_time": None}
    found = read(tmp_path, lines([*CHAIN, endless, span("2", 0, 1)]))
    assert sum(found.left_out.values()) == 2
    assert len(only(found).turns) == 3


def test_a_part_that_is_no_text_is_left_out_and_counted(tmp_path: Path) -> None:
    picture = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "hi"}]}
    found = read(tmp_path, lines([span("1", 0, 1, [picture])]))
    assert [m.content for m in turns(found)[0].messages or ()] == ["hi"]
    assert found.left_out == {"parts of messages that are no text": 1}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"start_time": "yesterday"}, "start_time: expected a time"),
        ({"startTimeUnixNano": "1e9"}, "startTimeUnixNano: expected nanoseconds"),
        ({"attributes": {"gen_ai.input.messages": '[{"role": "us'}}, "gen_ai.input.messages"),
        ({"attributes": {"gen_ai.input.messages": [{"role": "nobody"}]}}, "role: expected one of"),
        ({"attributes": {"gen_ai.input.messages": [], "gen_ai.usage.input_tokens": -1}}, "whole"),
    ],
)
def test_a_fault_names_its_line(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    text = refusal(tmp_path, lines([CHAIN[0], {**CHAIN[1], **change}]))
    assert text.startswith(": line 2: ")
    assert what in text


def test_a_file_of_failures_alone_says_so(tmp_path: Path) -> None:
    text = refusal(tmp_path, lines([{**CHAIN[0], "status": {"code": 2}}]))
    assert text == ": opentelemetry: no sessions: 1 failed spans"
