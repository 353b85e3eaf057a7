"""What a machine keeps of a run is read back as it was, up to wherever a kill cut it off."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew.judged import Judged
from vllm_bench.machines.kept.file import KeptFile, KeptRun, runs_in
from vllm_bench.machines.kept.line import line_of
from vllm_bench.machines.messages import Correction
from vllm_bench.scenario.secrets import MASK

from tests.machines.kept.made import RUN_ID, answered, judged_requests, made_judged

LISTS = st.lists(st.lists(judged_requests(), min_size=1, max_size=3), min_size=1, max_size=4)


def kept(folder: Path, *batches: list[Judged], machine: str = "node-a") -> KeptRun:
    """Write a run's file; return it as it is found again."""
    file = KeptFile(folder, RUN_ID, machine, ())
    for batch in batches:
        file.write(batch)
    file.close()
    return next(run for run in runs_in(folder) if run.machine == machine)


@given(batches=LISTS, cut=st.floats(0, 1))
def test_any_cut_of_a_file_is_a_prefix_of_whole_requests(
    batches: list[list[Judged]], cut: float
) -> None:
    with tempfile.TemporaryDirectory() as name:
        run = kept(Path(name), *batches)
        wanted = [one for batch in batches for one in batch]
        assert list(run.requests()) == wanted
        whole = run.path.read_bytes()
        begin = whole.index(b"\n") + 1
        size = begin + round(cut * (len(whole) - begin))
        os.truncate(run.path, size)
        ends = [at for at in range(len(whole)) if whole[at : at + 1] == b"\n"]
        # A line of requests is whole where its end lies before the cut.
        count = sum(end < size for end in ends) - 1
        assert list(run.requests()) == wanted[:count]


def test_a_file_cut_in_its_first_line_is_of_no_run(tmp_path: Path) -> None:
    run = kept(tmp_path, [made_judged()])
    os.truncate(run.path, 10)
    assert runs_in(tmp_path) == []


def changed(what: str, name: str, value: object) -> bytes:
    """A request's line in which one value is of another kind."""
    said = json.loads(line_of(made_judged(0), ()))
    said[what][name] = value
    return json.dumps(said).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\0\0\0\n",
        b"[]\n",
        b'{"role": "measured"}\n',
        b'{"role": "chief", "record": {}}\n',
        changed("record", "request_index", "7"),
        changed("record", "t_end_s", None),
        changed("record", "ttft_ms", [1]),
        changed("record", "prompt_id", 5),
        changed("record", "http_status", True),
        b"\xff\n",
    ],
)
def test_behind_a_damaged_line_nothing_is_believed(tmp_path: Path, line: bytes) -> None:
    run = kept(tmp_path, [made_judged(0)])
    with run.path.open("ab") as file:
        file.write(line)
    found = run.requests()
    assert next(found) == made_judged(0)
    with pytest.raises(ValueError, match="line 3"):
        next(found)


def test_values_that_this_version_does_not_know_are_left_out(tmp_path: Path) -> None:
    run = kept(tmp_path, [made_judged(0)])
    head, line = run.path.read_bytes().splitlines(keepends=True)
    said = json.loads(line)
    said["record"]["of_tomorrow"] = said["further"] = 1
    run.path.write_bytes(head + json.dumps(said).encode() + b"\n")
    assert list(run.requests()) == [made_judged(0)]


def test_nothing_is_made_before_anything_is_kept(tmp_path: Path) -> None:
    file = KeptFile(tmp_path, RUN_ID, "node-a", ())
    file.write([])
    file.correct(Correction(5))
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_the_last_correction_counts_also_one_from_before_the_file(tmp_path: Path) -> None:
    file = KeptFile(tmp_path, RUN_ID, "node-a", ())
    file.correct(Correction(5))
    file.write([made_judged(0)])
    (run,) = runs_in(tmp_path)
    assert run.correction() == Correction(5)
    file.correct(Correction(-7, 1e-6))
    file.write([made_judged(1)])
    file.close()
    assert run.correction() == Correction(-7, 1e-6)
    assert [one.record.request_index for one in run.requests()] == [0, 1]


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = kept(tmp_path, [made_judged()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o604, 0o666])
def test_what_others_may_touch_is_not_taken(tmp_path: Path, mode: int) -> None:
    kept(tmp_path, [made_judged()]).path.chmod(mode)
    assert runs_in(tmp_path) == []


