"""A person's own file of prompts, the bundled set, and where the cache lies."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from vllm_bench.prompts import source
from vllm_bench.prompts.prompt import Message, PromptError
from vllm_bench.prompts.source import default_cache_dir, load_source

from tests.support.data_sets import error, load_prompts, texts, write

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"prompt": "One"}\n\n{"prompt": "Two"}\n'),
        ("a.jsonl", '"One"\n"Two"\n'),
        ("a.json", '["One", "Two"]'),
        ("a.json", '{"prompt": "One"}\n{"prompt": "Two"}\n'),
        ("a.json", '[{"prompt": "One"},\n {"prompt": "Two"}]'),
        ("a.jsonl", '\ufeff{"prompt": "One"}\r\n{"prompt": "Two"}\r\n'),
        ("a.txt", "One\nTwo"),
        ("a.txt", '{"prompt": "One"}\n{"prompt": "Two"}'),
        ("a.list", '["One",\n"Two"]'),
        ("a", '{"messages": [{"role": "user", "content": "One"}]}\n{"prompt": "Two"}'),
        (
            "a.json",
            '[{"id": "x", "conversations": [{"from": "human", "value": "One"}]},'
            '{"id": "y", "conversations": [{"from": "system", "value": "Be brief."},'
            '{"from": "user", "value": "Two"}, {"from": "gpt", "value": "2"}]}]',
        ),
        (
            "a.jsonl",
            '{"prompt": {"text": "One", "role": "prompter", "synthetic": false}}\n'
            '{"prompt": {"text": "no", "role": "prompter", "synthetic": true}}\n'
            '{"prompt": {"text": "no", "role": "prompter", "deleted": true}}\n'
            '{"text": "Two", "role": "prompter", "parent_id": null}\n',
        ),
    ],
)
def test_a_file_may_have_any_of_the_usual_shapes(tmp_path: Path, name: str, content: str) -> None:
    assert texts(write(tmp_path, name, content), tmp_path) == ["One", "Two"]


def test_a_text_may_begin_with_a_bracket(tmp_path: Path) -> None:
    lines = ["[INST] Hello", "World"]
    assert texts(write(tmp_path, "a.txt", "\n".join(lines)), tmp_path) == lines


def test_messages_are_cut_after_the_last_user_message(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "A"), ("assistant", "B"), ("user", "C")]
    row = {"messages": [{"role": r, "content": c} for r, c in [*turns, ("assistant", "D")]]}
    (prompt,) = load_prompts(write(tmp_path, "a.jsonl", json.dumps(row)), cache_dir=tmp_path)
    assert prompt.messages == tuple(Message(r, c) for r, c in turns)
    assert prompt.text == "\n\n".join(text for _, text in turns)


def test_content_may_come_in_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]
    row = {"messages": [{"role": "user", "content": parts}]}
    assert texts(write(tmp_path, "a.jsonl", json.dumps(row)), tmp_path) == ["One two"]


def test_empty_and_repeated_prompts_are_left_out_and_counted(tmp_path: Path) -> None:
    name = write(tmp_path, "a.json", '["One", " ", "One", "", {"messages": []}, "Two"]')
    source = load_source(name, cache_dir=tmp_path)
    assert [p.id for p in source.prompts] == ["file:1", "file:6"]
    (note,) = source.notes
    assert note.startswith(f"{name}: ")
    assert re.findall(r"\d+", note.removeprefix(name)) == ["1", "2", "1"]


CHAT = '{"messages": [{"role": "user", "content": %s}]}'


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("a.txt", "", ["empty"]),
        ("a.txt", " \n\n", ["empty"]),
        ("a.bin", b"\x7fELF\0\0", ["binary"]),
        ("a.txt", b"fine\ncaf\xe9\n", ["line 2", "UTF-8"]),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": ', ["line 2", "not JSON"]),
        ("a.json", '["x",\n "y"', ["line 2", "not JSON"]),
        ("a.jsonl", '{"answer": 1}', ["line 1", "conversations", "turns", "answer"]),
        ("a.jsonl", '{"question": 1}', ["line 1", "question", "a number"]),
        ("a.jsonl", "{}", ["line 1", "prompt", "messages", "none"]),
        ("a.jsonl", "17", ["line 1", "a number"]),
        ("a.json", '["x", null]', ["entry 2", "nothing"]),
        ("a.jsonl", '{"prompt": ["x"]}', ["line 1", "prompt", "a list"]),
        ("a.jsonl", '{"messages": "x"}', ["messages", "a text"]),
        ("a.jsonl", '{"messages": ["x"]}', ["messages[0]", "role", "content"]),
        ("a.jsonl", '{"messages": [{"role": "tool"}]}', ["messages[0].role", "system"]),
        ("a.jsonl", CHAT % "null", ["messages[0].content", "nothing"]),
        ("a.jsonl", CHAT % '[{"type": "image_url"}]', ["messages[0].content", "image_url"]),
        ("a.jsonl", '{"conversations": [{"value": "x"}]}', ["conversations[0]", "from", "value"]),
        (
            "a.jsonl",
            '{"conversations": [{"from": "human", "value": 3}]}',
            ["conversations[0].value", "a number"],
        ),
        ("a.jsonl", '"\\ud800"', ["line 1", "not JSON"]),
        ("a.jsonl", '" "\n""', ["no prompts", "2 empty"]),
        ("a.jsonl", '{"conversations": []}', ["no prompts", "1 without"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, facts: list[str]
) -> None:
    dataset = write(tmp_path, name, content)
    found = error(dataset, tmp_path)
    assert found.startswith(f"{dataset}: ")
    assert [fact for fact in facts if fact not in found] == []


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "no", tmp_path):
        assert error(f"file:{path}", tmp_path).startswith(f"file:{path}: ")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("oasst/prompt_lottery_en_250_text.jsonl", 250),
        ("oasst/en_100_tree.jsonl", 95),
        ("oasst/en_100_message.jsonl", 95),
        ("sharegpt_format/fastchat_dummy_conversation_sharegpt_format.json", 52),
    ],
)
def test_real_exports_are_read_whole(tmp_path: Path, name: str, count: int) -> None:
    if not SHARED_DATA.is_dir():
        pytest.skip("no folder ../shared/data with real exports")
    assert len(load_prompts(f"file:{SHARED_DATA / name}", cache_dir=tmp_path)) == count


def test_the_bundled_sample_has_at_least_200_different_prompts(tmp_path: Path) -> None:
    prompts = load_prompts("sample", cache_dir=tmp_path)
    assert len({prompt.text for prompt in prompts}) == len(prompts) >= 200
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"VLLM_BENCH_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, Path("/c")),
        ({"VLLM_BENCH_CACHE": "", "XDG_CACHE_HOME": "/x"}, Path("/x/vllm-bench")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache" / "vllm-bench"),
        ({}, Path.home() / ".cache" / "vllm-bench"),
    ],
)
def test_the_cache_lies_where_the_environment_says(environ: dict[str, str], folder: Path) -> None:
    assert default_cache_dir(environ) == folder


@pytest.mark.parametrize("own", [None, "~nobody-of-that-name/cache"])
def test_a_user_without_a_home_is_told_what_to_set(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(PromptError, match=own or "VLLM_BENCH_CACHE"):
        default_cache_dir({"VLLM_BENCH_CACHE": own} if own else {})


@pytest.mark.parametrize("content", ['{"prompt": 3', '{"id": "a"}', "[]"])
def test_a_damaged_bundle_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    damaged = tmp_path / "sample.jsonl"
    damaged.write_text(content + "\n")
    monkeypatch.setattr(source, "SAMPLE_FILE", damaged)
    with pytest.raises(PromptError, match=str(damaged)):
        load_prompts("sample", cache_dir=tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.txt")
    with pytest.raises(PromptError, match="a pipe"):
        load_source(f"file:{tmp_path / 'p.txt'}", cache_dir=tmp_path, hf_token=None)
