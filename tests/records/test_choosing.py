"""Which runs are meant where nobody names them: sessions, labels, levels, and what is left out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.find_runs import Asked, choose
from vllm_bench.records.run_info import ClockPair, read_head, read_run_info, write_run_info

from tests.support.made_runs import NOON_S, made_info, made_record, write_run


def add(folder: Path, name: str, at: int, session: str | None = None, **changes: Any) -> None:
    """Write a run of 4 streams, or as told, that began so many seconds after noon."""
    load = {key: changes.pop(key) for key in ("concurrency", "request_rate") if key in changes}
    records = [made_record(0, run_id=name, **load)]
    label, status = changes.pop("label", None), changes.pop("status", "complete")
    info = made_info(records, scenario={"label": label, **changes.pop("scenario", {})}, **changes)
    clock = ClockPair(wall_s=NOON_S + at, monotonic_ns=0)
    info = dataclasses.replace(info, session=session, clock_start=clock, status=status)
    write_run(folder, records, info)


def chosen(folder: Path, *names: str, **asked: Any) -> set[str]:
    """Return the ids of the runs that are meant."""
    return {path.stem for path in choose(Asked(names=names, **asked), folder).paths}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Three sessions: two levels twice; one of them again; another label."""
    add(tmp_path, "a1", 0, "s1", repeat=1)
    add(tmp_path, "a2", 1, "s1", repeat=2)
    add(tmp_path, "a8", 2, "s1", concurrency=8)
    add(tmp_path, "b1", 3, "s2", repeat=1)
    add(tmp_path, "b2", 4, "s2", repeat=2)
    add(tmp_path, "c1", 5, "s3", label="seqs64")
    return tmp_path


def test_of_each_level_of_each_label_the_newest_session_is_meant(history: Path) -> None:
    found = choose(Asked(), history)
    assert {path.stem for path in found.paths} == {"a8", "b1", "b2", "c1"}
    assert {path.stem for path in found.left_out} == {"a1", "a2"}
    assert found.name is None


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"every": True}, {"a1", "a2", "a8", "b1", "b2", "c1"}),
        ({"last": True}, {"c1"}),
        ({"label": "seqs64"}, {"c1"}),
        ({"label": ""}, {"a8", "b1", "b2"}),
        ({"label": "", "last": True}, {"b1", "b2"}),
        ({"label": "", "every": True}, {"a1", "a2", "a8", "b1", "b2"}),
    ],
)
def test_others_are_meant_where_that_is_said(
    history: Path, asked: dict[str, Any], meant: set[str]
) -> None:
    found = choose(Asked(**asked), history)
    assert {path.stem for path in found.paths} == meant
    assert found.problems == []


def test_what_is_named_is_meant_however_old(history: Path) -> None:
    found = choose(Asked(names=["a1", "a8"]), history)
    assert [path.stem for path in found.paths] == ["a1", "a8"]
    assert found.left_out == []
    assert found.name == "a1+1"
    assert choose(Asked(names=["b2"]), history).name == "b2"
    assert chosen(history, "a*", last=True) == {"a1", "a2", "a8"}


def test_a_folder_that_is_named_stands_for_what_lies_there(history: Path) -> None:
    found = choose(Asked(names=[str(history)]), Path("elsewhere"))
    assert {path.stem for path in found.paths} == {"a8", "b1", "b2", "c1"}
    assert found.name is None
    both = choose(Asked(names=[str(history / "a1.csv"), str(history)]), history)
    assert {path.stem for path in both.paths} == {"a1", "a8", "b1", "b2", "c1"}
    assert {path.stem for path in both.left_out} == {"a2"}


def test_each_folder_has_newest_runs_of_its_own(tmp_path: Path) -> None:
    for at, name in enumerate(("old", "new")):
        (tmp_path / name).mkdir()
        add(tmp_path / name, name, at, name)
    assert chosen(tmp_path, str(tmp_path / "old"), str(tmp_path / "new")) == {"old", "new"}


def test_runs_of_earlier_versions_stand_alone(tmp_path: Path) -> None:
    for at in range(3):
        add(tmp_path, f"run{at}", at)
    assert chosen(tmp_path) == {"run2"}
    assert chosen(tmp_path, last=True) == {"run2"}
    add(tmp_path, "of-a-session", -1, "s")
    assert chosen(tmp_path) == {"run2"}


