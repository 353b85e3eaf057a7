"""A run that is over gets what it lacks, and nothing twice, wherever a kill cut its files off."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.records.beside.answers import AnswerRow, AnswerWriter, read_answers
from vllm_bench.records.beside.more_rows import MoreRows
from vllm_bench.records.beside.token_file import Reads, TokenWriter, read_stamps
from vllm_bench.records.request_record import (
    RecordsError,
    RecordWriter,
    RequestRecord,
    read_rows,
)
from vllm_bench.records.row import csv_lines

from tests.support.made_runs import made_answer, made_record

One = tuple[RequestRecord, Reads, tuple[AnswerRow, str] | None]
RUN_ID = made_record().run_id
COUNT = 4


def one(index: int) -> One:
    """A request of two reads, and its answer."""
    record = made_record(index, token_reads=2)
    assert record.t_sent_s is not None
    first_ns = round((record.t_sent_s + 0.1) * 1e9)
    reads = (array("q", [first_ns, first_ns + index]), array("H", [1, 1]), array("H", [1, index]))
    return record, reads, (made_answer(index), f"so it is {index}")


def written(folder: Path, ones: Iterable[One], *, ended: bool = False) -> Path:
    """Write a run as it goes on, or as it has ended; return its rows."""
    path = folder / f"{RUN_ID}.csv"
    rows, tokens = RecordWriter(path), TokenWriter(folder / "tokens", RUN_ID)
    answers = AnswerWriter(folder / "answers", RUN_ID, texts=True)
    for record, reads, answer in ones:
        rows.write([record])
        tokens.write(record.request_index, reads)
        answers.write([answer] if answer else [], ())
    tokens.flush()
    for file in (rows, answers, *((tokens,) if ended else ())):
        file.close()
    if not ended:
        tokens._file.close()  # a kill doesn't make the complete file
    return path


def added(path: Path, ones: Iterable[One]) -> int:
    more = MoreRows(path)
    try:
        return more.write(list(ones))
    finally:
        more.close()


def held(path: Path) -> Any:
    """What its files say: row by row in the order of requests."""
    rows, stamps, answers = read_rows(path), read_stamps(path, read_rows(path)), read_answers(path)
    assert stamps is not None
    assert answers is not None
    pieces = np.split(stamps["t_ns"], stamps["first_read"][1:-1])
    texts = path.parent / "answers" / f"{RUN_ID}.jsonl"
    return (
        sorted(rows["request_index"].tolist()),
        {i: p.tolist() for i, p in zip(stamps["request_index"].tolist(), pieces, strict=True)},
        sorted(answers["request_index"].tolist()),
        sorted(texts.read_bytes().splitlines()),
    )


@settings(max_examples=40)
@given(
    before=st.integers(0, COUNT),
    cuts=st.tuples(*[st.floats(0, 1)] * 4),
    fetched=st.lists(st.integers(0, COUNT - 1)),
)
def test_wherever_the_files_were_cut_they_are_whole_then(
    before: int, cuts: tuple[float, ...], fetched: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name)).joinpath("whole").mkdir()
        folder.joinpath("cut").mkdir()
        wanted = held(written(folder / "whole", map(one, range(COUNT))))
        path = written(folder / "cut", map(one, range(before)))
        beside = [("tokens", ".part"), ("answers", ".csv"), ("answers", ".jsonl")]
        files = [path, *(path.parent / place / f"{RUN_ID}{end}" for place, end in beside)]
        for file, cut in zip(files, cuts, strict=True):
            data = file.read_bytes()
            least = data.index(b"\n") + 1 if file.suffix == ".csv" else 0  # its header is there
            os.truncate(file, least + round(cut * (len(data) - least)))
        added(path, map(one, fetched))
        added(path, map(one, range(COUNT)))
        assert added(path, map(one, range(COUNT))) == 0
        assert held(path) == wanted


@pytest.mark.parametrize("later_s", [0.0, 0.004, -0.25])
def test_stamps_that_come_after_their_row_are_by_its_clock(tmp_path: Path, later_s: float) -> None:
    path = written(tmp_path, [])
    record, reads, answer = one(1)
    assert record.t_sent_s is not None
    sent_s, end_s = record.t_sent_s + later_s, record.t_end_s + later_s
    moved = dataclasses.replace(record, t_sent_s=sent_s, t_end_s=end_s)
    with path.open("a") as out:
        out.write(csv_lines([moved]))
    assert added(path, [(record, reads, answer), one(2)]) == 1
    stamps = held(path)[1]
    assert stamps[1][1] - stamps[1][0] == reads[0][1] - reads[0][0]
    assert stamps[2] == one(2)[1][0].tolist()
    assert stamps[1][0] == pytest.approx(reads[0][0] + later_s * 1e9, abs=1000)


def test_while_a_run_that_ended_is_taken_up_its_stamps_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, map(one, (0, 2)), ended=True)
    more = MoreRows(path)
    assert held(path)[1].keys() == {0, 2}
    more.write(list(map(one, (1, 3))))
    held(path)  # a kill here leaves rows whose stamps are to come
    more.close()
    assert held(path)[1].keys() == {0, 1, 2, 3}


def test_a_run_that_ended_gets_a_complete_file_again(tmp_path: Path) -> None:
    path = written(tmp_path, map(one, (0, 2)), ended=True)
    assert added(path, map(one, (0, 1, 2, 3))) == 2
    assert held(path)[0] == [0, 1, 2, 3]
    assert [p.suffix for p in (tmp_path / "tokens").iterdir()] == [".npz"]


def test_only_what_a_run_keeps_is_added(tmp_path: Path) -> None:
    path = tmp_path / f"{RUN_ID}.csv"
    RecordWriter(path).close()
    assert added(path, map(one, range(3))) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_that_was_killed_before_its_header_gets_one(tmp_path: Path) -> None:
    path = tmp_path / f"{RUN_ID}.csv"
    path.touch()
    assert added(path, map(one, range(3))) == 3
    assert read_rows(path)["request_index"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("place", ["rows", "tokens", "answers"])
def test_a_file_that_is_damaged_is_left_as_it_is(tmp_path: Path, place: str) -> None:
    path = written(tmp_path, map(one, range(2)), ended=True)
    files = {
        "rows": path,
        "tokens": tmp_path / "tokens" / f"{RUN_ID}.npz",
        "answers": tmp_path / "answers" / f"{RUN_ID}.csv",
    }
    whole = files[place].read_bytes()
    files[place].write_bytes(b"damaged\n" + whole[: len(whole) // 2])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(RecordsError):
        added(path, map(one, range(4)))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
