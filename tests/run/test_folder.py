"""The results folder is proved before the first request."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from vllm_bench.records.row import csv_lines
from vllm_bench.run.folder import ROW_BYTES, SPARE_BYTES, FolderError, check_folder

from tests.support.made_runs import made_record
from tests.support.reading import one_line


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=count))


def test_a_folder_that_is_missing_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_folder(folder, 10)
    assert list(folder.iterdir()) == []
    check_folder(folder, 10)


def test_what_lies_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("rows")
    check_folder(tmp_path, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["run.csv"]


@pytest.mark.parametrize("below", ["", "results"])
def test_a_file_in_the_folders_place_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").write_text("")
    folder = tmp_path / "taken" / below
    with pytest.raises(FolderError) as refused:
        check_folder(folder, 10)
    text = str(refused.value)
    assert one_line(text).startswith(f"{folder}: ")


def test_a_folder_that_only_seems_writable_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(FolderError, match="Read-only file system"):
        check_folder(tmp_path, 10)


def test_too_little_room_is_told_with_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 15_000_000)
    with pytest.raises(FolderError, match=r"15 MB .* 520 MB .* 1,000,000 rows"):
        check_folder(tmp_path, 1_000_000)


@pytest.mark.parametrize("short_by", [0, 1])
def test_the_room_is_enough_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_by: int
) -> None:
    free(monkeypatch, 100 * ROW_BYTES + SPARE_BYTES - short_by)
    if short_by:
        with pytest.raises(FolderError):
            check_folder(tmp_path, 100)
    else:
        check_folder(tmp_path, 100)


def test_a_healthy_row_fits_into_what_is_reckoned_for_it() -> None:
    assert len(csv_lines([made_record(99_999)])) < ROW_BYTES