@pytest.mark.parametrize(
    "other",
    [
        {"scenario": {"name": "another"}},
        {"label": "another"},
        {"concurrency": 8},
        {"request_rate": 4.0},
        {"plan": {"speed": 2.0}},
    ],
)
def test_levels_differ_in_scenario_label_and_load(tmp_path: Path, other: dict[str, Any]) -> None:
    add(tmp_path, "one", 0, "s1")
    add(tmp_path, "two", 1, "s2", **other)
    assert chosen(tmp_path) == {"one", "two"}
    add(tmp_path, "three", 2, "s3", **other)
    assert chosen(tmp_path) == {"one", "three"}


@pytest.mark.parametrize("status", ["interrupted", "incomplete"])
def test_a_run_that_was_resumed_stands_in_for_the_one_that_was_not_whole(
    tmp_path: Path, status: str
) -> None:
    add(tmp_path, "whole", 0, "s", repeat=1)
    add(tmp_path, "broken", 1, "s", repeat=2, status=status)
    assert chosen(tmp_path) == {"whole", "broken"}
    add(tmp_path, "again", 2, "s", repeat=2)
    assert chosen(tmp_path) == chosen(tmp_path, last=True) == {"whole", "again"}


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"run_id": 1}', '{"schema_version": 9}'])
def test_a_run_of_which_nothing_is_known_is_not_passed_over(
    history: Path, text: str | None
) -> None:
    add(history, "damaged", 9, "s9")
    json = history / "damaged.json"
    json.unlink() if text is None else json.write_text(text)
    assert "damaged" in chosen(history)
    assert chosen(history, last=True) == {"c1", "damaged"}  # it was written since c1 began
    (problem,) = choose(Asked(label="seqs64"), history).problems
    assert "damaged.csv" in problem
    os.utime(history / "damaged.csv", (NOON_S, NOON_S))
    assert chosen(history, last=True) == {"c1"}


def test_a_label_that_no_run_has_is_told_with_those_there_are(history: Path) -> None:
    found = choose(Asked(label="seqs46"), history)
    assert found.paths == []
    (problem,) = found.problems
    assert "--label seqs46" in problem
    assert "seqs64" in problem


def test_a_json_of_another_run_says_nothing_of_a_run(history: Path) -> None:
    add(history, "copy", 9, "s9")
    (history / "copy.json").write_bytes((history / "a1.json").read_bytes())
    assert "copy" in chosen(history)


def test_a_name_for_files_never_leaves_its_folder(history: Path) -> None:
    add(history, "odd", 9, "s9", label="../../up")
    name = choose(Asked(label="../../up"), history).name
    assert name
    assert "/" not in name
    assert not name.startswith(".")


def test_a_head_is_the_whole_jsons_without_what_is_long(tmp_path: Path) -> None:
    add(tmp_path, "run", 3, "s1", label="seqs64", repeat=2)
    path = tmp_path / "run.json"
    whole = dataclasses.replace(read_run_info(path), client_health={"workers": [{"lost": 7}]})
    write_run_info(path, whole)  # a wrong kind, where a head doesn't look
    head = read_head(path)
    for key in ("run_id", "session", "scenario", "concurrency", "repeat", "clock_start", "status"):
        assert getattr(head, key) == getattr(whole, key), key
    assert head.client_health == {}


def test_all_visits_of_an_experiment_are_one_session(tmp_path: Path) -> None:
    def visit(name: str, at: int, number: int, **more: Any) -> None:
        told = {"kind": "ab", "id": "x", "visit": number}
        add(tmp_path, name, at, f"s{number}", experiment=told, **more)

    visit("v1", 1, 1, label="a")
    visit("v4", 4, 4, label="a")
    visit("v2", 2, 2, label="b")
    visit("v3", 3, 3, label="b", status="interrupted")  # broken off, and not made again
    add(tmp_path, "older", 0, "s0", label="a")
    assert chosen(tmp_path, label="a") == {"v1", "v4"}
    assert chosen(tmp_path, last=True) == {"v1", "v2", "v3", "v4"}
    assert chosen(tmp_path) == {"v1", "v2", "v3", "v4"}
