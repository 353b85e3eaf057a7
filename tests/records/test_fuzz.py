"""Odd files in the results folder: each is read, or refused by name; none of them takes more along.

`damaged` makes one edit of a valid document: a leaf, a key, a cell, a byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.records.beside.sample_file import read_gpu_rows, read_server
from vllm_bench.records.beside.token_file import load, read_stamps, recover
from vllm_bench.records.find_runs import Asked, choose, head_of, load_run
from vllm_bench.records.request_record import RecordsError
from vllm_bench.records.run_info import read_run_info, read_what_is_right

from tests.records.odd_files import edited_json, edited_lines, edited_zip, whole_run
from tests.support.made_runs import gpu_row, server_row, write_gpu_rows, write_server_rows

pytestmark = pytest.mark.fuzz
WILD = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of a whole run, with every file beside it."""
    return whole_run(tmp_path_factory.mktemp("runs"))


def read(what: Callable[[], object]) -> object | None:
    """Return what is read; None where it is refused by name, which is all that may happen."""
    try:
        return what()
    except RecordsError:
        return None


def test_without_an_edit_everything_is_read(run: Path) -> None:
    found = load_run(run)
    assert (found.problems, found.info) == ([], read_run_info(run.with_suffix(".json")))
    assert read_stamps(run, found.frame) is not None
    assert read_gpu_rows(run, found.info) is not None
    assert read_server(run, found.info)[0] is not None


@WILD
@given(st.data())
def test_an_edit_of_a_runs_json_costs_at_most_what_was_edited(
    run: Path, tmp_path: Path, data: st.DataObject
) -> None:
    text = data.draw(edited_json(json.loads(run.with_suffix(".json").read_text())))
    path = tmp_path / "x.json"
    path.write_bytes(text)
    found = read(lambda: read_what_is_right(path))
    if found is not None:
        info, problem = found  # type: ignore[misc]
        assert info.clock_start.wall_s >= 0
        assert all(math.isfinite(v) for v in (info.server_counters.get("after") or {}).values())
        assert problem is None or problem.startswith(f"{path}: ")


@WILD
@given(st.data(), st.sampled_from([{}, {"every": True}, {"last": True}, {"label": "a"}]))
def test_an_edit_of_one_runs_json_hides_no_run(
    run: Path, tmp_path: Path, data: st.DataObject, asked: dict[str, Any]
) -> None:
    whole = run.with_suffix(".json").read_text()
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_bytes(run.read_bytes())
        (tmp_path / f"{name}.json").write_text(whole.replace(f'"{run.stem}"', f'"{name}"'))
    edited = tmp_path / "one.json"
    edited.write_bytes(data.draw(edited_json(json.loads(edited.read_text()))))
    found = choose(Asked(**asked), tmp_path)
    if not asked:
        assert {p.stem for p in (*found.paths, *found.left_out)} == {"one", "two"}
    assert len(found.problems) == ("label" in asked and head_of(tmp_path / "one.csv") is None)
    assert found.paths


@WILD
@given(st.data())
def test_an_edit_of_the_rows_is_read_or_refused(
    run: Path, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / run.name
    path.write_bytes(data.draw(edited_lines(run.read_bytes())))
    found: Any = read(lambda: load_run(path))
    if found is not None:
        assert set(found.frame["run_id"]) <= {run.stem}
        assert (found.frame["request_index"] >= 0).all()
        assert len(set(found.frame["request_index"].tolist())) == len(found.frame)


@WILD
@given(st.data())
def test_an_edit_of_the_stamps_is_read_or_refused(
    run: Path, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(
        data.draw(edited_zip((run.parent / "tokens" / f"{run.stem}.npz").read_bytes()))
    )
    try:
        found = load(path, most_values=10_000)
    except (OSError, ValueError):
        return
    assert found["first_read"][-1] == found["t_ns"].size == found["tokens"].size


@WILD
@given(st.binary(max_size=200) | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_any_part_file_is_read_or_refused(tmp_path: Path, made: bytes | list[int]) -> None:
    path = tmp_path / "x.part"
    data = (
        made
        if isinstance(made, bytes)
        else b"".join(n.to_bytes(8, "little", signed=True) for n in made)
    )
    path.write_bytes(data)
    try:
        found = recover(path)
    except ValueError:
        return
    assert found["first_read"][-1] == found["t_ns"].size


@WILD
@given(st.data())
def test_an_edit_of_samples_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    run = tmp_path / "x.csv"
    for folder in ("telemetry", "server_metrics"):
        (tmp_path / folder / "x.csv").unlink(missing_ok=True)
    written = [
        write_gpu_rows(run, [gpu_row(1.0), gpu_row(0.5, gpu_index=1, power_w=None)]),
        write_server_rows(run, [server_row(1.0, running=3.0), server_row(2.0, engine="0")]),
    ]
    for path in written:
        path.write_bytes(data.draw(edited_lines(path.read_bytes())))
    for found in (read(lambda: read_gpu_rows(run)), read(lambda: read_server(run)[0])):
        assert found is None or not any(math.isnan(t) for t in found["t_s"])  # type: ignore[index]
