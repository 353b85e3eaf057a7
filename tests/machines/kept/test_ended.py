"""A machine's requests go to its disk and to the head, or stay until they are asked for."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.crew.judged import Elsewhere, Judged
from vllm_bench.machines.kept.ended import Ended
from vllm_bench.machines.kept.file import KeptFile, runs_in
from vllm_bench.machines.kept.keeper import Keeper
from vllm_bench.machines.messages import AllFetched, Fetch, Forget, FromDisk, NotKept

from tests.machines.kept.made import made_judged
from tests.support.made_plans import made_plan


class Told(list[Any]):
    """What goes to the head."""

    @property
    def requests(self) -> list[int]:
        return [
            one.record.request_index for batch in self if isinstance(batch, tuple) for one in batch
        ]

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self if isinstance(message, kind)]


class Full:
    """A disk that takes so many more batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        write = KeptFile.write

        def limited(file: KeptFile, ended: list[Judged]) -> None:
            self.room -= 1
            if self.room < 0:
                raise OSError(28, "No space left on device", "kept")
            write(file, ended)

        self.room = room
        monkeypatch.setattr(KeptFile, "write", limited)


def begun(folder: Path | None, told: Told, *, rows_stay: bool) -> Ended:
    ended = Ended(made_plan(9), Keeper(folder, "no disk"), told.append, rows_stay=rows_stay)
    ended.begin()
    return ended


def kept(folder: Path) -> list[int]:
    return [one.record.request_index for run in runs_in(folder) for one in run.requests()]


@pytest.mark.parametrize("stay", [False, True])
def test_what_ends_is_on_the_disk_and_told_at_once_or_as_counts(tmp_path: Path, stay: bool) -> None:
    told = Told()
    ended = begun(tmp_path, told, rows_stay=stay)
    ended.write([made_judged(0), made_judged(1)])
    ended.stand()
    ended.write([made_judged(2, away=True)])
    ended.stand()
    ended.stand()
    assert kept(tmp_path) == [0, 1, 2]
    assert told.requests == ([] if stay else [0, 1, 2])
    counts = told.of(Elsewhere)
    assert [c.counts.ended for c in counts] == ([2, 3, 3] if stay else [])
    assert [c.away for c in counts] == ([False, True, None] if stay else [])


def test_before_the_start_all_is_told_and_nothing_kept(tmp_path: Path) -> None:
    told = Told()
    ended = Ended(made_plan(9), Keeper(tmp_path), told.append, rows_stay=True)
    ended.write([made_judged(9, role="warm-up")])
    assert told.requests == [9]
    assert kept(tmp_path) == []


def test_the_tail_stays_too_and_is_not_counted_as_rows(tmp_path: Path) -> None:
    told = Told()
    ended = begun(tmp_path, told, rows_stay=True)
    ended.write([made_judged(0), made_judged(12, role="tail")])
    ended.stand()
    (found,) = told.of(Elsewhere)
    assert found.counts.ended == 1
    assert kept(tmp_path) == [0, 12]


@pytest.mark.parametrize("room", [0, 1, 2])
@pytest.mark.parametrize("stay", [False, True])
def test_a_full_disk_is_told_once_and_no_row_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, stay: bool
) -> None:
    Full(monkeypatch, room)
    told = Told()
    ended = begun(tmp_path, told, rows_stay=stay)
    for index in range(4):
        ended.write([made_judged(index)])
    ended.stand()
    ended.close()
    assert len(told.of(NotKept)) == 1
    assert kept(tmp_path) == list(range(room))
    assert told.requests == list(range(room if stay else 0, 4))
    assert [c.counts.ended for c in told.of(Elsewhere)] == ([room] if stay else [])


def test_without_a_folder_rows_cross_as_they_end() -> None:
    told = Told()
    ended = Ended(made_plan(9), Keeper(None, "no disk"), told.append, rows_stay=True)
    assert not told  # who has said a word may not be silent, and its processes are still to start
    ended.begin()
    ended.write([made_judged(0)])
    assert [message.text for message in told.of(NotKept)] == ["no disk"]
    assert told.requests == [0]


