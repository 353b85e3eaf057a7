"""Every data set by its name: what is read, what is left out, and each way that it can fail."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.prompts import hub as hub_module
from vllm_bench.prompts.hub import HUB_SETS
from vllm_bench.prompts.source import (
    Message,
    PromptError,
    default_cache_dir,
    derive_seed,
    known_datasets,
    load_prompts,
    load_source,
    locate,
)
from vllm_bench.scenario.scenario import DATASETS

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parent
SCHEMAS = HERE / "data" / "prompts"
SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FILES = {
    "databricks/databricks-dolly-15k": "dolly.jsonl",
    "tatsu-lab/alpaca": "alpaca.jsonl",
    "OpenAssistant/oasst1": "oasst1.jsonl",
    "anon8231489123/ShareGPT_Vicuna_unfiltered": "sharegpt_v3.json",
}


class FakeHub:
    """The hub's side of `datasets`: small files of exactly its schemas."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.revision = "0123abc"
        self.refusal: Exception | None = None

    def dataset_info(self, repo: str, **_: object) -> object:
        if self.refusal:
            raise self.refusal
        return type("Info", (), {"sha": self.revision})()

    def load_dataset(self, repo: str, **asked: Any) -> object:
        self.calls.append({"repo": repo, **asked})
        return self.rows(repo)

    @functools.cache  # noqa: B019 - lives as long as a test
    def rows(self, repo: str) -> object:
        import datasets

        text = (SCHEMAS / FILES[repo]).read_text(encoding="utf-8")
        array = FILES[repo].endswith(".json")
        rows = json.loads(text) if array else [json.loads(line) for line in text.splitlines()]
        return datasets.Dataset.from_list(rows)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    import datasets
    import huggingface_hub

    fake = FakeHub()
    monkeypatch.setattr(datasets, "load_dataset", fake.load_dataset)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda _, repo, **k: fake.dataset_info(repo, **k)
    )
    return fake


def texts(dataset: str, cache_dir: Path) -> list[str]:
    return [prompt.text for prompt in load_prompts(dataset, cache_dir=cache_dir)]


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"file:{path}"


def error(dataset: str, cache_dir: Path, **settings: Any) -> str:
    with pytest.raises(PromptError) as raised:
        load_prompts(dataset, cache_dir=cache_dir, **settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# The hub's sets


@pytest.mark.usefixtures("hub")
def test_dolly_joins_instruction_and_context_and_drops_citation_marks(tmp_path: Path) -> None:
    assert texts("dolly", tmp_path) == [
        "When did the lighthouse start working?\n\n"
        "The lighthouse was lit in 1871. It is 31 m high  and white.",
        "Name three herbs that survive a cold winter.",
        "Explain how a canal lock lifts a boat, and write it for a child: naïve, but right.",
    ]


@pytest.mark.usefixtures("hub")
def test_prompts_are_named_after_their_rows_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    source = load_source("dolly", cache_dir=tmp_path)
    assert [prompt.id for prompt in source.prompts] == ["dolly:0", "dolly:1", "dolly:4"]
    assert source.notes == ("dolly: rows left out: 1 empty, 1 repeated",)
    assert load_source("dolly", cache_dir=tmp_path) == source, "the cache gives the same"


@pytest.mark.usefixtures("hub")
def test_sharegpt_is_alpaca_as_the_seed_has_it(tmp_path: Path) -> None:
    expected = [
        "Pick the word that doesn't belong.\n\nplum, pear, hammer, fig",
        "Write a rhyme about rain.",
    ]
    assert texts("sharegpt", tmp_path) == expected
    assert texts("alpaca", tmp_path) == expected


@pytest.mark.usefixtures("hub")
def test_openassistant_takes_english_beginnings_that_people_wrote(tmp_path: Path) -> None:
    assert texts("openassistant", tmp_path) == [
        "How do bees find their way home?",
        "Plan a week of dinners without onions.",
    ]


def test_sharegpt_v3_takes_the_first_human_turn_of_its_one_file(
    tmp_path: Path, hub: FakeHub
) -> None:
    assert texts("sharegpt-v3", tmp_path) == [
        "Summarize this letter in two lines.",
        "Go on from there.",
    ]
    assert hub.calls[0]["data_files"] == "ShareGPT_V3_unfiltered_cleaned_split.json"


@pytest.mark.parametrize(
    ("name", "files", "count"),
    [
        ("dolly", {"dolly.jsonl": "databricks-dolly-15k.jsonl"}, 3),
        (
            "openassistant",
            {"oasst1.jsonl": "train.jsonl", "oasst1-more.jsonl": "validation.jsonl"},
            3,
        ),
        ("sharegpt-v3", {"sharegpt_v3.json": "ShareGPT_V3_unfiltered_cleaned_split.json"}, 2),
    ],
)
def test_the_real_library_reads_a_folder_laid_out_like_the_hubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, str], count: int
) -> None:
    import datasets

    repo = tmp_path / "repo"
    repo.mkdir()
    for source, target in files.items():
        shutil.copy(SCHEMAS / source, repo / target)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(hub_module, "_resolve_revision", lambda *_: None)
    fetched = hub_module.fetch(dataclasses.replace(HUB_SETS[name], repo=str(repo)), None)
    assert len(fetched.source.prompts) == count


