"""The files of a search: what is written is read back, and what isn't one is refused in a line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.beside.going_on import KeptError, checksum
from vllm_bench.search.kept import (
    COLUMNS,
    Search,
    read_search,
    searches,
    write_search,
)
from vllm_bench.search.steps import Space

from tests.search.made import knee, made_probe, searched

ROOT = Path(__file__).resolve().parents[2]
SPACE = Space(low=1, high=1000)


def made_search(**changes: Any) -> Search:
    fields: dict[str, Any] = {
        "id": "chat-20261128T150000Z-1f2e",
        "asked": "x",
        "scenario": {"name": "chat", "slo": {"ttft_ms": {"p99": 500.0}}},
        "of": "rate",
        "space": SPACE,
        "minutes": 30.0,
        "estimate_s": (300.0, 900.0),
        "server": {"version": "0.11"},
        "probes": tuple(searched(SPACE, knee(5.0))),
    }
    return Search(**{**fields, **changes})


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    search = made_search(
        probes=(made_probe(8.0, 3, limits=("KV cache full",)), made_probe(9.0, 60))
    )
    write_search(tmp_path, search)
    assert read_search(tmp_path / "capacity" / f"{search.id}.json") == search


def test_a_row_for_each_run_and_tier(tmp_path: Path) -> None:
    tiers = {"a": made_probe().late[""], "b": made_probe(so_late=60).late[""]}
    spoilt = made_probe(9.0, late=tiers, spoilt="INVALID (send_lag)")
    space = replace(SPACE, tiers=("a", "b"))
    write_search(tmp_path, made_search(space=space, probes=(made_probe(late=tiers), spoilt)))
    (path,) = (tmp_path / "capacity").glob("*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(r["tier"], r["outcome"], r["holds"]) for r in rows] == [
        ("a", "met", "yes"),
        ("b", "missed", "no"),
        ("a", "spoilt", ""),
        ("b", "spoilt", ""),
    ]


def test_the_newest_search_comes_first_and_others_files_are_left_out(tmp_path: Path) -> None:
    for name in ("chat-1", "chat-2"):
        write_search(tmp_path, made_search(id=name))
    (tmp_path / "capacity" / "other.json").write_text("{}")
    assert {s.id for s in searches(tmp_path)} == {"chat-1", "chat-2"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "tune"}', "nothing"])
def test_what_isnt_a_search_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(KeptError):
        read_search(path)


def test_a_file_of_another_search_is_refused(tmp_path: Path) -> None:
    write_search(tmp_path, made_search())
    (path,) = (tmp_path / "capacity").glob("*.json")
    with pytest.raises(KeptError):
        read_search(path.rename(path.with_name("other.json")))


def test_exit_codes() -> None:
    assert made_search().exit_code == 0
    assert made_search(probes=tuple(searched(SPACE, knee(0.5)))).exit_code == 3
    assert made_search(probes=()).exit_code == 4
    short = {"": ("output tokens/s ≥ 9",)}
    too_slow = tuple(replace(p, short=short) for p in searched(SPACE, knee(5.0)))
    assert made_search(probes=too_slow).exit_code == 3
    spoilt = made_probe(2, spoilt="INVALID (send_lag)")
    found = made_search(probes=(made_probe(1), spoilt, spoilt), status="stuck")
    assert found.exit_code == 4
    assert made_search(probes=(made_probe(1),), status="out of time").exit_code == 0


def test_a_checksum_is_that_of_the_facts() -> None:
    assert checksum({"a": 1, "b": [2]}) == checksum({"b": [2], "a": 1}) != checksum({"a": 2})


def test_the_answer_is_beside_the_rows(tmp_path: Path) -> None:
    write_search(tmp_path, made_search())
    (path,) = (tmp_path / "capacity").glob("*.json")
    (found,) = json.loads(path.read_text())["found"]
    assert (found["end"], found["confirmed"]) == ("confirmed", 3)


def test_each_column_is_documented() -> None:
    text = (ROOT / "docs" / "FILES.md").read_text()
    assert [c.name for c in COLUMNS if f"| {c.name} | {c.doc} |" not in text] == []
