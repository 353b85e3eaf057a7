"""Questions and answers: the bundled tasks, files, and GSM8K as the hub has it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.prompts.prompt import PromptError
from vllm_bench.quality import sets
from vllm_bench.quality.arithmetic import TASKS, tasks
from vllm_bench.quality.sets import QuestionSet, read_questions

GSM8K_ROWS = Path(__file__).parent / "gsm8k_like.jsonl"


def read(name: str, cache: Path) -> QuestionSet:
    return read_questions(name, cache_dir=cache)


def test_each_task_is_unlike_the_others_and_its_answer_is_right() -> None:
    found = list(tasks())
    assert len({text for text, _ in found}) == len(found) == TASKS
    for text, answer in found:
        stock = dict(re.findall(r"^(\w+): (\d+)$", text, re.MULTILINE))
        asked = re.search(r"Compute (.+)\.$", text)
        assert asked
        sum_ = asked[1]
        for name in re.findall(r"[a-z]+", sum_):
            sum_ = sum_.replace(name, stock[name])
        assert re.fullmatch(r"[\d +*()-]+", sum_)
        assert eval(sum_) == answer  # digits and signs alone: the line above


def test_fewer_tasks_are_the_first_of_more() -> None:
    assert list(tasks(20)) == list(tasks(100))[:20]


def test_tasks_are_the_same_in_every_version() -> None:
    assert next(tasks()) == ("Compute 40 * 3 - 82.", 38)


def test_a_prompt_has_the_question_and_how_to_end(tmp_path: Path) -> None:
    found = read("arithmetic", tmp_path)
    first = found.source.prompts[0]
    assert first.text == "Compute 40 * 3 - 82.\nEnd with a line `#### <number>`."
    assert found.answers[first.id] == "38"
    assert found.answers.keys() == {prompt.id for prompt in found.source.prompts}


def written(folder: Path, *rows: object) -> str:
    path = folder / "q.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return f"file:{path}"


def test_a_file_has_answers_in_either_form(tmp_path: Path) -> None:
    name = written(
        tmp_path,
        {"question": "1 + 1?", "answer": "One and one.\n#### 2"},
        {"question": "2 + 1?", "answer": 3},
        {"question": "The capital of France?", "answer": "Paris"},
    )
    found = read(name, tmp_path)
    assert list(found.answers.values()) == ["2", "3", "Paris"]
    asked = [prompt.text.splitlines()[-1] for prompt in found.source.prompts]
    assert asked == [
        *2 * ["End with a line `#### <number>`."],
        "End with a line `#### <answer>`.",
    ]


def test_a_question_that_comes_twice_is_asked_once(tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "answer": 2}
    found = read(written(tmp_path, row, {"question": "2?", "answer": 2}, row), tmp_path)
    assert len(found.source.prompts) == 2
    assert found.source.left_out == {"repeated": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("no object", "not an object"),
        ({"question": "1 + 1?"}, "no 'answer'"),
        ({"answer": 2}, "no 'question'"),
        ({"question": " ", "answer": 2}, "question isn't a text"),
        ({"question": 5, "answer": 2}, "question isn't a text"),
        ({"question": "1 + 1?", "answer": None}, "neither a text nor a number"),
        ({"question": "1 + 1?", "answer": True}, "neither a text nor a number"),
        ({"question": "1 + 1?", "answer": "reasons\n####  "}, "answer has no characters"),
        ({"question": "1 + 1?", "answer": "x" * 1001}, "answer has over 1000 characters"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_line(
    tmp_path: Path, row: object, said: str
) -> None:
    name = written(tmp_path, {"question": "0?", "answer": 0}, row)
    with pytest.raises(PromptError, match=re.escape(said)) as refused:
        read(name, tmp_path)
    assert "q.jsonl: line 2: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_isnt_json_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("question,answer\n", encoding="utf-8")
    with pytest.raises(PromptError, match="line 1: not JSON"):
        read(f"file:{tmp_path / 'q.jsonl'}", tmp_path)
    with pytest.raises(PromptError, match="can't be read"):
        read(f"file:{tmp_path / 'none.jsonl'}", tmp_path)


def test_gsm8k_is_fetched_once_and_its_answers_stay_out_of_the_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [json.loads(line) for line in GSM8K_ROWS.read_text(encoding="utf-8").splitlines()]
    asked: list[Any] = []

    def fetch_rows(hub_set: Any, token: str | None) -> tuple[list[dict[str, str]], str]:
        asked.append((hub_set.repo, hub_set.config, hub_set.split, token))
        return rows, "abc"

    monkeypatch.setattr(sets, "fetch_rows", fetch_rows)
    first = read_questions("gsm8k", cache_dir=tmp_path, hf_token="hf_x")
    assert first == read_questions("gsm8k", cache_dir=tmp_path, hf_token=None)
    assert asked == [("openai/gsm8k", "main", "test", "hf_x")]
    assert list(first.answers.values()) == ["12", "1,250", "-3", "0.5"]
    assert not any("####" in p.text.replace("#### <number>", "") for p in first.source.prompts)


def test_without_a_hub_a_file_in_its_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch_rows(*_: object) -> None:
        raise PromptError("no network")

    monkeypatch.setattr(sets, "fetch_rows", fetch_rows)
    kept = tmp_path / "questions" / "gsm8k.jsonl"
    with pytest.raises(PromptError, match=f"no network; or put .*{kept}"):
        read("gsm8k", tmp_path)
    kept.parent.mkdir()
    kept.write_bytes(GSM8K_ROWS.read_bytes())
    assert len(read("gsm8k", tmp_path).source.prompts) == 4
