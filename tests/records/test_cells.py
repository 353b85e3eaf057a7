"""Texts in cells: no spreadsheet runs them, no terminal obeys them, and they are read back."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.sample_file import read_gpu_rows
from vllm_bench.records.request_record import RecordWriter, read_rows
from vllm_bench.records.row import Column, cell_text, text_of, to_csv

from tests.support.made_runs import failed_record, gpu_row, write_gpu_rows

EVIL = ["=cmd|' /C calc'!A0", "@SUM(1+1)", "+1+cmd|' /C calc'!A0", "-2+3", " =1", "'=1", "\uff1d1"]
HARMLESS = [
    "-5",
    "+3.5e7",
    "- 12.5 -",
    "-",
    "'str' object has no attribute",
    "a=b",
    "",
    "x@y",
    "ü 🚀",
]
PARTS = st.sampled_from(
    [*EVIL, *HARMLESS, "\x1b[31m", "\t", "\r\n", "\0", "\u202e", "\ud83d", ",", '"']
)
TEXTS = st.lists(PARTS | st.text(max_size=5), max_size=4).map("".join)


@pytest.mark.parametrize("text", EVIL)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert cell_text(text) == f"'{text}"
    assert text_of(cell_text(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_texts_are_as_they_are(text: str) -> None:
    assert cell_text(text) == text_of(text) == text


@given(TEXTS)
def test_a_text_is_read_back_with_what_is_not_printable_spelled_out(text: str) -> None:
    cell = cell_text(text)
    read = text_of(cell)
    assert cell_text(read) == cell  # to read and write it again changes nothing
    if text.isprintable():
        assert read == text
    assert not {c for c in cell if ord(c) < 32 or 127 <= ord(c) < 160}
    assert cell[:1] not in set("=@\uff1d\uff20")


@given(TEXTS.filter(str.strip))
def test_every_file_of_rows_has_such_cells(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    writer = RecordWriter(folder / "x.csv")
    writer.write([failed_record(error=text, prompt_id="p" + text)])
    writer.close()
    assert read_rows(folder / "x.csv")["error"].tolist() == [text_of(cell_text(text)) or None]
    write_gpu_rows(folder / "x.csv", [gpu_row(0.0, throttle_reasons=text)])
    samples = read_gpu_rows(folder / "x.csv")
    assert samples is not None
    assert samples["throttle_reasons"].tolist() == [text_of(cell_text(text)) or None]


def test_the_summarys_cells_are_such_too_and_its_numbers_untouched(tmp_path: Path) -> None:
    columns = [Column("a", "", "a"), Column("b", "", "b")]
    data = to_csv(columns, [{"a": "=1+1", "b": -2.5}, {"a": "\x1b[2J", "b": -3}])
    assert list(csv.reader(io.StringIO(data.decode()))) == [
        ["a", "b"],
        ["'=1+1", "-2.5000"],
        ["\\x1b[2J", "-3"],
    ]