def test_a_set_is_fetched_once_at_the_revision_that_the_hub_has_now(
    tmp_path: Path, hub: FakeHub
) -> None:
    first, second = texts("dolly", tmp_path), texts("dolly", tmp_path)
    assert first == second
    assert [(c["repo"], c["revision"]) for c in hub.calls] == [
        ("databricks/databricks-dolly-15k", "0123abc")
    ]
    facts = json.loads((tmp_path / "prompts" / "dolly.json").read_text())
    lines = locate("dolly", tmp_path)
    assert lines is not None
    assert facts["revision"] == "0123abc"
    assert facts["sha256"] == hashlib.sha256(lines.read_bytes()).hexdigest()
    assert (facts["row_count"], facts["prompt_count"]) == (5, 3)


@pytest.mark.usefixtures("hub")
def test_a_cached_set_needs_neither_the_hub_nor_its_library(tmp_path: Path) -> None:
    expected = texts("dolly", tmp_path)
    program = (
        "import sys; sys.modules['datasets'] = sys.modules['huggingface_hub'] = None\n"
        "from pathlib import Path; from vllm_bench.prompts.source import load_prompts\n"
        "print(len(load_prompts('dolly', cache_dir=Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=ROOT / "bench",
    )  # fmt: skip
    assert done.stdout.strip() == str(len(expected))


@pytest.mark.usefixtures("hub")
def test_a_damaged_cache_is_refused_by_file_and_with_the_remedy(tmp_path: Path) -> None:
    texts("dolly", tmp_path)
    lines = locate("dolly", tmp_path)
    assert lines is not None
    lines.write_bytes(lines.read_bytes()[:-9])
    message = error("dolly", tmp_path)
    assert message.startswith(f"{lines}: damaged (its sha256 is not the recorded one)")
    assert message.endswith("python bench/load_real_prompts.py dolly --refresh")
    lines.unlink()
    assert "No such file" in error("dolly", tmp_path)
    (tmp_path / "prompts" / "dolly.json").write_text("{")
    assert "dolly.json: damaged" in error("dolly", tmp_path)


def test_the_token_is_sent_to_the_hub_and_written_nowhere(tmp_path: Path, hub: FakeHub) -> None:
    load_prompts("dolly", cache_dir=tmp_path, hf_token="hf_secret")
    assert hub.calls[0]["token"] == "hf_secret"
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hf_secret" not in path.read_bytes()
    hub.refusal = RuntimeError("bad header: Bearer hf_secret")
    assert "hf_secret" not in error("alpaca", tmp_path, hf_token="hf_secret")


