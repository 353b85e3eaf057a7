"""The hub's sets: what is read, what is left out, and each way that they can fail."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_bench.prompts import hub as hub_module
from vllm_bench.prompts.own.rows import first_human_turn
from vllm_bench.prompts.source import load_source, locate
from vllm_bench.scenario.datasets import DATASETS, HUB_SETS

from tests.support.data_sets import SCHEMAS, FakeHub, error, load_prompts, texts
from tests.support.far_end import CLOSE, FarEnd

ROOT = Path(__file__).resolve().parents[2]


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SCHEMAS / name).read_text().splitlines()]


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


@pytest.mark.usefixtures("hub")
def test_dolly_joins_instruction_and_context_and_drops_citation_marks(tmp_path: Path) -> None:
    rows = rows_of("dolly.jsonl")
    context = rows[0]["context"].replace("[3]", "").replace("[12]", "")
    assert texts("dolly", tmp_path) == [
        f"{rows[0]['instruction']}\n\n{context}",
        rows[1]["instruction"],
        rows[4]["instruction"],
    ]


@pytest.mark.usefixtures("hub")
def test_prompts_are_named_after_their_rows_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    source = load_source("dolly", cache_dir=tmp_path)
    assert [prompt.id for prompt in source.prompts] == ["dolly:0", "dolly:1", "dolly:4"]
    (note,) = source.notes
    assert "1 empty, 1 repeated" in note
    assert load_source("dolly", cache_dir=tmp_path) == source, "the cache gives the same"


@pytest.mark.usefixtures("hub")
def test_sharegpt_is_alpaca_as_the_seed_has_it(tmp_path: Path) -> None:
    first, second = rows_of("alpaca.jsonl")
    expected = [f"{first['instruction']}\n\n{first['input']}", second["instruction"]]
    assert texts("sharegpt", tmp_path) == expected
    assert texts("alpaca", tmp_path) == expected


@pytest.mark.usefixtures("hub")
def test_openassistant_takes_english_beginnings_that_people_wrote(tmp_path: Path) -> None:
    rows = rows_of("oasst1.jsonl")
    assert texts("openassistant", tmp_path) == [rows[0]["text"], rows[6]["text"]]


def test_sharegpt_v3_takes_the_first_human_turn_of_its_one_file(
    tmp_path: Path, hub: FakeHub
) -> None:
    begins, continued = json.loads((SCHEMAS / "sharegpt_v3.json").read_text())[:2]
    assert texts("sharegpt-v3", tmp_path) == [
        begins["conversations"][0]["value"],
        continued["conversations"][1]["value"],
    ]
    assert hub.calls[0]["data_files"] == "ShareGPT_V3_unfiltered_cleaned_split.json"


def test_a_conversation_that_is_odd_after_its_first_human_turn_is_not_left_out() -> None:
    row = {"conversations": [{"from": "human", "value": "One"}, {"value": "?"}, None]}
    assert first_human_turn(row) == "One"


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


@pytest.mark.process
@pytest.mark.usefixtures("hub")
def test_a_cached_set_needs_neither_the_hub_nor_its_library(tmp_path: Path) -> None:
    expected = texts("dolly", tmp_path)
    program = (
        "import sys; sys.modules['datasets'] = sys.modules['huggingface_hub'] = None\n"
        "from pathlib import Path; from vllm_bench.prompts.source import load_source\n"
        "print(len(load_source('dolly', cache_dir=Path(sys.argv[1])).prompts))"
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
    assert message.startswith(f"{lines}: damaged")
    assert "sha256" in message
    assert message.endswith("load_real_prompts.py dolly --refresh")
    lines.unlink()
    assert error("dolly", tmp_path).startswith(f"{lines}: damaged")
    facts = tmp_path / "prompts" / "dolly.json"
    facts.write_text("{")
    assert error("dolly", tmp_path).startswith(f"{facts}: damaged")


def test_the_token_is_sent_to_the_hub_and_written_nowhere(tmp_path: Path, hub: FakeHub) -> None:
    load_prompts("dolly", cache_dir=tmp_path, hf_token="hf_secret")
    assert hub.calls[0]["token"] == "hf_secret"
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hf_secret" not in path.read_bytes()
    hub.refusal = RuntimeError("bad header: Bearer hf_secret")
    assert "hf_secret" not in error("alpaca", tmp_path, hf_token="hf_secret")


def test_a_hub_that_denies_access_is_answered_with_hf_token(tmp_path: Path, hub: FakeHub) -> None:
    denied = RuntimeError("401")
    denied.response = type("Response", (), {"status_code": 401})()  # type: ignore[attr-defined]
    hub.refusal = denied
    without, refused = error("dolly", tmp_path), error("dolly", tmp_path, hf_token="hf_secret")
    assert "HF_TOKEN" in without
    assert "HF_TOKEN" in refused
    assert without != refused


def test_a_full_disk_of_the_librarys_own_is_not_called_a_missing_hub(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", full)
    found = error("dolly", tmp_path)
    assert "Errno 28" in found
    assert "file:PATH" not in found, "another set would not help"
    assert not (tmp_path / "prompts").exists()


def test_a_set_whose_columns_have_changed_is_refused_by_column(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    changed = datasets.Dataset.from_list([{"question": "?", "context": ""}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: changed)
    found = error("dolly", tmp_path)
    assert "column instruction" in found
    assert "question, context" in found


@pytest.mark.process
def test_without_a_hub_one_line_names_sample_and_file_and_it_is_asked_once(
    tmp_path: Path, far_end: FarEnd
) -> None:
    far_end.scripts = [[CLOSE]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "load_real_prompts.py"), "dolly"],
        env={
            "HF_ENDPOINT": f"http://127.0.0.1:{far_end.port}", "HF_HOME": str(tmp_path / "hf"),
            "VLLM_BENCH_CACHE": str(tmp_path), "HF_TOKEN": "hf_secret", "PATH": "",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    announced, line, *more = done.stderr.splitlines()
    assert (done.returncode, done.stdout, more) == (1, "", [])
    assert announced.startswith("dolly: fetching https://huggingface.co/datasets/databricks/")
    assert "sample" in line
    assert "file:PATH" in line
    assert "hf_secret" not in done.stderr
    asked = [r.path for r in far_end.requests if "databricks" in r.path]
    assert len(asked) == 1  # and not again and again


def test_an_unknown_set_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    found = error("dolli", tmp_path)
    assert found.startswith("dolli: ")
    assert ", ".join(DATASETS) in found


def test_every_hub_set_says_its_licence() -> None:
    assert all(s.licence for s in HUB_SETS.values())
    assert "NC" in HUB_SETS["sharegpt"].licence
    assert "CC BY-NC 4.0" in (HUB_SETS["sharegpt"].warning or "")
