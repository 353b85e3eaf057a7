"""GPU samples and server metrics are read as their samplers wrote them, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.records.beside.sample_file import read_gpu_rows, read_server
from vllm_bench.records.request_record import RecordsError
from vllm_bench.records.row import Rows

from tests.support.made_runs import gpu_row, server_row, write_gpu_rows, write_server_rows

Read = Callable[[Path], "Rows | None"]


def gpus(folder: Path) -> tuple[Path, Path]:
    run = folder / "x.csv"
    return run, write_gpu_rows(run, [gpu_row(1.0), gpu_row(0.5, gpu_index=1, power_w=None)])


def server(folder: Path) -> tuple[Path, Path]:
    run = folder / "x.csv"
    rows = [server_row(1.0, running=3.0), server_row(2.0, engine="0", ttft_count=4)]
    return run, write_server_rows(run, rows)


BOTH = pytest.mark.parametrize(
    ("made", "read"),
    [(gpus, read_gpu_rows), (server, lambda run: read_server(run)[0])],
    ids=["gpu", "server"],
)


@BOTH
def test_all_columns_that_a_sampler_writes_are_read(tmp_path: Path, made: Any, read: Read) -> None:
    run, path = made(tmp_path)
    rows = read(run)
    assert rows is not None
    assert list(rows.columns) == path.read_text().splitlines()[0].split(",")


def test_gpu_rows_come_by_rising_time_and_keep_their_empty_cells(tmp_path: Path) -> None:
    run, _ = gpus(tmp_path)
    rows = read_gpu_rows(run)
    assert rows is not None
    assert rows["t_s"].tolist() == [0.5, 1.0]
    assert rows["gpu_uuid"].tolist() == ["GPU-1", "GPU-0"]
    assert np.isnan(rows["power_w"][0])
    assert rows["power_w"][1] == 300.0


def test_server_rows_keep_their_engines_apart(tmp_path: Path) -> None:
    run, _ = server(tmp_path)
    rows = read_server(run)[0]
    assert rows is not None
    assert rows["engine"].tolist() == ["all", "0"]
    assert rows["ttft_count"].tolist()[1] == 4


@BOTH
def test_what_was_not_sampled_is_none(tmp_path: Path, made: Any, read: Read) -> None:
    assert read(tmp_path / "x.csv") is None


@BOTH
def test_a_torn_last_line_is_left_out(tmp_path: Path, made: Any, read: Read) -> None:
    run, path = made(tmp_path)
    text = path.read_text()
    whole = read(run)
    assert whole is not None
    for cut in (1, 7, len(text.splitlines()[-1])):  # without its end, in its middle, at its first
        path.write_text(text[:-cut])
        rows = read(run)
        assert rows is not None
        assert len(rows) == len(whole) - 1


@BOTH
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "a,b\n1,2\n",
        lambda text: text.replace("t_s,", "t_x,", 1),
        lambda text: text + "1,2\n",  # too few cells
        lambda text: text.replace("\n", ",7\n").replace(",7\n", "\n", 1),  # too many
        lambda text: (
            text + "soon" + text.splitlines()[-1][text.splitlines()[-1].index(",") :] + "\n"
        ),
        lambda text: text + text.splitlines()[-1][text.splitlines()[-1].index(",") :] + "\n",
    ],
    ids=["empty", "another file", "a column", "short", "long", "no number", "no time"],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, made: Any, read: Read, damage: Callable[[str], str]
) -> None:
    run, path = made(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordsError, match=r"x\.csv: not (GPU samples|server metrics)"):
        read(run)


@BOTH
def test_a_quote_that_stays_open_is_named_as_such(tmp_path: Path, made: Any, read: Read) -> None:
    run, path = made(tmp_path)
    header, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, first + '"', *rest]) + "\n")
    with pytest.raises(RecordsError, match=r"line 2 .*quote"):
        read(run)