def test_a_hub_that_denies_access_is_answered_with_hf_token(tmp_path: Path, hub: FakeHub) -> None:
    denied = RuntimeError("401 Client Error")
    denied.response = type("Response", (), {"status_code": 401})()  # type: ignore[attr-defined]
    hub.refusal = denied
    assert "HF_TOKEN is not set" in error("dolly", tmp_path)
    assert "HF_TOKEN was refused" in error("dolly", tmp_path, hf_token="hf_secret")


def test_a_full_disk_of_the_librarys_own_is_not_called_a_missing_hub(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", full)
    assert "can't be stored: [Errno 28] No space left" in error("dolly", tmp_path)
    assert not (tmp_path / "prompts").exists()


def test_a_set_whose_columns_have_changed_is_refused_by_column(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    changed = datasets.Dataset.from_list([{"question": "?", "context": ""}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: changed)
    assert "has no column instruction any more (it has question, context)" in error(
        "dolly", tmp_path
    )


def test_without_a_hub_one_line_names_sample_and_file_and_comes_soon(tmp_path: Path) -> None:
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "load_real_prompts.py"), "dolly"],
        env={
            "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"),
            "VLLM_BENCH_CACHE": str(tmp_path), "HF_TOKEN": "hf_secret", "PATH": "",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    announced, line, *more = done.stderr.splitlines()
    assert (done.returncode, done.stdout, more) == (1, "", [])
    assert announced.startswith("dolly: fetching https://huggingface.co/datasets/databricks/")
    assert "not fetched from the hub" in line
    assert "sample" in line
    assert "file:PATH" in line
    assert "hf_secret" not in done.stderr
    assert time.monotonic() - began_s < 15


def test_scenarios_may_name_every_set_that_is_known() -> None:
    assert set(known_datasets()) == set(DATASETS)


def test_an_unknown_set_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    assert error("dolli", tmp_path).startswith("dolli: no such dataset: known are dolly, alpaca")


# Files


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
    assert texts(write(tmp_path, "a.txt", "[INST] Hello\nWorld"), tmp_path) == [
        "[INST] Hello",
        "World",
    ]


def test_messages_are_cut_after_the_last_user_message(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "A"), ("assistant", "B"), ("user", "C")]
    row = {"messages": [{"role": r, "content": c} for r, c in [*turns, ("assistant", "D")]]}
    (prompt,) = load_prompts(write(tmp_path, "a.jsonl", json.dumps(row)), cache_dir=tmp_path)
    assert prompt.messages == tuple(Message(r, c) for r, c in turns)
    assert prompt.text == "Be brief.\n\nA\n\nB\n\nC"


def test_content_may_come_in_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]
    row = {"messages": [{"role": "user", "content": parts}]}
    assert texts(write(tmp_path, "a.jsonl", json.dumps(row)), tmp_path) == ["One two"]