def test_what_is_told_again_is_what_was_kept_and_forgotten_only_by_name(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for machine in ("node-a", "node-b"):
        file = KeptFile(tmp_path, "run-1", machine, ())
        file.write([made_judged(0)])
        file.close()
    assert keeper.runs() == ("run-1",)
    *batches, last = keeper.told(Fetch("run-1", ""))
    assert last == AllFetched("run-1")
    assert {b.machine: len(b.ended) for b in batches if isinstance(b, FromDisk)} == {
        "node-a": 1,
        "node-b": 1,
    }
    keeper.forget(Forget("run-1", "", ("node-a",)))
    assert [run.machine for run in runs_in(tmp_path)] == ["node-b"]
    keeper.forget(Forget("run-2", "", ("node-b",)))
    keeper.forget(Forget("run-1", "", ("node-b",)))
    assert list(keeper.told(Fetch("run-1", ""))) == [AllFetched("run-1")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EROFS, errno.EIO, errno.ENOENT])
def test_what_cannot_be_removed_stays_and_ends_no_foreman(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A file that stays is fetched again, and its rows are known by then."""
    keeper, file = Keeper(tmp_path), KeptFile(tmp_path, "run-1", "node-a", ())
    file.write([made_judged(0)])
    file.close()

    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "unlink", refused)
    keeper.forget(Forget("run-1", "", ("node-a",)))
    assert keeper.runs() == ("run-1",)


def test_a_machine_tells_its_own_where_others_keep_in_the_same_folder(tmp_path: Path) -> None:
    keeper, told = Keeper(tmp_path), Told()
    for number, name in enumerate(("node-a", "node-b")):
        plan = dataclasses.replace(made_plan(9), machine=name)
        ended = Ended(plan, keeper, told.append, rows_stay=True)
        ended.begin()
        ended.write([made_judged(number)])
        ended.close()
    run_id = made_plan(9).run_id
    mine, last = keeper.told(Fetch(run_id, "", "node-b"))
    assert isinstance(mine, FromDisk)
    assert [one.record.request_index for one in mine.ended] == [1]
    assert last == AllFetched(run_id)
    keeper.forget(Forget(run_id, "", ("node-b",)))
    assert kept(tmp_path) == [0]


def test_sessions_that_call_run_and_machine_the_same_are_told_apart(tmp_path: Path) -> None:
    told, run_id = Told(), made_plan(9).run_id
    for number, session in enumerate("ab"):
        plan = dataclasses.replace(made_plan(9), session=session)
        ended = Ended(plan, Keeper(tmp_path), told.append, rows_stay=True)
        ended.begin()
        ended.write([made_judged(number)])
        ended.close()
    assert told.of(NotKept) == []
    keeper = Keeper(tmp_path)
    for number, session in enumerate("ab"):
        found = [one for one in keeper.told(Fetch(run_id, session)) if isinstance(one, FromDisk)]
        assert [one.record.request_index for batch in found for one in batch.ended] == [number]
    (machine,) = {run.machine for run in runs_in(tmp_path)}
    keeper.forget(Forget(run_id, "b", (machine,)))
    assert kept(tmp_path) == [0]


def test_large_files_are_told_in_batches_and_damage_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.machines.kept.keeper.BATCH_BYTES", 2500)
    file = KeptFile(tmp_path, "run-1", "node-a", ())
    file.write([made_judged(index) for index in range(8)])
    file.close()
    (run,) = runs_in(tmp_path)
    with run.path.open("ab") as out:
        out.write(b"{}{}\n")
    *batches, last = Keeper(tmp_path).told(Fetch("run-1", ""))
    assert [len(b.ended) for b in batches if isinstance(b, FromDisk)] == [3, 3, 2]
    assert isinstance(last, AllFetched)
    assert len(last.problems) == 1
