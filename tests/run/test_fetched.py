"""What machines still keep of a folder's runs comes to these runs, and only once it is written is
it forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.crew.judged import Judged
from vllm_bench.machines.kept.file import KeptFile, runs_in
from vllm_bench.machines.kept.keeper import Keeper
from vllm_bench.machines.messages import Correction, Fetch, Forget, MachineFacts
from vllm_bench.records.request_record import read_rows
from vllm_bench.records.run_info import read_run_info, write_run_info
from vllm_bench.records.safe_file import locked
from vllm_bench.run.fetched import fetch_kept, say_unasked
from vllm_bench.run.folder import mark_left_behind

from tests.machines.kept.made import RUN_ID, made_judged
from tests.support.made_runs import made_info, made_record, write_run

ROWS = [made_record(i) for i in range(3)]


class Near:
    """A machine whose foreman is this process; its words come without a network."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.keeper = Keeper(folder)
        self.inbox = self
        self.lost: str | None = None
        self.dies_after = 10**9  # words
        self._said: list[object] = []
        self.facts = MachineFacts(
            host=name,
            cores=1,
            python="3",
            code="c",
            boot_id=None,
            nice=0,
            runs_kept=self.keeper.runs(),
            kept_in=str(folder),
        )

    def order(self, order: object) -> None:
        if isinstance(order, Fetch):
            self._said += self.keeper.told(order)
        elif isinstance(order, Forget):
            self.keeper.forget(order)

    def wait(self, limit_s: float) -> None:
        """Nothing: all is there."""

    def take(self) -> list[object] | None:
        self.dies_after -= 1
        return None if self.dies_after < 0 else [self._said.pop(0)]

    def lose(self, how: str) -> None:
        self.lost = how


def kept(
    folder: Path,
    name: str,
    ended: Sequence[Judged],
    correction: Correction | None = None,
    run_id: str = RUN_ID,
    session: str = "made",
) -> Any:
    """A machine that keeps these requests of a run."""
    folder.mkdir(exist_ok=True)
    file = KeptFile(folder, run_id, name, (), session)
    file.write(ended)
    if correction:
        file.correct(correction)
    file.close()
    return Near(name, folder)


def killed(folder: Path, **changes: Any) -> Path:
    """Write what a killed run over two machines leaves; return its rows."""
    folder.mkdir()
    machines = [{"machine": name, "host": name} for name in ("node-a", "node-b")]
    running = made_info(ROWS, status="running", clock_end=None, num_requests=9, **changes)
    return write_run(
        folder, ROWS, dataclasses.replace(running, client_health={"machines": machines})
    )


