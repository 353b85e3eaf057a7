"""Files in a folder that others write to: nothing is waited for, no link is written through."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from vllm_bench.records.beside.sample_file import RowFile, read_gpu_rows
from vllm_bench.records.beside.samples import GpuRow
from vllm_bench.records.beside.token_file import TokenWriter, read_stamps
from vllm_bench.records.request_record import RecordsError, RecordWriter, read_rows
from vllm_bench.records.run_info import read_run_info
from vllm_bench.records.safe_file import read_regular, write_atomically

from tests.support.made_runs import frame_of, gpu_row, made_record


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**10)  # takes no room on the disk


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD = pytest.mark.parametrize("make", [fifo, loop, huge, device, Path.mkdir])


@ODD
def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path, make: object) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(OSError, match="x"):
        read_regular(tmp_path / "x", 1000)


@ODD
def test_every_file_of_a_run_is_read_so(tmp_path: Path, make: object) -> None:
    rows = frame_of(tmp_path, [made_record()])
    for name in ("x.csv", "x.json", "tokens/x.npz", "telemetry/x.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make(tmp_path / name)  # type: ignore[operator]
    run = tmp_path / "x.csv"
    for read in (
        lambda: read_rows(run),
        lambda: read_run_info(run.with_suffix(".json")),
        lambda: read_stamps(run, rows),
        lambda: read_gpu_rows(run),
    ):
        with pytest.raises(RecordsError, match=r"x\.(csv|json|npz)"):
            read()


def test_a_link_in_a_files_place_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    path = tmp_path / "summary.csv"
    path.symlink_to(target)
    for planted in ("summary.csv.tmp", f"summary.csv.{os.getpid()}.tmp"):
        (tmp_path / planted).symlink_to(target)
    write_atomically(path, b"new")
    assert not path.is_symlink()
    assert (path.read_bytes(), target.read_text()) == (b"new", "precious")


def test_what_is_appended_to_is_never_a_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    for name in ("x.csv", "x.part", "telemetry.csv"):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(FileExistsError):
        RecordWriter(tmp_path / "x.csv")
    with pytest.raises(FileExistsError):
        TokenWriter(tmp_path, "x")
    samples = RowFile(tmp_path / "telemetry.csv", GpuRow)
    samples.anchor(0.0)
    samples.write([gpu_row(1.0)])
    assert samples.problem is not None
    assert target.read_text() == "precious"


def test_a_link_that_is_put_there_later_is_not_followed_either(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    samples = RowFile(tmp_path / "s.csv", GpuRow)
    samples.anchor(0.0)
    samples.write([gpu_row(1.0)])
    samples.path.unlink()
    samples.path.symlink_to(target)
    samples.write([gpu_row(2.0)])
    assert samples.problem is not None
    assert target.read_text() == "precious"


def test_permissions_are_as_the_umask_gives_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"x")
        RecordWriter(tmp_path / "b.csv").close()
    finally:
        os.umask(before)
    for name in ("a", "b.csv"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
