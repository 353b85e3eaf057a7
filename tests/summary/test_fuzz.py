"""One odd value anywhere in a run's files never keeps the run's other figures, or other runs, away.

The whole way from files to tables: a run is read, summed up and shown; nothing but RecordsError
may come out, and what was left out is told.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RecordsError
from vllm_bench.records.row import to_csv
from vllm_bench.summary.calibration import FIELDS, Calibration, sidecar, write_sidecar
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import RunSummary, sorted_summaries, summarize
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.document import to_json
from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
from vllm_bench.tables.markdown import to_markdown

from tests.records.odd_files import edited_json, edited_lines, edited_zip, whole_run

pytestmark = pytest.mark.fuzz
WILD = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = whole_run(tmp_path_factory.mktemp("runs"))
    measured = {field.name: 1 + place for place, field in enumerate(FIELDS)}
    write_sidecar(sidecar(rows.parent, rows.stem), Calibration(**measured))
    return rows


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    """The summary of a run beside which the odd one lies."""
    return summarize(load_run(whole_run(tmp_path_factory.mktemp("healthy"))))


def shown(path: Path, beside: RunSummary) -> list[str]:
    """Read and show a run beside a healthy one; return what was told about it."""
    try:
        run = load_run(path)
        summary = summarize(run)
    except RecordsError as e:
        return [str(e)]
    summaries = sorted_summaries([summary, beside])
    to_csv(SUMMARY_COLUMNS, summaries)
    to_csv(LEVEL_COLUMNS, level_rows(series_of(summaries)))
    to_markdown(summaries)
    assert len(json.loads(to_json(summaries))["runs"]) == 2
    return run.problems


def edited(whole: Path, folder: Path, name: str, data: bytes) -> Path:
    """Return the rows of a copy of the whole run with one file in another state."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole.parent, folder)
    (folder / name).write_bytes(data)
    return folder / whole.name


def test_a_whole_run_is_shown_without_a_word(whole: Path, healthy: RunSummary) -> None:
    assert shown(whole, healthy) == []


OTHERS = {
    "{}.json": lambda data: edited_json(json.loads(data)),
    "{}.csv": edited_lines,
    "tokens/{}.npz": edited_zip,
    "telemetry/{}.csv": edited_lines,
    "server_metrics/{}.csv": edited_lines,
    "calibration/{}.json": lambda data: edited_json(json.loads(data)),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # figures that are none
@pytest.mark.parametrize("kind", OTHERS)
def test_one_edit_of_one_file_never_ends_the_reading(
    whole: Path, tmp_path: Path, healthy: RunSummary, kind: str
) -> None:
    name = kind.format(whole.stem)

    @WILD
    @given(OTHERS[kind]((whole.parent / name).read_bytes()))
    def read(made: bytes) -> None:
        for told in shown(edited(whole, tmp_path / "run", name, made), healthy):
            assert "\n" not in told

    read()
