"""Weka's sessions: who waits for whom, how long, and what the files don't know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.sessions.read import read_sessions
from vllm_bench.sessions.session import Turn

from tests.sessions.made import call, marker, read, refusal, tool, turns, weka


def waits(found: tuple[Turn, ...]) -> list[float]:
    return [pytest.approx(turn.wait_s) for turn in found]


def test_a_gap_is_from_an_answers_end_to_the_next_turn(tmp_path: Path) -> None:
    found = turns(read(tmp_path, weka(tool(0, 200), tool(6, 300), tool(20, 400, api_time=3.5))))
    assert [turn.after for turn in found] == [(), (0,), (1,)]
    assert [turn.wait_s for turn in found] == pytest.approx([0, 4, 12])
    assert [turn.wait_kind for turn in found] == [None, "tool", "tool"]


def test_people_and_tools_are_told_apart_by_what_comes_next(tmp_path: Path) -> None:
    kinds = [["text"], ["tool_result"], ["text"], ["text", "tool_result"], ["image"], None]
    requests = [tool(5 * n, 200, input_types=kind) for n, kind in enumerate(kinds)]
    found = [turn.wait_kind for turn in turns(read(tmp_path, weka(*requests)))]
    assert found == [None, "tool", "think", "tool", "unknown", "unknown"]


def test_think_time_is_not_believed(tmp_path: Path) -> None:
    # After a turn without api_time it counts from the last one that has one.
    requests = (
        tool(0, 200, think_time=0.0),
        tool(10, 300, api_time=None, think_time=8.0),
        tool(15, 400, think_time=13.0),
        tool(40, 500, think_time=23.0),
    )
    found = read(tmp_path, weka(*requests))
    assert [turn.wait_s for turn in turns(found)] == pytest.approx([0, 8, 5, 23])


def test_without_api_time_the_gap_is_at_most_the_time_between_the_turns(tmp_path: Path) -> None:
    requests = (call(0, 200), call(10, 300), tool(30, 400), tool(40, 500))
    found = read(tmp_path, weka(*requests))
    assert [turn.wait_s for turn in turns(found)] == pytest.approx([0, 10, 20, 8])
    assert [turn.wait_kind for turn in turns(found)] == [None, "unknown", "unknown", "tool"]
    assert found.unknown_waits == 2
    assert any(note.startswith("weka: 2 ") for note in found.notes)


# Sub-agents

CHILD = (tool(0, 128, agent="a"), tool(6, 192))


def parent(*markers: Any, back: float = 100) -> dict[str, Any]:
    return weka(tool(0, 200), tool(10, 300, api_time=5.0), *markers, tool(back, 400))


def test_the_t_of_a_marker_is_its_end(tmp_path: Path) -> None:
    # The answer before ended at 15; 15.7 + 40 = 55.7.
    found = read(tmp_path, parent(marker(55.7, 40, *CHILD)))
    _, before, first, second, back = turns(found)
    assert (first.after, first.agent, first.history) == ((1,), "a", None)
    assert first.wait_s == pytest.approx(0.7)
    assert first.wait_kind == "tool"
    assert (second.after, second.history) == ((2,), 2)
    assert second.wait_s == pytest.approx(4)
    assert (back.after, back.agent, back.history) == ((1, 3), None, 1)
    assert back.wait_s == pytest.approx(100 - 55.7)
    assert before.agent is None
    assert any("whose t is their end" in note for note in found.notes)


def test_where_markers_do_not_end_there_t_is_their_start(tmp_path: Path) -> None:
    found = read(tmp_path, parent(marker(16, 40, *CHILD)))
    _, _, first, _, back = turns(found)
    assert first.wait_s == pytest.approx(1)
    assert back.wait_s == pytest.approx(100 - 56)
    assert any("whose t is their start" in note for note in found.notes)


def test_each_file_says_itself_what_its_markers_mean(tmp_path: Path) -> None:
    ends, starts = parent(marker(55, 40, *CHILD)), parent(marker(16, 40, *CHILD))
    for name, session in (("1", ends), ("2", starts)):
        (tmp_path / name).write_text(json.dumps({**session, "id": name}), encoding="utf-8")
    found = read_sessions(tmp_path)
    assert found is not None
    assert [s.turns[-1].wait_s for s in found.sessions] == pytest.approx([45, 44])


def test_a_parents_next_gap_begins_when_the_last_child_has_ended(tmp_path: Path) -> None:
    # think_time, 85 s, holds the children's whole run: it isn't waited for again.
    first, second = marker(55, 40, *CHILD), marker(75, 60, *CHILD, agent_id="b")
    found = turns(read(tmp_path, parent(first, second)))
    assert [turn.agent for turn in found] == [None, None, "a", "a", "b", "b", None]
    assert found[4].after == (1,)  # beside the first, not behind it
    assert found[-1].after == (1, 3, 5)
    assert found[-1].wait_s == pytest.approx(25)


def test_nobody_waits_for_what_was_launched_to_run_beside(tmp_path: Path) -> None:
    beside = marker(16, None, *CHILD, status="async_launched")
    found = turns(read(tmp_path, parent(beside, back=20)))
    assert found[2].after == (1,)
    assert found[2].wait_s == pytest.approx(1)
    assert found[-1].after == (1,)
    assert found[-1].wait_s == pytest.approx(5)


def test_a_child_that_was_still_at_work_did_not_hold_its_parent(tmp_path: Path) -> None:
    found = turns(read(tmp_path, parent(marker(55, 40, *CHILD), back=30)))
    assert found[-1].after == (1,)
    assert found[-1].wait_s == pytest.approx(15)


@pytest.mark.parametrize("absolute", [False, True])
def test_times_in_a_child_are_from_its_start_or_from_the_sessions(
    tmp_path: Path, absolute: bool
) -> None:
    shift = 15 if absolute else 0
    child = (tool(0 + shift, 128), tool(6 + shift, 192))
    found = turns(read(tmp_path, parent(marker(55, 40, *child))))
    assert [found[2].wait_s, found[3].wait_s] == pytest.approx([0, 4])


def test_a_child_without_requests_is_a_tool_that_took_long(tmp_path: Path) -> None:
    found = turns(read(tmp_path, parent(marker(55, 40))))
    assert found[-1].after == (1,)
    assert found[-1].wait_s == pytest.approx(85)


def test_the_gap_after_children_is_known_though_the_parents_answer_has_no_end(
    tmp_path: Path,
) -> None:
    session = weka(tool(0, 200, api_time=None), marker(50, 40, *CHILD), tool(60, 300))
    found = read(tmp_path, session)
    assert turns(found)[-1].wait_s == pytest.approx(10)
    assert turns(found)[-1].wait_kind == "tool"
    assert turns(found)[1].wait_kind == "unknown"  # when the child began
    assert found.unknown_waits == 1


def test_children_may_have_children(tmp_path: Path) -> None:
    inner = marker(20, 10, tool(0, 128), agent_id="b")
    outer = marker(55, 40, tool(0, 128, api_time=9.0), inner, tool(25, 192))
    found = turns(read(tmp_path, parent(outer)))
    assert [turn.agent for turn in found] == [None, None, "a", "a/b", "a", None]
    assert found[4].after == (2, 3)
    assert found[4].wait_s == pytest.approx(5)


# Lengths and blocks


def test_the_prompt_is_the_whole_one_and_its_part_of_a_block_is_dropped(tmp_path: Path) -> None:
    found = read(tmp_path, weka(tool(0, 191), tool(5, 192)))
    assert [turn.prompt_tokens for turn in turns(found)] == [191, 192]
    assert [turn.block_ids for turn in turns(found)] == [(1, 2), (1, 2, 3)]
    assert (found.block_tokens, found.blocks_shared) == (64, False)


def test_a_block_more_than_whole_ones_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, weka(tool(0, 191, hash_ids=[1, 2, 3])))
    assert text.startswith(": line 1: requests[0]: hash_ids: expected 2 ")
    assert text.endswith("given 3")


def test_answers_of_no_token_are_asked_for_one(tmp_path: Path) -> None:
    found = read(tmp_path, weka(tool(0, 200, out=0), tool(5, 300, out=7)))
    assert [turn.output_tokens for turn in turns(found)] == [1, 7]
    assert any(note.startswith("weka: 1 answers of zero tokens") for note in found.notes)


def test_prompts_of_no_token_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read(tmp_path, weka(tool(0, 200), tool(5, 0), tool(9, 300)))
    assert found.left_out == {"requests of zero prompt tokens": 1}
    assert [turn.after for turn in turns(found)] == [(), (0,)]
    assert turns(found)[1].wait_s == pytest.approx(7)


def test_a_context_that_shrinks_or_changes_breaks_the_history(tmp_path: Path) -> None:
    found = turns(
        read(
            tmp_path,
            weka(
                tool(0, 640),
                tool(5, 700),
                tool(10, 650),  # a rewinding
                tool(15, 720, hash_ids=[1, 2, *range(90, 99)]),  # a compaction
                tool(20, 800, hash_ids=[1, 2, *range(90, 98), 70, 71]),  # but its last block
            ),
        )
    )
    assert [turn.history for turn in found] == [None, 0, None, None, 3]


def test_turns_that_overlap_wait_for_the_answer_and_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, weka(tool(0, 200, api_time=30.0), tool(10, 300)))
    assert [turn.wait_s for turn in turns(found)] == [0, 0]
    assert any("begin before the last answer" in note for note in found.notes)


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (tool(-1, 200), ": line 1: requests[1]: t: expected seconds"),
        (tool(0, 200, api_time="2"), ": line 1: requests[1]: api_time: expected seconds"),
        (
            {"t": 1, "in": 200, "hash_ids": [1.5, 2, 3]},
            ": line 1: requests[1]: hash_ids: expected whole",
        ),
        ({"t": 1, "in": "200"}, ": line 1: requests[1]: in: expected a whole number"),
        (
            {"t": 1, "in": 10**9, "hash_ids": []},
            ": line 1: requests[1]: in: expected a whole number",
        ),
        (3, ": line 1: requests[1]: expected an object"),
    ],
)
def test_a_fault_names_its_request(tmp_path: Path, request_: Any, where: str) -> None:
    assert refusal(tmp_path, weka(tool(0, 200), request_)).startswith(where)


def test_ids_of_all_files_are_refused(tmp_path: Path) -> None:
    session = weka(tool(0, 200), hash_id_scope="global")
    assert refusal(tmp_path, session).startswith(": line 1: hash_id_scope: expected local")