def test_empty_and_repeated_prompts_are_left_out_and_counted(tmp_path: Path) -> None:
    name = write(tmp_path, "a.json", '["One", " ", "One", "", {"messages": []}, "Two"]')
    source = load_source(name, cache_dir=tmp_path)
    assert [p.id for p in source.prompts] == ["file:1", "file:6"]
    assert source.notes == (
        f"{name}: rows left out: 1 without a human prompt, 2 empty, 1 repeated",
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "empty: no prompts"),
        ("a.txt", " \n\n", "empty: no prompts"),
        ("a.bin", b"\x7fELF\0\0", "a binary file; wanted: UTF-8 text or JSON"),
        ("a.txt", b"fine\ncaf\xe9\n", "line 2: not UTF-8"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": ', "line 2: not JSON: "),
        ("a.json", '["x",\n "y"', "line 2: not JSON: "),
        ("a.jsonl", '{"question": 1}', "line 1: has none of the keys prompt, messages, conv"),
        (
            "a.jsonl",
            "{}",
            "keys prompt, messages, conversations, turns (its keys",
        ),
        ("a.jsonl", "17", "line 1: must be a text or an object, not a number"),
        ("a.json", '["x", null]', "entry 2: must be a text or an object, not nothing"),
        ("a.jsonl", '{"prompt": ["x"]}', "line 1: prompt must be a text, not a list"),
        ("a.jsonl", '{"messages": "x"}', "line 1: messages must be a list, not a text"),
        ("a.jsonl", '{"messages": ["x"]}', "line 1: messages[0] must be an object with role"),
        ("a.jsonl", '{"messages": [{"role": "tool"}]}', "messages[0].role must be one of system"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": null}]}',
            "messages[0].content must be a text, not nothing",
        ),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            "messages[0].content has parts that aren't text",
        ),
        ("a.jsonl", '{"conversations": [{"value": "x"}]}', "conversations[0] must have the keys"),
        (
            "a.jsonl",
            '{"conversations": [{"from": "human", "value": 3}]}',
            "conversations[0].value must be a text, not a number",
        ),
        ("a.jsonl", '"\\ud800"', "line 1: not JSON: "),
        ("a.jsonl", '" "\n""', "no prompts: 2 empty"),
        ("a.jsonl", '{"conversations": []}', "no prompts: 1 without a human prompt"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    dataset = write(tmp_path, name, content)
    found = error(dataset, tmp_path)
    assert found.startswith(f"{dataset}: ")
    assert message in found


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    assert error(f"file:{tmp_path}/no", tmp_path).endswith(
        "can't be read: No such file or directory"
    )
    assert error(f"file:{tmp_path}", tmp_path).endswith("can't be read: Is a directory")


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


# The bundle, the cache's place, the seed


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


def test_derived_seeds_are_fixed_for_ever_and_differ_by_purpose() -> None:
    assert derive_seed(0, "prompts") == 2156200471986163497
    assert derive_seed(0, "prompts") != derive_seed(0, "schedule")
    assert derive_seed(0, "prompts") != derive_seed(1, "prompts")
    assert all(0 <= derive_seed(n, "prompts") < 2**63 for n in range(100))


def test_every_hub_set_says_its_licence() -> None:
    assert all(s.licence for s in HUB_SETS.values())
    assert "NC" in HUB_SETS["sharegpt"].licence
    assert "not for commercial use" in (HUB_SETS["sharegpt"].warning or "")


# The script


def run_loader(*words: str, cache_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "load_real_prompts.py"), *words],
        env={"VLLM_BENCH_CACHE": str(cache_dir), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_loader_describes_each_set_in_a_line_and_goes_on_after_a_bad_one(
    tmp_path: Path,
) -> None:
    good = write(tmp_path, "a.jsonl", '"One"\n"One"\n')
    done = run_loader("file:/no", good, cache_dir=tmp_path)
    assert done.returncode == 1
    sha256 = hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    assert done.stdout == (
        f"{good}: 1 prompts; sha256 {sha256}; {tmp_path}/a.jsonl; rows left out: 1 repeated\n"
    )
    assert done.stderr == (
        "load_real_prompts.py: file:/no: can't be read: No such file or directory\n"
    )


def test_the_loader_lists_sets_with_their_licences(tmp_path: Path) -> None:
    done = run_loader("--list", cache_dir=tmp_path)
    assert "alpaca: not fetched; licence CC BY-NC 4.0 (non-commercial); https://" in done.stdout


@pytest.mark.parametrize(
    "words", [["dolli"], ["--list", "dolly"], ["--list", "--refresh"], ["sample", "--refresh"]]
)
def test_the_loader_refuses_what_makes_no_sense(tmp_path: Path, words: list[str]) -> None:
    done = run_loader(*words, cache_dir=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
