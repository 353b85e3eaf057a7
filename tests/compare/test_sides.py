"""Which runs A and B are: one meaning for each word, and a refusal where there are two or none."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.compare.sides import Named, history, sides
from vllm_bench.errors import UsageError
from vllm_bench.records.run_info import read_run_info, write_run_info

from tests.compare.written import write_side as write_runs
from tests.support.reading import one_line

THEIRS = {"completed": 3, "request_throughput": 1.0, "output_throughput": 9.0, "max_concurrency": 4}


def write_side(folder: Path, label: str, **more: Any) -> None:
    """Write runs of a few requests: what they measured doesn't matter here."""
    write_runs(folder, label, requests=4, **more)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two labels with two runs each, seen from the folder above."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    write_side(folder, "old", repeats=2)
    write_side(folder, "new", repeats=2, at_s=100)
    return folder


def names(side: Named) -> set[str]:
    return {path.stem for path in side.runs}


OLD, NEW = (
    {"made-old-cc4-r1-0", "made-old-cc4-r2-0"},
    {"made-new-cc4-r1-100", "made-new-cc4-r2-100"},
)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("old", "new"),
        ("label:old", "label:new"),
        ("made-old-*", "results/made-new-*.csv"),
        ("made-old-cc4-r1-0,made-old-cc4-r2-0", "made-new-cc4-r1-100, made-new-cc4-r2-100"),
        ("results/made-old-cc4-r1-0.csv,results/made-old-cc4-r2-0.json", "new"),
    ],
)
def test_a_side_is_a_label_or_names_runs(results: Path, a: str, b: str) -> None:
    one, other = sides(a, b, results)
    assert (names(one), names(other)) == (OLD, NEW)


def test_a_folder_is_a_side(results: Path, tmp_path: Path) -> None:
    write_side(tmp_path / "last week", "old", repeats=1, at_s=-1000)
    one, other = sides("last week", "old", results)
    assert (names(one), names(other)) == ({"made-old-cc4-r1--1000"}, OLD)


def test_of_a_folder_runs_of_one_class_alone_are_no_side_of_their_own(
    results: Path, tmp_path: Path
) -> None:
    night = tmp_path / "night"
    write_side(night, "", repeats=1, at_s=-1000)
    for name in ("chat", "legal"):
        write_side(night, f"alone-{name}", repeats=1, at_s=-1000, plan={"alone": name})
    one, _ = sides("night", "old", results)
    assert names(one) == {"made-none-cc4-r1--1000"}
    assert names(history("night", "old", results)[0]) == {"made-none-cc4-r1--1000"}
    lonely = tmp_path / "lonely"
    write_side(lonely, "alone-chat", repeats=1, at_s=-500, plan={"alone": "chat"})
    assert names(sides("lonely", "old", results)[0]) == {"made-alone-chat-cc4-r1--500"}


def test_runs_without_a_label_are_a_side(results: Path) -> None:
    write_side(results, "", repeats=1)
    one, _ = sides("label:", "new", results)
    assert names(one) == {"made-none-cc4-r1-0"}


def test_of_a_label_it_is_the_newest_session(results: Path) -> None:
    write_side(results, "old", repeats=1, at_s=50)
    one, _ = sides("old", "new", results)
    assert names(one) == {"made-old-cc4-r1-50"}
    assert {path.stem for path in one.left_out} == OLD


def test_all_visits_of_an_experiment_are_one_session(results: Path) -> None:
    for visit in (1, 4):
        told = {"kind": "ab", "id": "x", "side": "old", "visit": visit, "pair": visit // 2 + 1}
        write_side(results, "old", repeats=1, at_s=50 + visit, experiment=told)
    one, _ = sides("old", "new", results)
    assert names(one) == {"made-old-cc4-r1-51", "made-old-cc4-r1-54"}


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("odl", "new", "did you mean old?"),
        ("label:odl", "new", "did you mean old?"),
        ("label:", "new", "each run has a label"),
        ("old", "", "B ''"),
        ("old,", "new", "name a label"),
        ("results", "new", "several labels (new, old)"),
        ("old", "old", "the same runs"),
        ("old", "made-old-cc4-r1-0", "the same runs (made-old-cc4-r1-0)"),
        ("old", "new,old", "the same runs"),
        ("old", "nothing-*", "B nothing-*: no label, folder, run or file"),
        ("old\x1b[31m", "new", r"\x1b[31m"),
        ("old", "b\x00d", "no label"),
    ],
)
def test_what_can_not_be_meant_is_refused(results: Path, a: str, b: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        sides(a, b, results)
    assert told in one_line(str(refused.value))


def test_a_label_that_is_a_folder_with_runs_too_is_refused(results: Path, tmp_path: Path) -> None:
    write_side(tmp_path / "old", "other", repeats=1)
    with pytest.raises(UsageError, match=r"label:old, or \./old for the folder"):
        sides("old", "new", results)
    assert names(sides("label:old", "new", results)[0]) == OLD
    assert names(sides("./old", "new", results)[0]) == {"made-other-cc4-r1-0"}


def test_a_folder_without_runs_leaves_a_label_its_name(results: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    assert names(sides("old", "new", results)[0]) == OLD
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no runs in empty"):
        sides("empty", "new", results)


def test_a_copy_of_a_run_is_the_same_run(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    with pytest.raises(UsageError, match="the same runs"):
        sides("old", "copy/made-old-*", results)


def test_a_label_that_no_script_would_set_is_shown_escaped(results: Path) -> None:
    path = results / "made-old-cc4-r1-0.json"
    info = read_run_info(path)
    odd = {**info.scenario, "label": "\x1b[2Jx"}
    write_run_info(path, dataclasses.replace(info, scenario=odd))
    with pytest.raises(UsageError) as refused:
        sides("nothing", "new", results)
    assert "\x1b" not in str(refused.value)


def test_a_results_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make bench"):
        sides("old", "new", tmp_path / "nowhere")


def test_what_vllm_wrote_is_a_side_but_not_beside_runs(results: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for name in ("one", "two"):
        (tmp_path / "theirs" / f"{name}.json").write_text(json.dumps(THEIRS))
    for word in ("theirs", "theirs/*.json", "theirs/one.json,theirs/two.json"):
        one, other = sides(word, "new", results)
        assert ({path.stem for path in one.files}, one.runs) == ({"one", "two"}, ())
        assert names(other) == NEW
    with pytest.raises(UsageError, match="name one kind"):
        sides("theirs/one.json,old", "new", results)
    with pytest.raises(UsageError, match="takes runs"):
        history("theirs", "new", results)


def test_a_history_is_every_run_but_the_candidates(results: Path) -> None:
    write_side(results, "old", repeats=1, at_s=50)
    nights, candidate = history("old", "old", results)
    assert names(candidate) == {"made-old-cc4-r1-50"}
    assert names(nights) == OLD


def test_nights_may_have_a_label_each(results: Path) -> None:
    nights, candidate = history("results", "new", results)
    assert (names(nights), names(candidate)) == (OLD, NEW)
