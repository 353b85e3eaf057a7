"""The record of a request and the files of a run: what is written is what is read."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.records.request_record import (
    COLUMNS,
    LEAST_AND_MOST,
    RecordsError,
    RecordWriter,
    RequestRecord,
    read_rows,
)
from vllm_bench.records.row import cell_text, column_docs, column_types, csv_lines, text_of
from vllm_bench.records.run_info import (
    SCHEMA_VERSION,
    ClockPair,
    RunInfo,
    read_run_info,
    read_what_is_right,
    write_run_info,
)
from vllm_bench.records.safe_file import write_atomically

from tests.support.made_runs import failed_record, made_info, made_record

HEADER = ",".join(COLUMNS)
NASTY = 'HTTP 400: "max_tokens", said\nthe server,\r\nis\rtoo\u2028large: 1,000 > 512 — ü 🚀'
ONE_LINE = 'HTTP 400: "max_tokens", said the server, is too large: 1,000 > 512 — ü 🚀'


def written(path: Path, records: list[RequestRecord]) -> Path:
    writer = RecordWriter(path)
    writer.write(records)
    writer.close()
    return path


def with_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_header_is_the_columns_of_the_record(tmp_path: Path) -> None:
    path = written(tmp_path / "run.csv", [])
    assert path.read_text() == HEADER + "\n"
    assert [name for name, _ in column_docs(RequestRecord)] == list(COLUMNS)
    assert all(meaning for _, meaning in column_docs(RequestRecord))


def test_the_columns_that_people_rely_on_are_there() -> None:
    assert {"ttft_ms", "latency_ms", "error", "run_id", "tpot_ms", "error_kind"} <= set(COLUMNS)


def test_types_come_from_the_record() -> None:
    types = column_types(RequestRecord)
    assert types["completion_tokens"] == (int, True)
    assert types["request_index"] == (int, False)
    assert types["ttft_ms"] == (float, True)
    assert types["t_end_s"] == (float, False)
    assert types["error"] == types["error_kind"] == (str, True)
    assert types["run_id"] == (str, False)


# Hypothesis tries line breaks often enough by itself; the last ones are its blind spots.
TEXT = st.text(max_size=20) | st.sampled_from([NASTY, '"', ",", "\n", "\r\n", "NA", "nan", "0\0"])
OF_TYPE: dict[object, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(0, 2**53),
    float: st.floats(-1e6, 1e9),
}


def strategy_of(annotation: object) -> st.SearchStrategy[Any]:
    options = typing.get_args(annotation)
    if type(None) in options:
        rest = [o for o in options if o is not type(None)]
        return st.none() | st.one_of(*map(strategy_of, rest))
    return st.sampled_from(options) if options else OF_TYPE[annotation]


def column_of(name: str, hint: object) -> st.SearchStrategy[Any]:
    """Return what may stand in a column."""
    least, most = LEAST_AND_MOST.get(name, (0, 0))
    if not most:
        return strategy_of(hint)
    if hint is int:
        return st.integers(int(least), int(most))
    never_sent = st.none() if name == "t_sent_s" else st.nothing()
    return never_sent | st.floats(least, most)


RECORDS = st.builds(
    RequestRecord,
    **{
        name: column_of(name, hint)
        for name, hint in typing.get_type_hints(RequestRecord).items()
        if name in COLUMNS
    },
)


def as_read(value: object) -> object:
    """Return what a cell holds after the file: one line of text, microseconds, or nothing."""
    if isinstance(value, str):
        return text_of(cell_text(value)) or None  # see test_cells.py
    return float(f"{value:.6f}") if isinstance(value, float) else value


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, max_size=4, unique_by=lambda record: record.request_index))
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[RequestRecord]
) -> None:
    path = written(tmp_path_factory.mktemp("runs") / "run.csv", records)
    rows = read_rows(path)
    assert list(rows.columns) == list(COLUMNS)
    cells = zip(*(column.tolist() for column in rows.columns.values()), strict=True)
    found = [
        tuple(None if isinstance(v, float) and math.isnan(v) else v for v in row) for row in cells
    ]
    assert found == [tuple(map(as_read, dataclasses.astuple(r))) for r in records]
    assert path.read_bytes().count(b"\n") == len(records) + 1


def test_a_request_is_a_line_whatever_the_server_said(tmp_path: Path) -> None:
    records = [failed_record(i, error=NASTY) for i in range(50)]
    path = written(tmp_path / "run.csv", records)
    assert len(path.read_text().splitlines()) == path.read_bytes().count(b"\n") == 51
    assert set(read_rows(path)["error"]) == {ONE_LINE}


def test_half_a_surrogate_pair_stops_no_run(tmp_path: Path) -> None:
    path = written(tmp_path / "run.csv", [failed_record(error="bad \udc80 byte")])
    assert read_rows(path)["error"].tolist() == ["bad \\udc80 byte"]


def test_an_absent_value_is_an_empty_cell_and_zero_is_not(tmp_path: Path) -> None:
    path = written(tmp_path / "run.csv", [made_record(cached_tokens=0, connect_ms=None)])
    rows = read_rows(path)
    assert rows["cached_tokens"].tolist() == [0]
    assert not rows.has("connect_ms").any()
    assert not rows.has("error").any()


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    writer = RecordWriter(path)
    for index in range(3):
        writer.write([made_record(index)])
        assert len(read_rows(path)) == index + 1
    writer.close()


@pytest.mark.parametrize("cut", [1, 30, 170])
def test_a_last_line_that_a_kill_tore_off_is_left_out(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "run.csv", [made_record(0), failed_record(1, error=NASTY)])
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_rows(path)["request_index"].tolist() == [0]


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    path = with_text(tmp_path / "run.csv", "precious")
    with pytest.raises(FileExistsError):
        RecordWriter(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HEADER.replace("ttft_ms,", "", 1), "missing ttft_ms"),
        (HEADER + ",mood", "unknown mood"),
        (HEADER.replace("tpot_ms", "TPOT"), "missing tpot_ms; unknown TPOT"),
        (",".join(reversed(COLUMNS)), "columns out of order"),
    ],
    ids=["a column less", "a column more", "renamed", "reversed"],
)
def test_a_wrong_header_is_refused_by_name(tmp_path: Path, header: str, said: str) -> None:
    path = with_text(tmp_path / "run.csv", header + "\n")
    with pytest.raises(RecordsError) as refusal:
        read_rows(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert said in str(refusal.value)
    assert not str(refusal.value).endswith("unknown ")


LINE = csv_lines([made_record()])


@pytest.mark.parametrize(
    "rows",
    [
        LINE.replace(",20,", ",twenty,"),
        LINE.replace(",20,", ",20.5,"),
        LINE.replace(",20,", ",99999999999999999999,"),
        LINE.replace(",100.0", ",hundred"),
        LINE.rstrip("\n") + ",surplus\n",
        LINE + LINE.rstrip("\n") + ",surplus\n",
        ",".join(LINE.split(",")[:-2]) + "\n",
        LINE + LINE.rstrip("\n") + '"\n' + LINE.rstrip("\n") + '"\n',
        LINE + "\n" + LINE,
    ],
    ids=[
        "word for a count",
        "fraction for a count",
        "count beyond 64 bits",
        "word for a time",
        "cell too many in every row",
        "cell too many in one row",
        "cells too few",
        "quotes that swallow a line",
        "empty line",
    ],
)
def test_a_damaged_row_is_refused(tmp_path: Path, rows: str) -> None:
    path = with_text(tmp_path / "run.csv", f"{HEADER}\n{rows}")
    with pytest.raises(RecordsError, match="damaged row"):
        read_rows(path)


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"gone.csv: can't be read: No such file"):
        read_rows(tmp_path / "gone.csv")
    with pytest.raises(RecordsError, match=r"gone.json: can't be read: No such file"):
        read_run_info(tmp_path / "gone.json")


CLOCKS = st.builds(ClockPair, wall_s=st.floats(0, 1e10), monotonic_ns=st.integers(0, 2**62))


@settings(deadline=None)
@given(start=CLOCKS, end=st.none() | CLOCKS, notes=st.lists(st.text(max_size=20), max_size=3))
def test_a_runs_info_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, start: ClockPair, end: ClockPair, notes: list[str]
) -> None:
    info = made_info([made_record()], clock_start=start, clock_end=end, notes=notes)
    path = tmp_path_factory.mktemp("runs") / "run.json"
    write_run_info(path, info)
    assert read_run_info(path) == info


def changed_json(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "run.json"
    write_run_info(path, made_info([made_record()]))
    return with_text(path, json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_version_stands_in_the_file_and_another_one_is_refused(tmp_path: Path) -> None:
    path = changed_json(tmp_path)
    assert json.loads(path.read_text())["schema_version"] == SCHEMA_VERSION
    with pytest.raises(RecordsError, match=f"schema_version 999; this reads {SCHEMA_VERSION}"):
        read_run_info(changed_json(tmp_path, schema_version=999))


@pytest.mark.parametrize("changes", [{"clock_start": None}, {"clock_end": 5}, {"seeds": []}])
def test_an_info_of_another_shape_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    (key,) = changes
    with pytest.raises(RecordsError, match=rf"run\.json: .*{key}"):
        read_run_info(changed_json(tmp_path, **changes))


def test_keys_of_another_version_are_kept(tmp_path: Path) -> None:
    path = changed_json(tmp_path, mood="good", notes=["a"])
    info = read_run_info(path)
    assert info.others == {"mood": "good"}
    write_run_info(path, info)
    assert json.loads(path.read_text())["mood"] == "good"
    assert read_run_info(path) == info


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"run"', "\x00"])
def test_an_info_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecordsError, match=r"run\.json: not a run's JSON"):
        read_run_info(with_text(tmp_path / "run.json", text))


def test_a_whole_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = with_text(tmp_path / "run.json", "old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_the_old_file_stays_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = with_text(tmp_path / "run.json", "old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_the_status_of_a_run_under_way_is_running(tmp_path: Path) -> None:
    info: RunInfo = made_info([made_record()], status="running", clock_end=None)
    write_run_info(tmp_path / "run.json", info)
    assert read_run_info(tmp_path / "run.json").status == "running"


@pytest.mark.parametrize(
    "health",
    [
        {"workers": [None]},
        {"workers": [{}, None]},
        {"workers": 3},
        {"lateness_ms": [1]},
        {"machines": 3},
        {"machines": [None]},
        {"machines": [{"machine": "n" * 301}]},
        {"machines": [{"machine": "a", "lost": True}]},
        {"machines": [{"machine": "a", "offset_error_ms": -1}]},
        {"workers": [{"machine": 3, "clock_error_ms": "x"}]},
    ],
)
def test_what_is_of_no_use_in_a_list_is_left_out_and_told(tmp_path: Path, health: object) -> None:
    path = changed_json(tmp_path, client_health=health)
    info, problem = read_what_is_right(path)
    assert problem is not None
    assert "client_health." in problem
    assert None not in info.client_health.get("workers", [])


def test_a_file_with_an_older_name_of_a_column_is_read(tmp_path: Path) -> None:
    """`ttft_visible_ms` was what `ttfa_ms` is; columns that came later are empty."""
    path = written(tmp_path / "run.csv", [made_record(i, ttfa_ms=120.5) for i in range(3)])
    columns = [c for c in COLUMNS if c not in ("thoughts", "thinking_tokens")]
    rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [[row[COLUMNS.index(c)] for c in columns] for row in rows]
    kept[0][columns.index("ttfa_ms")] = "ttft_visible_ms"
    old = with_text(tmp_path / "old.csv", "".join(",".join(row) + "\n" for row in kept))
    found = read_rows(old)
    assert found["ttfa_ms"].tolist() == [120.5] * 3
    assert not found.has("thoughts").any()
    assert not found.has("thinking_tokens").any()


@pytest.mark.parametrize(("length", "right"), [(253, True), (300, True), (301, False)])
def test_a_machines_name_is_no_novel(tmp_path: Path, length: int, right: bool) -> None:
    path = written(tmp_path / "run.csv", [made_record(0, machine="n" * length)])
    if right:
        assert read_rows(path)["machine"].tolist() == ["n" * length]
        return
    with pytest.raises(RecordsError):
        read_rows(path)