def test_rows_that_a_killed_run_lacks_come_to_it_once_and_are_forgotten(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    first = kept(tmp_path / "a", "node-a", [made_judged(i) for i in (0, 2, 4)])
    second = kept(tmp_path / "b", "node-b", [made_judged(i) for i in (1, 3, 5)])
    said: list[str] = []
    fetch_kept(path.parent, [first, second], said.append)
    assert sorted(read_rows(path)["request_index"].tolist()) == [0, 1, 2, 3, 4, 5]
    assert first.keeper.runs() == second.keeper.runs() == ()
    assert mark_left_behind(path.parent) == [path.with_suffix(".json")]
    info = read_run_info(path.with_suffix(".json"))
    assert info.status == "interrupted"
    assert [m["fetched"] for m in info.client_health["machines"]] == [1, 2]
    assert "3 rows that it lacked (1 of node-a, 2 of node-b)" in info.notes[-2]
    fetch_kept(path.parent, [first, second], said.append)
    assert len(read_rows(path)) == 6


def test_a_run_that_lacks_nothing_is_forgotten_without_a_word(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    machine = kept(tmp_path / "a", "node-a", [made_judged(0)])
    said: list[str] = []
    fetch_kept(path.parent, [machine], said.append)
    assert said == read_run_info(path.with_suffix(".json")).notes == []
    assert machine.keeper.runs() == ()
    mark_left_behind(path.parent)
    say_unasked(path.parent, [], said.append)  # node-a has told all that it had
    assert ["node-a" in line for line in said] == [False]


def test_only_measured_requests_come_by_the_last_line_of_the_clock(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    one, tail = made_judged(7, [2_000_000_000]), made_judged(12, role="tail")
    machine = kept(tmp_path / "a", "node-a", [one, tail], Correction(-500_000_000, 0.0))
    fetch_kept(path.parent, [machine], lambda _: None)
    rows = read_rows(path)
    assert rows["request_index"].tolist() == [0, 1, 2, 7]
    assert rows["t_sent_s"][-1] == pytest.approx(one.record.t_sent_s + 0.5)
    assert rows["latency_ms"][-1] == one.record.latency_ms


def test_a_machine_that_dies_meanwhile_keeps_its_rows(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    machine = kept(tmp_path / "a", "node-a", [made_judged(i) for i in (3, 4)])
    machine.dies_after = 1  # a batch, and not its end
    fetch_kept(path.parent, [machine], lambda _: None)
    assert machine.lost
    assert len(read_rows(path)) == 5
    assert [run.run_id for run in runs_in(tmp_path / "a")] == [RUN_ID]
    again = Near("node-a", tmp_path / "a")
    fetch_kept(path.parent, [again], lambda _: None)  # type: ignore[list-item]
    assert len(read_rows(path)) == 5
    assert runs_in(tmp_path / "a") == []


def test_runs_of_other_folders_are_left_alone_and_said_once(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    others = [f"other-cc{n}-pref256-max20-20251124T130000Z" for n in range(9)]
    for run_id in others:
        machine = kept(tmp_path / "a", "node-a", [made_judged(0)], run_id=run_id)
    alone = kept(tmp_path / "b", "node-b", [made_judged(0)], run_id=others[0])
    beside = Near("node-a~2", tmp_path / "a")
    said: list[str] = []
    fetch_kept(path.parent, [machine, beside, alone], said.append)  # type: ignore[list-item]
    assert machine.keeper.runs() == tuple(others)
    assert len(said) == 2
    assert all(word in said[0] for word in ("node-a, node-a~2", "9 runs", str(tmp_path / "a")))
    assert all(word in said[1] for word in ("node-b", "1 run", others[0], str(tmp_path / "b")))


@pytest.mark.parametrize("name", ["../results/x-20251124T130000Z", "", "/etc/passwd"])
def test_a_name_from_a_machine_is_never_a_path(tmp_path: Path, name: str) -> None:
    path = killed(tmp_path / "results")
    before = path.read_bytes()
    machine = kept(tmp_path / "a", "node-a", [made_judged(8)], run_id=name)
    fetch_kept(path.parent, [machine], lambda _: None)
    assert path.read_bytes() == before
    assert machine.keeper.runs() == (name,)


def test_rows_that_came_before_a_kill_are_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [dataclasses.replace(row, machine="node-a") for row in ROWS]
    entry = {"machine": "node-a", "host": "node-a", "lost": "died", "rows": 3, "fetched": None}
    info = made_info(sent, num_requests=9, client_health={"machines": [entry]})
    path = write_run(tmp_path, sent, info)
    more = [dataclasses.replace(made_record(i), machine="node-a") for i in (3, 4)]
    machine = kept(tmp_path / "a", "node-a", [Judged("measured", row) for row in more])

    def killed_here(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vllm_bench.run.fetched.write_run_info", killed_here)
    with pytest.raises(KeyboardInterrupt):
        fetch_kept(tmp_path, [machine], lambda _: None)
    monkeypatch.undo()
    assert machine.keeper.runs() == (RUN_ID,)
    fetch_kept(tmp_path, [machine], lambda _: None)
    (told,) = read_run_info(path.with_suffix(".json")).client_health["machines"]
    assert (told["rows"], told["fetched"]) == (5, 2)
    assert machine.keeper.runs() == ()


def test_what_a_machine_calls_itself_moves_no_cursor(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    machine = kept(tmp_path / "a", "node\x1b[2J\n", [made_judged(8)])
    said: list[str] = []
    fetch_kept(path.parent, [machine], said.append)
    assert len(read_rows(path)) == 4
    notes = read_run_info(path.with_suffix(".json")).notes
    assert all(line.isprintable() for line in (*said, *notes))


def test_another_sessions_run_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    machine = kept(tmp_path / "a", "node-a", [made_judged(8)], session="another")
    fetch_kept(path.parent, [machine], lambda _: None)
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert machine.keeper.runs() == (RUN_ID,)


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    machine = kept(tmp_path / "a", "node-a", [made_judged(8)])
    with locked(path):
        fetch_kept(path.parent, [machine], lambda _: None)
    assert len(read_rows(path)) == 3
    assert machine.keeper.runs() == (RUN_ID,)


def test_a_run_whose_rows_are_damaged_is_said_and_nothing_is_forgotten(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    path.write_text("request_index\n1\n")
    machine = kept(tmp_path / "a", "node-a", [made_judged(8)])
    said: list[str] = []
    fetch_kept(path.parent, [machine], said.append)
    assert path.read_text() == "request_index\n1\n"
    assert machine.keeper.runs() == (RUN_ID,)
    assert any(str(path) in line for line in said)


def test_machines_that_may_have_rows_and_were_not_asked_are_named(tmp_path: Path) -> None:
    path = killed(tmp_path / "results")
    said: list[str] = []
    say_unasked(path.parent, [], said.append)
    assert said == []  # it may be going on
    mark_left_behind(path.parent)
    machine = kept(tmp_path / "a", "node-a", [made_judged(8)])
    fetch_kept(path.parent, [machine], lambda _: None)
    say_unasked(path.parent, [machine], said.append)
    assert len(said) == 1
    assert "node-b" in said[0]
    assert "node-a" not in said[0]
    said.clear()
    say_unasked(path.parent, [], said.append)  # node-a has told all that it had
    assert "node-a" not in said[0]


@pytest.mark.parametrize(
    ("lost", "fetched", "named"), [(None, 0, False), ("died", None, True), ("died", 3, False)]
)
def test_of_a_run_that_ended_only_a_lost_machine_may_have_more(
    tmp_path: Path, lost: str | None, fetched: int | None, named: bool
) -> None:
    path = write_run(tmp_path, ROWS, made_info(ROWS))
    entry = {"machine": "node-a", "host": "node-a", "lost": lost, "fetched": fetched}
    json = path.with_suffix(".json")
    write_run_info(json, made_info(ROWS, client_health={"machines": [entry]}))
    said: list[str] = []
    say_unasked(tmp_path, [], said.append)
    assert bool(said) == named
