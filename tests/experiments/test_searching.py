"""A search's driver without a server: its time, what it goes on with, and where it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.errors import BenchError
from vllm_bench.experiments import capacity
from vllm_bench.experiments.capacity import Asked, Searching, asked_of, estimate_s
from vllm_bench.records.run_info import RunInfo, read_run_info
from vllm_bench.scenario.scenario import Scenario
from vllm_bench.search.kept import Search, read_search
from vllm_bench.search.sizes import Size
from vllm_bench.search.steps import Step

from tests.search.made import knee, made_probe, probe_at
from tests.support.made_runs import made_info, made_record, write_run

SLO = {"ttft_ms": {"p99": 500}}


def asked(minutes: float = 30.0, **settings: Any) -> Asked:
    usual = {"name": "one", "model": "m", "max_new_tokens": 8, "slo": SLO, "num_requests": 9}
    scenario = Scenario.model_validate({**usual, "request_rates": [4, 64], **settings})
    return asked_of(scenario, None, None, None, minutes)


class Clock:
    """A monotonic clock that moves as runs are made."""

    def __init__(self) -> None:
        self.s = 0.0

    def monotonic(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        self.s += seconds


class Made(Searching):
    """Searches a server whose share late is known: a run takes its time on the clock alone."""

    __slots__ = ()

    def begin(self) -> Search:
        return self.begun(resume=False)

    def _made(self, search: Search, step: Step, began_s: float) -> Search:
        clock.s += self._seconds(search, step)
        return search.with_probe(told[0](step, len(search.probes) + 1))


clock = Clock()
Answer = Callable[[Step, int], Any]
told: list[Answer] = []  # how the server of this test answers


@pytest.fixture
def searching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    clock.s = 0.0
    monkeypatch.setattr(capacity, "time", clock)

    def make(answered: Answer, minutes: float = 30.0, **settings: Any) -> Made:
        told[:] = [answered]
        session: Any = type("Results", (), {"folder": tmp_path})()
        return Made(asked=asked(minutes, **settings), session=session, say=lambda line: None)

    return make


def at(most: float) -> Answer:
    return lambda step, number: probe_at(step, knee(most)(step.load), number)


def test_with_time_enough_it_is_done_within_its_estimate(
    searching: Callable[..., Made], tmp_path: Path
) -> None:
    made = searching(at(20.0), minutes=120.0)
    found = made.run(made.begin())
    assert (found.status, found.found[0].confirmed) == ("done", 3)
    low_s, high_s = found.estimate_s
    assert low_s <= found.took_s <= high_s
    assert read_search(tmp_path / "capacity" / f"{found.id}.json") == found


@pytest.mark.parametrize("minutes", [1.0, 3.0, 10.0])
def test_it_ends_in_time_and_says_so(searching: Callable[..., Made], minutes: float) -> None:
    made = searching(at(20.0), minutes=minutes)
    found = made.run(made.begin())
    assert found.took_s <= 1.2 * 60 * minutes
    assert found.status in ("done", "out of time")
    assert (found.why is None) == (found.status == "done")
    assert found.probes


def test_where_time_runs_short_it_confirms_before_it_closes_in(
    searching: Callable[..., Made],
) -> None:
    made = searching(at(20.0), minutes=3.0)
    (found,) = made.run(made.begin()).found
    assert found.confirmed == 3


def test_what_breaks_off_is_kept(searching: Callable[..., Made], tmp_path: Path) -> None:
    def broken(step: Step, number: int) -> Any:
        if number == 3:
            raise BenchError("the server is gone")
        return at(20.0)(step, number)

    made = searching(broken)
    with pytest.raises(BenchError):
        made.run(made.begin())
    (path,) = (tmp_path / "capacity").glob("*.json")
    kept = read_search(path)
    assert (kept.status, len(kept.probes)) == ("failed", 2)
    again = searching(at(20.0))
    found = again.run(again.begun(resume=True))
    assert found.id == kept.id
    assert found.probes[:2] == kept.probes
    assert found.status == "done"


def test_two_runs_in_a_row_that_answer_nothing_end_it_and_resume_tries_again(
    searching: Callable[..., Made],
) -> None:
    def spoilt(step: Step, number: int) -> Any:
        return replace(at(20.0)(step, number), spoilt="INVALID (send_lag)" if number > 2 else None)

    made = searching(spoilt)
    found = made.run(made.begin())
    assert (found.status, len(found.probes), found.exit_code) == ("stuck", 4, 4)
    again = searching(at(20.0))
    assert again.run(again.begun(resume=True)).status == "done"


def test_a_search_of_something_else_isnt_gone_on_with(searching: Callable[..., Made]) -> None:
    first = searching(at(20.0), minutes=1.0)
    kept = first.run(first.begin())
    other = searching(at(20.0), slo={"ttft_ms": {"p99": 400}})
    assert other.begun(resume=True).id != kept.id
    longer = searching(at(20.0), minutes=60.0)
    assert longer.begun(resume=True).id == kept.id


class OnFiles(Searching):
    """Searches by runs that are made up on disk, each on a server that says this of itself."""

    __slots__ = ()

    def _sent(self, search: Search, step: Step, size: Size, number: int) -> tuple[Path, RunInfo]:
        records = [made_record(n, request_rate=step.load) for n in range(size.requests)]
        settings = {"slo": {"ttft_ms": {"p99": 500.0}}, "request_rates": [step.load]}
        own = {"request_rate": step.load, "server": servers[min(number, len(servers)) - 1]}
        info = made_info(records, scenario=settings, **own)
        folder = self.session.folder / str(number)
        folder.mkdir()
        rows = write_run(folder, records, info)
        return rows, read_run_info(rows.with_suffix(".json"))

    def _rest(self, run: str) -> None:
        """There is no server."""


servers: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": {"max_num_seqs": 1, "block_size": 16}}, "max_num_seqs is 1, and was 8"),
        ({"version": "0.34.0"}, "version"),
        ({"system_fingerprint": "b"}, "system_fingerprint"),
    ],
)
def test_runs_of_another_server_dont_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(capacity, "time", Clock())
    one = {"settings": {"block_size": 16, "max_num_seqs": 8}, "version": "0.33.0"}
    one["system_fingerprint"] = "a"
    servers[:] = [one, {**one, "settings": None}, {**one, **other}]
    session: Any = type("Results", (), {"folder": tmp_path})()
    searching = OnFiles(asked=asked(), session=session, say=lambda line: None)
    with pytest.raises(BenchError, match=said):
        searching.run(searching.begun(resume=False))
    (path,) = (tmp_path / "capacity").glob("*.json")
    kept = read_search(path)
    assert (kept.status, len(kept.probes)) == ("failed", 2)
    assert kept.server["version"] == "0.33.0"


def test_a_server_that_was_started_anew_with_the_same_settings_is_the_same() -> None:
    before = {"settings": {"max_num_seqs": 8, "num_gpu_blocks": 7431}, "version": "0.33.0"}
    after = {"settings": {"max_num_seqs": 8, "num_gpu_blocks": 7430}, "version": None}
    capacity._check_it_is_the_same(before, after)
    with pytest.raises(BenchError, match="max_num_seqs"):
        capacity._check_it_is_the_same(before, {"settings": {"max_num_seqs": 9}})


def test_streams_are_estimated_by_the_run_nearest_to_them(
    searching: Callable[..., Made],
) -> None:
    made = searching(at(20.0))
    probes = (made_probe(8, per_s=20.0), made_probe(32, per_s=50.0))
    streams = replace(made.asked, of="concurrency")
    assert capacity._per_s(streams, Step("find", 40), probes) == 50.0
    assert capacity._per_s(streams, Step("find", 4), ()) == 4.0
    assert capacity._per_s(made.asked, Step("find", 40), probes) == 40


def test_an_estimate_is_no_longer_than_the_time_there_is() -> None:
    assert max(estimate_s(asked(minutes=2.0))) <= 120.0


def test_ctrl_c_while_a_run_is_told_of_keeps_the_run(
    searching: Callable[..., Made], tmp_path: Path
) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    made = dataclasses.replace(searching(at(20)), say=say)
    with pytest.raises(KeyboardInterrupt):
        made.run(made.begin())
    (path,) = (tmp_path / "capacity").glob("*.json")
    kept = read_search(path)
    assert said
    assert (kept.status, len(kept.probes)) == ("interrupted", 1)
