"""Formats of a JSON object a line: Bailian, TraceLab, MLPerf, AIPerf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sessions.made import lines, only, read, refusal, turns

# Bailian: seconds, blocks of 16, whole prompts


def chat(chat_id: int, parent: int, at: float, tokens: int, ids: range, **more: Any) -> Any:
    return {
        "chat_id": chat_id,
        "parent_chat_id": parent,
        "timestamp": at,
        "input_length": tokens,
        "output_length": 5,
        "type": "text",
        "turn": 1,
        "hash_ids": list(ids),
        **more,
    }


BAILIAN = (
    chat(7, -1, 61.5, 33, range(1, 4)),
    chat(9, -1, 62.0, 16, range(50, 51)),
    chat(8, 7, 70.25, 64, range(1, 5), turn=2),
)


def test_bailians_requests_are_due_by_their_stamps_in_seconds(tmp_path: Path) -> None:
    found = read(tmp_path, lines(BAILIAN))
    assert [(s.id, s.starts_s) for s in found.sessions] == [("7", 0), ("9", 0.5)]
    first, second = found.sessions[0].turns
    assert (second.after, second.wait_s, second.wait_kind) == ((0,), 0, None)
    assert (first.not_before_s, second.not_before_s) == (0, 8.75)
    assert [turn.prompt_tokens for turn in (first, second)] == [33, 64]
    assert (found.block_tokens, found.blocks_shared) == (16, True)


def test_bailian_names_the_part_of_a_block_too(tmp_path: Path) -> None:
    text = refusal(tmp_path, lines([chat(1, -1, 0, 33, range(2))]))
    assert text.startswith(": line 1: hash_ids: expected 3 ")


@pytest.mark.parametrize(
    ("ids", "history"), [(range(1, 5), 0), ([1, 2, 90, 91], 0), ([1, 90, 91, 92], None)]
)
def test_bailians_history_is_the_parent_whose_whole_blocks_it_begins_with(
    tmp_path: Path, ids: Any, history: int | None
) -> None:
    rows = [BAILIAN[0], {**BAILIAN[2], "hash_ids": list(ids)}]
    assert turns(read(tmp_path, lines(rows)))[1].history == history


def test_a_request_may_have_several_after_it(tmp_path: Path) -> None:
    rows = (*BAILIAN, chat(10, 7, 66, 48, range(1, 4)), chat(11, 8, 80, 80, range(1, 6)))
    found = read(tmp_path, lines(rows)).sessions[0].turns
    assert [turn.after for turn in found] == [(), (0,), (0,), (2,)]
    assert [turn.not_before_s for turn in found] == [0, 4.5, 8.75, 18.5]


def test_a_request_that_goes_on_from_before_the_file_begins_a_session(tmp_path: Path) -> None:
    found = read(tmp_path, lines(BAILIAN[1:]))
    assert [s.id for s in found.sessions] == ["9", "8"]
    assert "bailian: 1 sessions begin before the file does" in found.notes


def test_rows_in_any_order_are_the_same_sessions(tmp_path: Path) -> None:
    found = read(tmp_path, lines(BAILIAN))
    assert read(tmp_path, lines(BAILIAN[::-1])) == found


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        ([BAILIAN[0], BAILIAN[0]], ": line 2: chat_id 7 is there twice"),
        ([chat(1, 2, 0, 16, range(1)), chat(2, 1, 1, 16, range(1))], "circle"),
        ([chat(1, 1, 0, 16, range(1))], "circle"),
        ([chat(1, -1, -1, 16, range(1))], ": line 1: timestamp: expected seconds"),
    ],
)
def test_faults_of_bailians_rows(tmp_path: Path, rows: Any, where: str) -> None:
    assert where in refusal(tmp_path, lines(rows))


# TraceLab: stamps of what was heard and said


def stamp(second: float) -> str:
    return f"2026-06-01T05:40:{second:06.3f}Z"


def rounds(index: int, tokens: int, *events: tuple[str, float], **more: Any) -> dict[str, Any]:
    return {
        "session_id": "s",
        "round_index": index,
        "input_tokens_total": tokens,
        "prefix_tokens": 0,
        "output_tokens": 5,
        "timing_events": [{"event_type": kind, "timestamp": stamp(at)} for kind, at in events],
        **more,
    }


TRACELAB = (
    rounds(0, 100, ("user_message", 1), ("reasoning", 3), ("tool_call", 4.5)),
    rounds(1, 150, ("tool_result", 5), ("tool_result", 9.75), ("text", 12)),
    rounds(2, 120, ("user_message", 30), ("text", 31)),
)


def test_a_round_is_sent_when_its_last_input_is_there(tmp_path: Path) -> None:
    found = turns(read(tmp_path, lines(TRACELAB)))
    assert [turn.wait_s for turn in found] == pytest.approx([0, 5.25, 18])
    assert [turn.wait_kind for turn in found] == [None, "tool", "think"]
    assert [turn.after for turn in found] == [(), (0,), (1,)]


def test_lengths_are_of_whole_prompts_and_a_shorter_one_begins_anew(tmp_path: Path) -> None:
    found = turns(read(tmp_path, lines(TRACELAB)))
    assert [turn.prompt_tokens for turn in found] == [100, 150, 120]
    assert [turn.history for turn in found] == [None, 0, None]


def test_without_stamps_the_longest_tool_is_the_wait(tmp_path: Path) -> None:
    tools = [{"tool_wall_latency_ms": 1500}, {"tool_wall_latency_ms": 4000}, {}]
    rows = [rounds(0, 100, tools=tools), rounds(1, 150), rounds(2, 170)]
    found = read(tmp_path, lines(rows))
    assert [turn.wait_s for turn in turns(found)] == [0, 4, 0]
    assert [turn.wait_kind for turn in turns(found)] == [None, "tool", "unknown"]
    assert found.unknown_waits == 1
    assert only(found).starts_s is None


def test_a_round_without_an_end_has_a_gap_of_at_most_the_time_to_the_next(tmp_path: Path) -> None:
    rows = [rounds(0, 100, ("user_message", 1)), TRACELAB[1]]
    found = read(tmp_path, lines(rows))
    assert turns(found)[1].wait_s == pytest.approx(8.75)
    assert turns(found)[1].wait_kind == "unknown"
    assert found.unknown_waits == 1


def test_sessions_start_when_their_first_rounds_were_sent(tmp_path: Path) -> None:
    other = [{**row, "session_id": "t"} for row in TRACELAB[1:]]
    found = read(tmp_path, lines([*other, *TRACELAB]))
    assert [(s.id, s.starts_s) for s in found.sessions] == [("s", 0), ("t", pytest.approx(8.75))]
    assert any("sub-agents are sessions of their own" in note for note in found.notes)


def test_a_stamp_that_is_none_is_named(tmp_path: Path) -> None:
    row = rounds(0, 100)
    row["timing_events"] = [{"event_type": "text", "timestamp": "yesterday"}]
    text = refusal(tmp_path, lines([row]))
    assert text.startswith(": line 1: timing_events[0]: timestamp: expected a time")


# MLPerf: texts


def said(turn: int, role: str, **more: Any) -> dict[str, Any]:
    return {"conversation_id": "c", "turn": turn, "role": role, **more}


CALLS = [{"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"c": 1}'}}]
RESULTS = [{"tool_call_id": "1", "content": "two"}, {"tool_call_id": "2", "content": "three"}]
MLPERF = (
    said(1, "user", content="one", system="be brief", tools=[{"name": "bash"}]),
    said(2, "assistant", reasoning_content="hm", content=None, tool_calls=CALLS),
    said(3, "tool", tool_results=RESULTS, delay_seconds=0.25),
    said(4, "assistant", content="four"),
    said(5, "user", content="five", delay_seconds=2),
)


def texts(turn: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in turn.messages]


def test_each_answer_of_mlperf_is_a_turn_with_all_before_it(tmp_path: Path) -> None:
    first, second, third = turns(read(tmp_path, lines(MLPERF)))
    assert texts(first) == [("system", 'be brief\n\n[{"name":"bash"}]'), ("user", "one")]
    assert first.answer == 'hm\n\n{"name":"bash","arguments":"{\\"c\\": 1}"}'
    assert texts(second) == [
        *texts(first),
        ("assistant", first.answer),
        ("user", "two\n\nthree"),
    ]
    assert [m.content for m in second.new_messages or ()] == ["two\n\nthree"]
    assert third.answer is None
    assert [turn.wait_s for turn in (first, second, third)] == [0, 0.25, 2]
    assert [turn.wait_kind for turn in (first, second, third)] == [None, "tool", "think"]
    assert [turn.history for turn in (first, second, third)] == [None, 0, 1]


def test_rows_of_a_conversation_follow_each_other(tmp_path: Path) -> None:
    other = {**MLPERF[0], "conversation_id": "d"}
    text = refusal(tmp_path, lines([*MLPERF[:2], other, *MLPERF[2:]]))
    assert text.startswith(": line 4: conversation_id: c began at ")


@pytest.mark.parametrize("turn", [2, 1])
def test_turns_of_a_conversation_rise(tmp_path: Path, turn: int) -> None:
    rows = [*MLPERF[:2], {**MLPERF[2], "turn": turn}]
    assert refusal(tmp_path, lines(rows)).startswith(": line 3: turn: expected more than the 2")


def test_an_answer_to_nothing_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, lines(MLPERF[1:])).startswith(": line 1: role: ")


def test_without_delays_turns_go_at_once_and_are_counted(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if "delay" not in key} for row in MLPERF]
    found = read(tmp_path, lines(rows))
    assert [turn.wait_s for turn in turns(found)] == [0, 0, 0]
    assert any(note.startswith("mlperf: 2 turns without delay") for note in found.notes)


# AIPerf: milliseconds

MULTI = {
    "session_id": "s1",
    "turns": [
        {"text": "Hello", "delay": 0, "timestamp": 2000, "output_length": 20},
        {"text": "Hi there", "delay": 1500, "timestamp": 5000, "output_length": 50},
        {"texts": ["a", {"contents": ["b"]}], "extra": {"seed": 1}},
    ],
}


def test_turns_of_a_line_go_on_from_each_other_after_milliseconds(tmp_path: Path) -> None:
    found = read(tmp_path, lines([MULTI]))
    first, second, third = turns(found)
    assert (second.wait_s, second.wait_kind, second.not_before_s) == (1.5, "think", 3.0)
    assert (third.wait_s, third.wait_kind, third.not_before_s) == (0, None, None)
    assert [turn.history for turn in (first, second, third)] == [None, 0, 1]
    assert [turn.output_tokens for turn in (first, second, third)] == [20, 50, None]
    assert [m.content for m in third.new_messages or ()] == ["a\n\nb"]
    assert first.messages == first.new_messages
    assert second.messages is None  # nobody knows what was answered
    assert any(note.startswith("aiperf: 1 turns have fields") for note in found.notes)


def test_lines_of_a_session_are_prompts_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"session_id": "a", "text": "one", "timestamp": 1000},
        {"session_id": "b", "text": "two", "timestamp": 1500},
        {"session_id": "a", "text": "three", "timestamp": 4000, "delay": 200},
    ]
    found = read(tmp_path, lines(rows))
    assert [(s.id, s.starts_s, len(s.turns)) for s in found.sessions] == [
        ("a", 0, 2),
        ("b", 0.5, 1),
    ]
    second = found.sessions[0].turns[1]
    assert (second.after, second.history, second.wait_s, second.not_before_s) == (
        (0,),
        None,
        0.2,
        3,
    )
    assert [m.content for m in second.messages or ()] == ["three"]


def test_a_session_id_twice_and_a_turn_without_text_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, lines([MULTI, MULTI])).startswith(": line 2: session_id: s1 ")
    empty = {"session_id": "s", "turns": [{"text": "x"}, {"image": "a.png"}]}
    assert refusal(tmp_path, lines([empty])).startswith(": line 1: turns[1]: text: expected")
