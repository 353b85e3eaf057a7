"""AIPerf's conversations that begin others: whom turns wait for, and what they go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sessions.made import lines, read, refusal, turns


def turn(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}


def talk(name: str, *listed: Any, **more: Any) -> dict[str, Any]:
    return {"session_id": name, "turns": list(listed), **more}


def plan(found: Any) -> list[tuple[str | None, tuple[int, ...], int | None]]:
    return [(one.agent, one.after, one.history) for one in found]


def test_forks_go_on_from_the_prompt_that_they_leave(tmp_path: Path) -> None:
    rows = [
        talk("root", turn("a"), turn("b", forks=["x", "y"])),
        talk("x", turn("c"), turn("d", delay=250)),
        talk("y", turn("e")),
    ]
    found = turns(read(tmp_path, lines(rows)))
    assert plan(found) == [
        (None, (), None),
        (None, (0,), 0),
        ("x", (1,), 1),
        ("x", (2,), 2),
        ("y", (1,), 1),
    ]
    assert found[3].wait_s == 0.25
    assert found[2].messages is None
    assert [m.content for m in found[2].new_messages or ()] == ["c"]


def test_spawns_begin_anew_and_the_next_turn_waits_for_them(tmp_path: Path) -> None:
    rows = [
        talk("root", turn("a", spawns=["x", "y"]), turn("b")),
        talk("x", turn("c"), turn("d")),
        talk("y", turn("e")),
    ]
    found = turns(read(tmp_path, lines(rows)))
    assert plan(found) == [
        (None, (), None),
        ("x", (0,), None),
        ("x", (1,), 1),
        ("y", (0,), None),
        (None, (0, 2, 3), 0),
    ]


def test_a_parent_is_busy_until_the_turn_that_joins(tmp_path: Path) -> None:
    spawn = {"children": ["x"], "join_at": 2}
    rows = [talk("root", turn("a", spawns=[spawn]), turn("b"), turn("c")), talk("x", turn("d"))]
    found = turns(read(tmp_path, lines(rows)))
    assert plan(found)[1:] == [("x", (0,), None), (None, (0,), 0), (None, (1, 2), 2)]


def test_nobody_waits_for_forks_behind_and_for_what_begins_with_a_session(tmp_path: Path) -> None:
    rows = [
        talk(
            "root",
            turn("a", forks=[{"child": "x", "background": True}]),
            turn("b"),
            pre_session_spawns=["y"],
        ),
        talk("x", turn("c")),
        talk("y", turn("d")),
    ]
    found = turns(read(tmp_path, lines(rows)))
    assert plan(found) == [
        ("y", (), None),
        (None, (), None),
        ("x", (1,), 1),
        (None, (1,), 1),
    ]


def test_a_conversation_may_be_begun_again_and_again_but_not_forked(tmp_path: Path) -> None:
    rows = [
        talk("r", turn("a", spawns=["x"]), turn("b", spawns=["x"])),
        talk("x", turn("c")),
    ]
    assert len(turns(read(tmp_path, lines(rows)))) == 4
    rows = [talk("r", turn("a", forks=["x", "x"])), talk("x", turn("c"))]
    assert "forked twice" in refusal(tmp_path, lines(rows))


def test_where_turns_bring_whole_prompts_nothing_is_before_them(tmp_path: Path) -> None:
    rows = [talk("r", turn("a"), turn("b"), context_mode="message_array_with_responses")]
    found = turns(read(tmp_path, lines(rows)))
    assert plan(found) == [(None, (), None), (None, (0,), None)]
    assert found[1].messages == found[1].new_messages


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([talk("r", turn("a", forks=["x"]))], "called x"),
        ([talk("r", turn("a", frks=["x"]))], "unknown key frks"),
        ([talk("r", turn("a"), more=1)], "unknown key more"),
        ([talk("r", turn("a", forks=["x"]), turn("b")), talk("x", turn("c"))], "last turn"),
        ([talk("r", turn("a", spawns=[{"children": ["x"], "join_at": 1}])), talk("x", turn("c"))],
         "join_at: expected a later turn"),
        ([talk("r", turn("a", spawns=["x"])), talk("x", turn("b", spawns=["r"]))], "begun by"),
        ([talk("q", turn("q", spawns=["r"])), talk("r", turn("a", spawns=["x"])),
          talk("x", turn("b", spawns=["r"]))], "a circle"),
        ([talk("r", turn("a")), talk("r", turn("b"))], ": line 2: session_id"),
        ([{"session_id": "r", "orchestrator": True, "spawns": ["x"]}], "orchestrator"),
        ([talk("r", turn("a"), {"max_tokens": 3})], ": line 1: turns[1]: messages"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path: Path, rows: Any, what: str) -> None:
    assert what in refusal(tmp_path, lines(rows))