def test_what_is_no_file_is_not_taken(tmp_path: Path) -> None:
    run = kept(tmp_path, [made_judged()])
    elsewhere = tmp_path / "elsewhere"
    run.path.rename(elsewhere)
    run.path.symlink_to(elsewhere)
    os.mkfifo(tmp_path / "pipe.jsonl", 0o600)  # whose writer nobody waits for
    (tmp_path / "folder.jsonl").mkdir(0o700)
    assert runs_in(tmp_path) == []


def test_secrets_are_masked(tmp_path: Path) -> None:
    file = KeptFile(tmp_path, RUN_ID, "node-a", ("sk-of-somebody",))
    file.write([answered(0, "my key is sk-of-somebody")])
    file.close()
    (run,) = runs_in(tmp_path)
    assert b"sk-of-somebody" not in run.path.read_bytes()
    (one,) = run.requests()
    assert one.answer is not None
    assert one.answer[1] == f"my key is {MASK}"


def test_machines_and_runs_that_look_alike_have_files_of_their_own(tmp_path: Path) -> None:
    for machine in ("node-a~2", "node-a_2", "../node-a", ""):
        kept(tmp_path, [made_judged()], machine=machine)
    assert {run.machine for run in runs_in(tmp_path)} == {"node-a~2", "node-a_2", "../node-a", ""}
    assert all(path.parent == tmp_path for path in tmp_path.iterdir())


def full_after(room: int) -> Callable[[int, bytes], int]:
    """Return an `os.write` for whose disk so many bytes are left."""
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        taken = write(descriptor, data[:room])
        room -= taken
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return taken

    return full


@pytest.mark.parametrize("room", [0, 10, 200])
def test_a_disk_that_was_full_before_the_first_request_has_no_file_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    file = KeptFile(tmp_path, RUN_ID, "node-a", ())
    monkeypatch.setattr(os, "write", full_after(room))
    with pytest.raises(OSError, match="No space left") as told:
        file.write([made_judged(0)])
    assert Path(told.value.filename).parent == tmp_path
    file.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shift", ["1", None, 1.5, [1]])
def test_a_damaged_line_of_the_clock_is_none(tmp_path: Path, shift: object) -> None:
    run = kept(tmp_path, [made_judged(0)])
    with run.path.open("ab") as out:
        out.write(json.dumps({"clock": {"shift_ns": shift}}).encode() + b"\n")
    # As it is written: the mark of such a line is how it begins.
    run.path.write_bytes(run.path.read_bytes().replace(b'{"clock": ', b'{"clock":'))
    assert run.correction() is None


def test_a_disk_that_is_full_takes_back_what_it_has_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeptFile(tmp_path, RUN_ID, "node-a", ())
    file.write([made_judged(0)])
    monkeypatch.setattr(os, "write", full_after(100))
    with pytest.raises(OSError, match="No space left"):
        file.write([made_judged(1)])
    monkeypatch.undo()
    file.write([made_judged(2)])
    (run,) = runs_in(tmp_path)
    assert [one.record.request_index for one in run.requests()] == [0, 2]


def test_a_file_that_is_still_written_is_not_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.machines.kept.file.UNDER_WAY_S", 0.1)
    file = KeptFile(tmp_path, RUN_ID, "node-a", ())
    file.write([made_judged(0)])
    (run,) = runs_in(tmp_path)
    assert not run.at_rest()
    file.close()
    assert run.at_rest()
