"""The client's own error as a row: medians, files, and its place beside the run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from vllm_bench.charts.against_load import calibration_chart
from vllm_bench.charts.chart import Heading
from vllm_bench.charts.pen_matplotlib import draw
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RecordsError
from vllm_bench.records.row import to_csv
from vllm_bench.summary.calibration import (
    COLUMNS,
    FIELDS,
    Calibration,
    in_words,
    is_exact,
    judged,
    median_of,
    read_sidecar,
    sidecar,
    to_markdown,
    write_sidecar,
)
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import summarize
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.text_tables import footnotes

from tests.support.made_runs import made_info, made_record, write_run


def row(**changes: float | None) -> Calibration:
    values: dict[str, float | None] = {
        column.name: float(place) for place, column in enumerate(COLUMNS, start=1)
    }
    return Calibration(**{**values, "streams": 64, **changes})  # type: ignore[arg-type]


def test_the_median_is_of_each_figure_and_leaves_absences_out() -> None:
    rows = [row(ttft_error_mean_ms=e, stamp_p99_ms=p) for e, p in ((3, None), (1, 8), (2, 6))]
    found = median_of(rows)
    assert (found.ttft_error_mean_ms, found.stamp_p99_ms, found.streams) == (2, 7, 64)
    assert median_of([row(stamp_p99_ms=None)]).stamp_p99_ms is None


def test_csv_and_markdown_hold_every_figure() -> None:
    rows = [row(), row(streams=256)]
    header, *lines = csv.reader(io.StringIO(to_csv(COLUMNS, rows, digits=None).decode()))
    assert header == [column.name for column in COLUMNS]
    assert [line[0] for line in lines] == ["64", "256"]
    table = to_markdown(rows, "A machine.")
    assert all(f"| {field.metadata['heading']} |" in table for field in FIELDS)
    assert "A machine." in table


def test_the_error_at_a_runs_load_stands_beside_it(tmp_path: Path) -> None:
    records = [made_record(i) for i in range(20)]
    path = write_run(tmp_path, records, made_info(records))
    before = summarize(load_run(path))
    assert before.calibration is None
    write_sidecar(sidecar(tmp_path, path.stem), row(ttft_error_mean_ms=0.61))
    after = summarize(load_run(path))
    assert after.calibration == row(ttft_error_mean_ms=0.61)
    assert any("+0.61 ms" in note for note in footnotes(*series_of([after])))
    assert not any("calibrate" in note for note in footnotes(*series_of([before])))
    (values,) = csv.DictReader(io.StringIO(to_csv(SUMMARY_COLUMNS, [after]).decode()))
    assert values["client_ttft_error_mean_ms"] == "0.6100"


def test_a_damaged_error_is_refused_by_name(tmp_path: Path) -> None:
    path = sidecar(tmp_path, "run")
    path.parent.mkdir()
    for text in ("{", '{"streams": 1}', "[]"):
        path.write_text(text)
        with pytest.raises(RecordsError, match=r"run\.json: not a calibration"):
            read_sidecar(path)
    assert read_sidecar(sidecar(tmp_path, "other")) is None


def test_it_is_told_in_words_and_drawn() -> None:
    assert "64 streams" in in_words(row(ttft_error_p99_ms=None))
    chart = calibration_chart([row(streams=n) for n in (1, 8, 64)])
    figure = draw(chart, Heading(chart.title, "2 cores.", chart.doc))
    assert len(figure.axes) == 2
    figure.canvas.draw()


EXACT = {"stamp_p99_ms": 0.03, "merged_percent": 0.0}


@pytest.mark.parametrize(
    ("changes", "exact"),
    [
        ({}, True),
        ({"stamp_p99_ms": 0.2}, False),
        ({"stamp_p99_ms": None}, False),
        ({"merged_percent": 0.2}, False),
        ({"merged_percent": None}, False),
    ],
)
def test_a_level_is_exact_if_stamps_are_and_hardly_a_read_merged_events(
    changes: dict[str, float | None], exact: bool
) -> None:
    assert is_exact(row(**{**EXACT, **changes})) is exact


def test_the_line_names_the_last_exact_load_and_the_first_beyond() -> None:
    levels = [
        row(**EXACT, tokens_per_s=3000.0),
        row(**EXACT, streams=256, tokens_per_s=12_500.0),
        row(streams=512, stamp_p99_ms=0.8, merged_percent=0.4),
        row(**EXACT, streams=1000),
    ]
    said = judged(levels)
    exact, beyond = said.split(" At 512 streams")
    assert "256 streams and 12,500 tokens/s" in exact
    assert "0.030 ms" in exact
    for figure in ("0.800 ms", "0.40 %", "more cores"):
        assert figure in beyond
    assert "Nothing beyond" in judged(levels[:2])
    assert "Not exact here" in judged(levels[2:3])


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = sidecar(tmp_path, "r")
    write_sidecar(path, row())
    known = json.loads(path.read_text())
    for name in ("late_p99_ms", "merged_percent", "first_merged_percent"):
        del known[name]
    path.write_text(json.dumps(known))
    found = read_sidecar(path)
    assert found is not None
    assert found.merged_percent is None
