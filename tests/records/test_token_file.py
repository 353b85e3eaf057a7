from __future__ import annotations

import struct
import tracemalloc
import zipfile
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.token_file import ARRAYS, TokenWriter, load, recover, save
from vllm_bench.reply.events import Usage
from vllm_bench.reply.reply import Reply
from vllm_bench.reply.token_reads import grouped

START = 1_000


def reply(stamps: list[int], counts: list[int] | None = None, *, total: int | None = None) -> Reply:
    made = Reply(stream=True)
    made.stamps = array("q", [START + s for s in stamps])
    made.token_counts = array("I", counts or [0] * len(stamps))
    made.usage = None if total is None else Usage(1, total, None)
    return made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (reply([5, 9], total=2), ([5, 9], [1, 1], [1, 1])),  # as many events as tokens
        (reply([5, 5, 9], total=3), ([5, 9], [2, 1], [2, 1])),  # two events in a read
        (reply([5, 9], [3, 4], total=7), ([5, 9], [1, 1], [3, 4])),  # each event says how many
        (reply([5, 9], total=7), ([5, 9], [1, 1], [0, 0])),  # nobody says which had more
        (reply([5, 9], [3, 3], total=7), ([5, 9], [1, 1], [0, 0])),  # one got lost
        (reply([5, 9]), ([5, 9], [1, 1], [0, 0])),  # it failed before its usage
        (reply([]), ([], [], [])),
    ],
)
def test_reads_have_their_events_and_tokens_where_those_are_known(
    made: Reply, expected: tuple[list[int], list[int], list[int]]
) -> None:
    assert tuple(list(part) for part in grouped(made, START)) == expected


requests = st.lists(st.lists(st.integers(0, 50), max_size=30).map(sorted), max_size=8)


@given(requests)
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, stamps: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    writer = TokenWriter(folder, "run")
    for index, one in enumerate(stamps):
        writer.write(index, grouped(reply(one, total=len(one)), START))
    writer.close()
    assert [p.name for p in folder.iterdir()] == ["run.npz"]
    found = load(folder / "run.npz")
    assert list(found["request_index"]) == list(range(len(stamps)))
    for place, one in enumerate(stamps):
        at = slice(found["first_read"][place], found["first_read"][place + 1])
        assert list(np.repeat(found["t_ns"][at], found["events"][at])) == one
    assert found["t_ns"].dtype == np.int64
    assert found["first_read"].dtype == np.int64


def test_a_part_that_a_kill_tore_off_gives_its_whole_requests(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path, "run")
    writer.write(3, grouped(reply([1, 2], total=2), START))
    writer.write(4, grouped(reply([5, 6], total=2), START))
    writer.flush()
    whole = (tmp_path / "run.part").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "torn.part").write_bytes(whole[:length])
        found = recover(tmp_path / "torn.part")
        assert list(found["request_index"]) == ([3] if length >= len(whole) // 2 else [])
        assert len(found["t_ns"]) == 2 * len(found["request_index"])
    writer.close()


def test_a_token_takes_less_than_16_bytes(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path, "run")
    rng = np.random.default_rng(0)
    for index in range(100):
        gaps = rng.integers(10_000_000, 30_000_000, 200)
        writer.write(index, grouped(reply(np.cumsum(gaps).tolist(), total=200), START))
    writer.close()
    assert (tmp_path / "run.npz").stat().st_size < 16 * 100 * 200


def lying(path: Path, shape: str, said_bytes: int | None) -> Path:
    """Write a file that says it has many values, and has none."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({shape},), }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(path, "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", array)
    if said_bytes is not None:  # in the archive's table of contents, and before each array
        old, new = struct.pack("<I", len(array)), struct.pack("<I", said_bytes)
        path.write_bytes(path.read_bytes().replace(old, new))
    return path


@pytest.mark.parametrize("said_bytes", [None, 2**32 - 2])
@pytest.mark.parametrize("shape", ["9000000000", "-1", "10**9", "2, 3"])
def test_sizes_that_lie_take_no_memory(tmp_path: Path, shape: str, said_bytes: int | None) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="request_index"):
            load(lying(tmp_path / "x.npz", shape, said_bytes))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_what_packs_into_nothing_is_bounded_by_the_rows(tmp_path: Path) -> None:
    arrays = {name: np.zeros(10_000_000, dtype=kind) for name, kind in ARRAYS.items()}
    save(arrays, tmp_path / "x.npz")
    with pytest.raises(ValueError, match="are said to be in it"):
        load(tmp_path / "x.npz", most_values=1000)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{name: np.array([{}], dtype=object) for name in ARRAYS})
    with pytest.raises(ValueError, match="not an array of one row"):
        load(tmp_path / "x.npz")
