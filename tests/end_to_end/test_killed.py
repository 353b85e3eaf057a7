"""bench.py killed at 50 moments: nothing older than a second is lost, and what is left can be read.

Real runs against the simulator, whose own record says which replies it finished, and when.
"""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from vllm_bench.records.beside.token_file import load, recover
from vllm_bench.records.run_info import RunInfo, read_run_info
from vllm_bench.run.folder import mark_left_behind

from tests.end_to_end.killing import REPLIES, STREAMS, Fate, Truth, kill, planned
from tests.sim.simulated import Simulated
from tests.support.frames import read_frame
from tests.support.running import run_script
from tools.hostile.processes import NS, Pulse

pytestmark = pytest.mark.process

SIDE_BY_SIDE = 6


@dataclass(frozen=True)
class Field:
    """All that was killed, and what it left, as it lay there at first."""

    folder: Path
    fates: list[Fate]
    truth: Truth
    pulse: Pulse
    frames: dict[Path, pd.DataFrame]
    infos: dict[Path, RunInfo]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Strike 50 times."""
    folder = tmp_path_factory.mktemp("killed")
    pulse = Pulse()
    pulse.start()
    with Simulated("--exact", "--ttft-ms", "30", "--itl-ms", "10") as server:
        truth = Truth(server.truth_path)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as side_by_side:
            fates = list(
                side_by_side.map(
                    lambda victims: kill(victims, folder / victims.name, f"{server.url}/v1", truth),
                    planned(random.Random(5)),
                )
            )
        server.stop()
        truth.close()
        pulse.stop()
    rows = [path for fate in fates for path in fate.rows]
    return Field(
        folder,
        fates,
        truth,
        pulse,
        {path: read_frame(path) for path in rows if path.stat().st_size},
        {path: read_run_info(path.with_suffix(".json")) for path in rows},
    )


def demanded(field: Field, fate: Fate, level: int) -> set[str]:
    """Return the requests of a level that must have a row, whoever was killed."""
    ended = field.truth.ended(fate.victims.name, level)
    killed_ns = fate.parent_killed_ns
    if killed_ns is not None:
        ended = [(name, at) for name, at in ended if at < killed_ns - patience_ns(field, killed_ns)]
    for worker_ns, gone_ns in fate.worker_kills_ns:  # what it had in its hands went with it
        begin = worker_ns - patience_ns(field, worker_ns)
        end = gone_ns + NS // 10 + field.pulse.stalled_ns(gone_ns)  # the server learns of it
        ended = [(name, at) for name, at in ended if not begin <= at < end]
    return {name for name, _ in ended}


def patience_ns(field: Field, moment_ns: int) -> int:
    return NS + field.pulse.stalled_ns(moment_ns)


def levels(fate: Fate) -> list[tuple[int, Path | None]]:
    """Return each level with its rows, where it has any."""
    found = {int(path.name.split("-")[1].removeprefix("cc")): path for path in fate.rows}
    return [(level, found.get(streams)) for level, streams in enumerate(STREAMS)]


def test_the_kills_fall_on_all_of_them_at_moments_of_all_kinds(field: Field) -> None:
    struck = [blow for fate in field.fates for blow, *_ in fate.struck]
    victims = Counter(blow.victim for blow in struck)
    assert sum(victims.values()) >= 47, victims  # a few may have ended by themselves just before
    assert victims["parent"] >= 15
    assert victims["worker"] >= 25
    assert victims["both"] >= 4
    cut_off = [i for i in field.infos.values() if i.status == "running"]
    assert len(cut_off) > 10
    wanted = sum(
        len(demanded(field, fate, level))
        for fate in field.fates
        if fate.parent_killed_ns
        for level, _ in levels(fate)
    )
    assert wanted > 300


def test_each_reply_that_was_finished_a_second_before_a_kill_has_its_row(field: Field) -> None:
    for fate in field.fates:
        for level, path in levels(fate):
            wanted = demanded(field, fate, level)
            found = set(field.frames[path]["request_id"]) if path in field.frames else set()
            assert wanted <= found, (fate.victims, sorted(wanted - found))


def test_no_request_has_two_rows_and_none_is_made_up(field: Field) -> None:
    for path, frame in field.frames.items():
        assert frame["request_index"].is_unique, path
        assert frame["request_index"].between(0, REPLIES - 1).all()
        assert set(frame["run_id"]) <= {path.stem}


def test_what_each_run_was_can_be_read(field: Field) -> None:
    for path, info in field.infos.items():
        assert (info.run_id, info.num_requests) == (path.stem, REPLIES)
        assert info.status in ("running", "complete", "incomplete", "failed")
    for fate in field.fates:
        under_way = [p for p in fate.rows if field.infos[p].status == "running"]
        assert len(under_way) <= (fate.parent_killed_ns is not None)


def test_the_stamps_of_each_reply_that_has_to_be_there_can_be_read(field: Field) -> None:
    for fate in field.fates:
        for level, path in levels(fate):
            if path is None:
                continue
            whole = path.parent / "tokens" / f"{path.stem}.npz"
            part = whole.with_suffix(".part")
            wanted = {int(name.rpartition("-")[2]) for name in demanded(field, fate, level)}
            if not whole.exists() and not part.exists():
                assert not wanted
                continue
            tokens = load(whole) if whole.exists() else recover(part)
            found = tokens["request_index"].tolist()
            assert len(found) == len(set(found))
            assert wanted <= set(found)
            assert tokens["first_read"][-1] == len(tokens["t_ns"])


def test_no_sending_process_survives_its_parent(field: Field) -> None:
    assert {fate.victims.name: fate.survivors for fate in field.fates if fate.survivors} == {}
    for fate in field.fates:
        killed_ns = fate.parent_killed_ns
        if killed_ns is not None:  # and it soon leaves the server in peace
            last_ns = field.truth.last_came_ns(fate.victims.name)
            assert last_ns < killed_ns + patience_ns(field, killed_ns), fate.victims


def test_a_run_that_loses_a_sending_process_ends_by_itself_and_says_so(field: Field) -> None:
    ended = [f for f in field.fates if f.parent_killed_ns is None and f.struck]
    assert len(ended) >= 5
    for fate in ended:
        alone = fate.victims.workers == 1
        assert fate.returncode == (1 if alone else 4), fate.err
        assert "died" in fate.err
        assert "worker_lost" in fate.out
        for path in fate.rows:
            info = field.infos[path]
            lost = sum(worker["lost"] for worker in info.client_health["workers"])
            cut_off = "failed" if alone else "incomplete"
            assert info.status == (cut_off if lost else "complete")
            assert info.clock_end is not None
            assert lost == 1 or len(field.frames[path]) == REPLIES


def test_what_is_left_is_summed_up_and_said_to_be_cut_off(field: Field, tmp_path: Path) -> None:
    runs = f"{field.folder}/*/results/*.csv"
    done = run_script("bench/summarize.py", runs, "--results-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    told = pd.read_csv(tmp_path / "summary.csv").set_index("run_id")
    assert set(told.index) == {path.stem for path in field.infos}
    for path, info in field.infos.items():
        verdict, reasons = told.loc[path.stem, ["verdict", "reasons"]]
        if info.status != "complete":
            assert verdict in ("SUSPECT", "INVALID")
            assert {"interrupted", "worker_lost"} & set(reasons.split(", "))
        elif len(field.frames[path]) < REPLIES:
            assert verdict == "INVALID"
            assert "worker_lost" in reasons


def test_what_is_left_is_drawn(field: Field, tmp_path: Path) -> None:
    cut_off = [p for p, i in field.infos.items() if i.status == "running"]
    by_rows = sorted(cut_off, key=lambda p: len(field.frames.get(p, ())))
    some = [by_rows[0], by_rows[len(by_rows) // 2], by_rows[-1]]
    done = run_script("bench/plot.py", *some, "--results-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    for path in (p for p in some if len(field.frames.get(p, ()))):
        assert (tmp_path / "plots" / f"{path.stem}_latency_cdf.png").stat().st_size > 0


def test_the_killed_are_marked_and_no_others(field: Field) -> None:
    for fate in field.fates:
        dead = {p for p in fate.rows if field.infos[p].status == "running"}
        begun = {p for p in dead if p.stat().st_size}
        marked = mark_left_behind(fate.folder / "results")
        assert {p.with_suffix(".csv") for p in marked} == begun
        for path in fate.rows:
            status = read_run_info(path.with_suffix(".json")).status
            assert status == ("interrupted" if path in begun else field.infos[path].status)
