"""Conversations: whole from files of three shapes, cut and drawn in seeded order."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.prompts.own.conversations import (
    Conversation,
    choose_conversations,
    holds_conversations,
    read_conversations,
)
from vllm_bench.prompts.prompt import PromptError

SHAREGPT = {
    "id": "a",
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Who are you?"},
        {"from": "gpt", "value": "A model."},
        {"from": "human", "value": " "},
        {"from": "user", "value": "Bye!\n"},
        {"from": "gpt", "value": "Bye."},
    ],
}
MESSAGES = {
    "messages": [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two"},
    ]
}
MT_BENCH = {"question_id": 81, "turns": ["Write.", "Rewrite.", "Again."]}
EXPECTED = [("Who are you?", "Bye!"), ("One", "Two"), ("Write.", "Rewrite.", "Again.")]


def write(folder: Path, *rows: object, array: bool = False) -> Path:
    path = folder / ("c.json" if array else "c.jsonl")
    path.write_bytes(orjson.dumps(rows) if array else b"\n".join(map(orjson.dumps, rows)))
    return path


def pool(*turns: int) -> list[Conversation]:
    return [
        Conversation(f"c{i}", tuple(f"{i}.{turn}" for turn in range(n)))
        for i, n in enumerate(turns)
    ]


@pytest.mark.parametrize("array", [False, True], ids=["lines", "array"])
def test_whole_conversations_of_three_shapes(tmp_path: Path, array: bool) -> None:
    silent = {"conversations": [{"from": "gpt", "value": "Hello?"}]}
    found = read_conversations(write(tmp_path, SHAREGPT, MESSAGES, silent, MT_BENCH, array=array))
    assert [c.user_turns for c in found] == EXPECTED
    assert [c.id for c in found] == ["file:1", "file:2", "file:4"]


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ("Hi", "conversations, messages, turns"),
        ({"prompt": "Hi"}, "conversations, messages, turns"),
        ({"conversations": "Hi"}, "conversations"),
        ({"conversations": ["Hi"]}, "conversations[0]"),
        ({"conversations": [{"from": "human"}]}, "conversations[0].value"),
        ({"messages": [{"content": "Hi"}]}, "messages[0]"),
        ({"messages": [{"role": "me", "content": "Hi"}]}, "messages[0].role"),
        ({"turns": ["Hi", 3]}, "turns[1]"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: object, place: str) -> None:
    path = write(tmp_path, SHAREGPT, row)
    with pytest.raises(PromptError) as raised:
        read_conversations(path)
    assert str(raised.value).startswith(f"file:{path}: line 2: ")
    assert place in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_tool_or_a_silent_model_says_is_not_the_persons(tmp_path: Path) -> None:
    rows = [
        {"messages": [
            {"role": "user", "content": "One"}, {"role": "assistant", "content": None},
            {"role": "tool", "content": [1]}, {"role": "user", "content": "Two"},
        ]},
        {"conversation": [{"role": "human", "content": "One"}]},
        {"body": {"messages": [{"role": "user", "content": "One"}]}},
        [{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}],
    ]  # fmt: skip
    path = write(tmp_path, *rows)
    assert holds_conversations(path)
    found = read_conversations(path)
    assert [len(c.user_turns) for c in found] == [2, 1, 1, 2]


def test_a_file_in_which_nobody_speaks(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"c\.jsonl: no conversations"):
        read_conversations(write(tmp_path, {"turns": []}))


def test_longer_ones_are_cut_and_shorter_ones_left_out() -> None:
    found = choose_conversations(pool(3, 1, 2, 5), count=3, turns=2, seed=1)
    assert {c.id for c in found.conversations} == {"c0", "c2", "c3"}
    assert all(
        c.user_turns == (f"{c.id[1:]}.0", f"{c.id[1:]}.1") for c in found.conversations
    )  # fmt: skip
    (note,) = found.notes
    assert "3 of 4" in note
    assert found.left_out == {"shorter than 2 turns": 1}


@pytest.mark.parametrize(("turns", "longest"), [([1, 3], 3), ([], 0)])
def test_none_is_long_enough(turns: list[int], longest: int) -> None:
    with pytest.raises(PromptError, match=rf"\b4\b.*\b{longest}\b"):
        choose_conversations(pool(*turns), count=1, turns=4, seed=1)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 20), st.integers(0, 2**63 - 1))
def test_all_are_used_equally_often_in_an_order_that_only_grows(
    count: int, more: int, size: int, seed: int
) -> None:
    source = pool(*[2] * size)
    longer = choose_conversations(source, count=count + more, turns=2, seed=seed)
    shorter = choose_conversations(source, count=count, turns=2, seed=seed)
    assert longer.conversations[:count] == shorter.conversations
    uses = Counter(c.id for c in longer.conversations)
    assert max(uses.values()) - min([*uses.values(), *[0] * (size - len(uses))]) <= 1
    assert longer.distinct == len(uses) == min(size, count + more)
    assert bool(longer.notes) == (count + more > size)


def test_seeds_give_other_orders_and_hashes() -> None:
    sets = [choose_conversations(pool(*[1] * 50), count=50, turns=1, seed=s) for s in (1, 2, 1)]
    assert sets[0] == sets[2]
    assert sets[0].sha256 != sets[1].sha256


def test_the_sharegpt_format_file(shared: Path) -> None:
    path = shared / "data" / "sharegpt_format" / "fastchat_dummy_conversation_sharegpt_format.json"
    found = read_conversations(path)
    assert len(found) == 500
    assert found[0].user_turns == ("Who are you?", "Have a nice day!")
    chosen = choose_conversations(found, count=20, turns=2, seed=0)
    assert all(len(c.user_turns) == 2 for c in chosen.conversations)


def test_a_file_of_plain_prompts_holds_no_conversations(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("one\ntwo\n")
    talks = tmp_path / "talks.jsonl"
    talks.write_text(json.dumps(MT_BENCH) + "\n")
    assert not holds_conversations(plain)
    assert holds_conversations(talks)


def test_the_mt_bench_file(shared: Path) -> None:
    found = read_conversations(shared / "data" / "mt_bench" / "mt_bench_question.jsonl")
    assert [len(c.user_turns) for c in found] == [2] * 80
