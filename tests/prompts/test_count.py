"""Who counts the tokens, what is said of it, and what the disk remembers."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.prompts.count import (
    EstimateCounter,
    ServerCounter,
    TokenCountCache,
    best_counter,
    find_tokenizer,
)
from vllm_bench.prompts.prompt import Prompt, PromptError, user_prompt
from vllm_bench.vllm.server import ControlError

from tests.support.beside.waiting import LIMIT_S, ctrl_c_once

PROMPTS = [user_prompt(f"p:{i}", "word " * (i + 1)) for i in range(20)]


class FakeServer:
    """Counts words and a template of three tokens; remembers what it was asked."""

    def __init__(self, template: int = 3, longest: int = 10_000) -> None:
        self.asked: list[str] = []
        self.template = template
        self.longest = longest
        self.failure: Exception | None = None

    def tokenize(self, prompt: Prompt) -> int | None:
        self.asked.append(prompt.text)
        if self.failure:
            raise self.failure
        tokens = self.template + len(prompt.text.split())
        return tokens if tokens <= self.longest else None


def counter_of(server: FakeServer, cache_dir: Path | None, scope: Sequence[str] = ("m",)):  # type: ignore[no-untyped-def]
    return best_counter(tokenize=server.tokenize, cache_dir=cache_dir, scope=scope)


def test_the_server_counts_where_it_can() -> None:
    counter = counter_of(FakeServer(), None)
    assert counter.count(PROMPTS[:3]) == [4, 5, 6]
    assert (counter.method, counter.notes) == ("server", ())


def test_equal_texts_are_counted_once() -> None:
    server = FakeServer()
    counter = counter_of(server, None)
    assert counter.count([PROMPTS[0], PROMPTS[1], PROMPTS[0]]) == [4, 5, 4]
    assert len(server.asked) == 3, "two texts and the check"


def test_counts_are_remembered_on_disk_by_way_of_counting(tmp_path: Path) -> None:
    first, second, other = FakeServer(), FakeServer(), FakeServer()
    assert counter_of(first, tmp_path).count(PROMPTS) == counter_of(second, tmp_path).count(PROMPTS)
    assert len(second.asked) == 1, "only the check"
    counter_of(other, tmp_path, scope=("m", "another system prompt")).count(PROMPTS)
    assert len(other.asked) == 1 + len(PROMPTS)


def test_remembered_counts_hold_no_text(tmp_path: Path) -> None:
    counter_of(FakeServer(), tmp_path).count([user_prompt("p", "a private matter")])
    (path,) = (tmp_path / "token_counts").iterdir()
    assert b"private" not in path.read_bytes()


def test_a_server_that_counts_otherwise_than_remembered_is_asked_again(tmp_path: Path) -> None:
    counter_of(FakeServer(template=3), tmp_path).count(PROMPTS)
    assert counter_of(FakeServer(template=9), tmp_path).count(PROMPTS[:2]) == [10, 11]


def test_a_refused_prompt_has_no_count_and_is_asked_for_again(tmp_path: Path) -> None:
    short = FakeServer(longest=30)
    long_prompt = user_prompt("long", "word " * 50)
    assert counter_of(short, tmp_path).count([PROMPTS[0], long_prompt]) == [4, None]
    assert counter_of(FakeServer(), tmp_path).count([long_prompt]) == [53]


def test_a_server_that_cannot_count_is_noted_and_the_estimate_takes_over() -> None:
    server = FakeServer()
    server.failure = ControlError("HTTP 404: no /tokenize here")
    counter = counter_of(server, None)
    assert counter.method == "estimate"
    assert len(counter.notes) == 2, "why not the server, and what the counts are worth"
    assert str(server.failure) in counter.notes[0]


def test_a_server_that_refuses_a_line_cannot_count() -> None:
    assert counter_of(FakeServer(longest=0), None).method == "estimate"


def test_a_server_that_stops_counting_midway_ends_the_choice() -> None:
    server = FakeServer()
    counter = counter_of(server, None)
    server.failure = ControlError("connection refused")
    with pytest.raises(PromptError, match="connection refused"):
        counter.count(PROMPTS)


def test_a_mistake_in_the_caller_is_not_taken_for_a_server_that_cannot_count() -> None:
    server = FakeServer()
    server.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        counter_of(server, None)


def test_ctrl_c_waits_for_no_call() -> None:
    asked, over = threading.Event(), threading.Event()

    def tokenize(_: Prompt) -> int:
        asked.set()
        over.wait()
        return 1

    waiting = ctrl_c_once(asked.is_set)
    with pytest.raises(KeyboardInterrupt):
        ServerCounter(tokenize).count(PROMPTS)
    waiting.join()
    over.set()


def test_several_calls_are_under_way_at_once() -> None:
    meeting = threading.Barrier(4, timeout=LIMIT_S)

    def tokenize(_: Prompt) -> int:
        meeting.wait()  # broken, and an error, unless four calls are here together
        return 1

    assert ServerCounter(tokenize).count(PROMPTS[:8]) == [1] * 8


# The local tokenizer


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(max_length=4)  # as many a model's file has it
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_models_folder_has_its_tokenizer_count_whole_texts(model_folder: Path) -> None:
    counter = best_counter(models=["no-such-model", str(model_folder)])
    assert counter.method == "tokenizer"
    assert counter.count(PROMPTS[:6]) == [1, 2, 3, 4, 5, 6]
    (note,) = counter.notes
    assert f"{model_folder}/tokenizer.json" in note


def test_a_damaged_tokenizer_is_noted_and_the_estimate_takes_over(model_folder: Path) -> None:
    (model_folder / "tokenizer.json").write_text("{}")
    counter = best_counter(models=[str(model_folder)])
    assert counter.method == "estimate"
    assert f"{model_folder}/tokenizer.json" in counter.notes[0]


@pytest.mark.parametrize("name", ["", "no/such/path/at/all", "a..b", "gpt-oss-20", "🙂"])
def test_a_model_without_a_local_tokenizer_has_none(name: str) -> None:
    assert find_tokenizer([name]) is None


# The estimate


@given(st.text())
def test_an_estimate_is_at_least_one_token_and_at_most_one_a_byte(text: str) -> None:
    (tokens,) = EstimateCounter().count([user_prompt("p", text)])
    assert tokens is not None
    assert 1 <= tokens <= max(1, len(text.encode()))


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 1), ("abcdefgh", 2), ("数据", 1), ("数据科学入门", 4), ("é", 1)]
)
def test_an_estimate_is_a_token_for_four_and_a_half_bytes(text: str, tokens: int) -> None:
    assert EstimateCounter().count([user_prompt("p", text)]) == [tokens]


# The cache on disk


def _add_many(folder: Path, process: int) -> None:
    cache = TokenCountCache(folder, ["m"])
    for batch in range(50):
        cache.add({f"{process}-{batch}-{i}": process * 1000 + i for i in range(20)})


@pytest.mark.process
def test_processes_that_write_at_once_lose_and_damage_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add_many, args=(tmp_path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = TokenCountCache(tmp_path, ["m"])
    for process in range(3):
        for batch in range(50):
            assert found.get(f"{process}-{batch}-19") == process * 1000 + 19
    (path,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert len(rows) == 3 * 50 * 20


def test_a_line_that_a_kill_tore_is_passed_over_and_ends_there(tmp_path: Path) -> None:
    TokenCountCache(tmp_path, ["m"]).add({"a": 1, "b": 23})
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    torn = TokenCountCache(tmp_path, ["m"])
    assert (torn.get("a"), torn.get("b")) == (1, None)
    torn.add({"c": 4})
    again = TokenCountCache(tmp_path, ["m"])
    assert (again.get("a"), again.get("b"), again.get("c")) == (1, None, 4)


def test_a_disk_that_takes_nothing_costs_the_cache_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = TokenCountCache(tmp_path / "file" / "folder", ["m"])
    cache.add({"a": 1})
    assert cache.get("a") == 1
    cache.forget()
    assert cache.get("a") is None


def test_a_models_name_cannot_lead_out_of_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    TokenCountCache(folder, ["../../etc/passwd"]).add({"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]
    assert len(list(folder.iterdir())) == 1
