"""One start: what fails on the way becomes a trial, and what would fail everywhere ends it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from vllm_bench.errors import BenchError, UsageError
from vllm_bench.interrupts import INTERRUPTS
from vllm_bench.launch.env import Settings
from vllm_bench.launch.left_behind import Process
from vllm_bench.launch.process import StopFailedError
from vllm_bench.run.prepare import TooLongError
from vllm_bench.run.session import Session
from vllm_bench.scenario.scenario import Scenario
from vllm_bench.tuning import one_start
from vllm_bench.tuning.configurations import Configuration
from vllm_bench.tuning.one_start import Starts
from vllm_bench.tuning.searched import Wanted
from vllm_bench.tuning.step import Step
from vllm_bench.tuning.trials import Trial

TOLD = {"kv_cache_size_tokens": 1000, "max_num_seqs": 8, "model": "m"}


class Model:
    id = "m"


class Control:
    def models(self) -> list[Model]:
        return [Model()]

    def close(self) -> None:
        pass


class Server:
    """A server that is up at once; `stops` is what its end raises."""

    pid = os.getpid()
    stops: BenchError | None = None

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings, self.log = settings, log

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self.stops is not None:
            raise self.stops

    def ready(self, limit_s: float) -> float:
        return 1.5

    def server(self) -> Control:
        return Control()

    def last_lines(self) -> list[str]:
        return ["the last line"]


def starts(folder: Path, base: dict[str, str] | None = None) -> Starts:
    session = Session(
        environ={},
        interrupts=INTERRUPTS,
        say=lambda _: None,
        screen=sys.stderr,
        plain=True,
        folder=folder,
        wait_s=1,
        give_up_s=1,
    )
    return Starts(
        tuning_id="t",
        folder=folder,
        base=base or {},
        environ={},
        session=session,
        say=lambda _: None,
        ready_limit_s=1,
    )


def step(**settings: str) -> Step:
    load = {"name": "s", "max_new_tokens": 8, "concurrencies": [2], "num_requests": 4, "model": "x"}
    one = Configuration("one", "one", {"MODEL": "m", **settings})
    return Step("full", one, Scenario.model_validate(load))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what makes a start of these settings; `raises` comes from the runs on it."""

    def make(raises: Exception | None = None, **settings: str) -> Trial:
        seen: list[Scenario] = []

        def measured(self: Starts, _: Any, step: Step, trial: Trial, scenario: Scenario) -> Trial:
            seen.append(scenario)
            if raises is not None:
                raise raises
            return trial.model_copy(update={"run_ids": (scenario.base_url, scenario.model)})

        monkeypatch.setattr(one_start, "ServerProcess", Server)
        monkeypatch.setattr(one_start, "said", lambda *_: TOLD)
        monkeypatch.setattr(Starts, "_measured", measured)
        began: list[Process] = []
        trial = starts(tmp_path).make(step(**settings), began.append)
        assert [one.pid for one in began] == [Server.pid]
        return trial

    return make


def test_what_is_what_was_asked_is_measured_under_its_own_model_and_port(made: Any) -> None:
    trial = made(MAX_NUM_SEQS="8")
    url, model = trial.run_ids
    assert url.startswith("http://127.0.0.1:18") or url.startswith("http://127.0.0.1:19")
    assert model == "m"  # the scenario's x isn't served
    assert (trial.why, trial.ready_s, trial.kv_tokens) == (None, 1.5, 1000)


def test_what_is_not_what_was_asked_is_not_measured(made: Any) -> None:
    trial = made(MAX_NUM_SEQS="64")
    assert trial.run_ids == ()
    assert trial.why.startswith("not what was asked: max_num_seqs")
    assert "64" in trial.why


@pytest.mark.parametrize("error", [BenchError("it broke off"), TooLongError("one: no room")])
def test_what_fails_with_a_configuration_is_its_trial(made: Any, error: BenchError) -> None:
    trial = made(error)
    assert trial.why == str(error).removeprefix("one: ")
    assert (trial.ready_s, trial.log) == (1.5, ("the last line",))


def test_what_would_fail_with_each_ends_it(made: Any) -> None:
    with pytest.raises(UsageError):
        made(UsageError("no such key"))


def test_a_server_that_stays_ends_it(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "stops", StopFailedError("it stays"))
    with pytest.raises(StopFailedError):
        made()


def test_a_capacity_needs_one_slo_to_hold_the_two_best_by() -> None:
    usual = {"name": "s", "model": "m", "max_new_tokens": 8, "request_rates": [4, 64]}
    tier = {"ttft_ms": {"p99": 500}}
    tiers = Scenario.model_validate({**usual, "num_requests": 9, "slo_tiers": {"fast": tier}})
    with pytest.raises(UsageError, match="slo_tiers alone"):
        Wanted(None, 30.0).check(tiers)
    Wanted(None, 30.0).check(Scenario.model_validate({**tiers.model_dump(), "slo": tier}))
