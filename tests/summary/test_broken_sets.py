"""A run whose files don't belong together is told in one line, and every other run is shown."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vllm_bench.records.find_runs import find_runs
from vllm_bench.script import each_run
from vllm_bench.summary.summary import RunSummary, summarize

from tests.records.odd_files import saved_elsewhere, whole_run
from tests.support.made_runs import made_info, write_run

GOOD, BAD = "a-good", "b-bad"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two whole runs; the second is to be broken."""
    for name in (GOOD, BAD):
        write_whole(tmp_path, name)
    return tmp_path


def write_whole(folder: Path, name: str) -> None:
    """Write a whole run under a name of its own."""
    made = folder / f"{name}.tmp"
    made.mkdir()
    rows = whole_run(made)
    for path in [*made.glob("*/*"), *made.glob("*.*")]:
        if path.is_file():
            to = folder / str(path.relative_to(made)).replace(rows.stem, name)
            to.parent.mkdir(exist_ok=True)
            to.write_bytes(
                path.read_bytes().replace(rows.stem.encode(), name.encode())
                if path.suffix in (".csv", ".json")
                else path.read_bytes()
            )
    shutil.rmtree(made)


def shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, RunSummary], list[str]]:
    """Return the runs of a folder that are summed up, and the lines about the others."""
    found = find_runs([], folder)
    runs, damaged = each_run(found.paths, summarize)
    lines = capsys.readouterr().err.splitlines()
    assert damaged == bool(lines)
    assert found.problems == []
    return {run.name: run for run in runs}, lines


def test_whole_runs_are_shown_without_a_word(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, lines = shown(results, capsys)
    assert (sorted(runs), lines) == ([GOOD, BAD], [])


ROWS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "another run's": lambda path: shutil.copy(path.with_name(f"{GOOD}.csv"), path),
    "twice": lambda path: path.write_bytes(
        path.read_bytes() + path.read_bytes().partition(b"\n")[2]
    ),
    **{
        name: lambda path, name=name: path.write_bytes(saved_elsewhere(path.read_bytes())[name])  # type: ignore[misc]
        for name in saved_elsewhere(b"a,b\n")
    },
}


@pytest.mark.parametrize("breaks", ROWS)
def test_broken_rows_are_told_in_a_line_and_cost_no_other_run(
    results: Path, capsys: pytest.CaptureFixture[str], breaks: str
) -> None:
    ROWS[breaks](results / f"{BAD}.csv")
    runs, lines = shown(results, capsys)
    assert list(runs) == [GOOD]
    (line,) = lines
    assert f"{BAD}.csv: " in line


def other(path: Path) -> None:
    shutil.copy(path.with_name(path.name.replace(BAD, GOOD)), path)


def later(path: Path) -> None:
    """Put in place what a run of another time would have left."""
    if path.suffix == ".npz":
        path.write_bytes(_moved_stamps(path))
        return
    header, _, rows = path.read_text().partition("\n")
    moved = [
        ",".join([t, f"{float(wall) + 60:.6f}", rest])
        for t, wall, rest in (row.split(",", 2) for row in rows.splitlines())
    ]
    path.write_text("\n".join([header, *moved]) + "\n")


def _moved_stamps(path: Path) -> bytes:
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    arrays["t_ns"] = arrays["t_ns"] + 5_000_000
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize(
    "breaks", [Path.unlink, later, lambda p: p.write_bytes(p.read_bytes()[:-60])]
)
@pytest.mark.parametrize("kind", ["tokens/{}.npz", "telemetry/{}.csv", "server_metrics/{}.csv"])
def test_a_file_beside_the_rows_costs_its_own_figures_alone(
    results: Path, capsys: pytest.CaptureFixture[str], kind: str, breaks: Callable[[Path], object]
) -> None:
    breaks(results / kind.format(BAD))
    runs, lines = shown(results, capsys)
    assert sorted(runs) == [GOOD, BAD]
    (line,) = lines
    assert kind.format(BAD) in line
    assert runs[BAD].percentile("latency_ms", 50) == runs[GOOD].percentile("latency_ms", 50)
    assert (runs[BAD].exact_tokens is None) == kind.startswith("tokens")


@pytest.mark.parametrize(
    "breaks",
    [Path.unlink, other, lambda p: p.write_text("{"), lambda p: p.write_text("[" * 5000)],
    ids=["deleted", "another run's", "torn", "deep"],
)
def test_rows_without_a_json_to_believe_are_shown_and_doubted(
    results: Path, capsys: pytest.CaptureFixture[str], breaks: Callable[[Path], object]
) -> None:
    breaks(results / f"{BAD}.json")
    runs, lines = shown(results, capsys)
    assert runs[BAD].info is None
    assert "no_run_info" in runs[BAD].verdict.reasons
    (line,) = lines
    assert f"{BAD}.json: " in line


def test_a_wrong_leaf_is_named_by_its_place_and_the_rest_of_the_json_counts(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / f"{BAD}.json"
    found = json.loads(path.read_text())
    found["server_counters"]["after"]["vllm:prompt_tokens_total"] = None  # a NaN, once
    path.write_text(json.dumps(found))
    runs, (line,) = shown(results, capsys)
    assert "server_counters.after.vllm:prompt_tokens_total" in line
    assert runs[BAD].info is not None
    assert runs[BAD].attainment is not None


def test_a_usage_that_cannot_be_costs_its_own_cell(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / f"{BAD}.csv"
    header, first, *rest = path.read_text().split("\n")
    at = header.split(",").index("completion_tokens")
    cells = first.split(",")
    cells[at] = str(2**62)
    path.write_text("\n".join([header, ",".join(cells), *rest]))
    runs, (line,) = shown(results, capsys)
    assert "line 2: completion_tokens" in line
    assert runs[BAD].requests == runs[GOOD].requests


def test_rows_of_an_older_version_are_read(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / f"{BAD}.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    new = [lines[0].index(name) for name in ("waited_ms", "resent")]
    old = [[c for place, c in enumerate(cells) if place not in new] for cells in lines]
    path.write_text("".join(",".join(cells) + "\n" for cells in old))
    runs, told = shown(results, capsys)
    assert (sorted(runs), told) == ([GOOD, BAD], [])


def test_json_of_other_programs_is_passed_over(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "openai-infqps-concurrency8.json").write_text('{"backend": "vllm", "completed": 4}')
    (results / "summary.json").write_text('{"runs": [{"run_id": "a", "status": 1, "scenario": 2}]}')
    runs, lines = shown(results, capsys)
    assert (sorted(runs), lines) == ([GOOD, BAD], [])


def test_a_run_that_was_killed_before_its_rows_is_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(results, [], made_info([], run_id="c", status="interrupted")).unlink()
    runs, (line,) = shown(results, capsys)
    assert "c.csv: missing" in line
    assert len(runs) == 2
