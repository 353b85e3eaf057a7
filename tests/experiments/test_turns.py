"""Visits of two servers, with made-up servers and runs: what is counted, and what isn't."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.compare.compare import compare
from vllm_bench.compare.pairs import Side as Runs
from vllm_bench.compare.sides import sides
from vllm_bench.errors import BenchError
from vllm_bench.experiments.ab import begun
from vllm_bench.experiments.servers import Standing, Up, Wait
from vllm_bench.experiments.state import Attempt
from vllm_bench.experiments.turns import Means, Turns, VisitFailedError
from vllm_bench.launch.process import StartFailedError
from vllm_bench.records.beside.going_on import now
from vllm_bench.records.run_info import ClockPair, read_run_info
from vllm_bench.scenario.scenario import Scenario

from tests.compare.written import read
from tests.support.made_runs import NOON_S, made_info, made_record, write_run

LEVELS = (4, 8)


class Server(Standing):
    """One that is always up."""

    @contextmanager
    def up(self, _log: Path, _s: float, _began: Callable[[int], None], _wait: Wait) -> Iterator[Up]:
        yield Up()


@dataclasses.dataclass
class Runner:
    """A session whose runs are written at once; the `breaks`-th measured one never is."""

    folder: Path
    experiment: Mapping[str, Any]
    made: list[str]
    breaks: int | None
    say: Callable[[str], None] = print
    screen: object = None
    telemetry_command: object = None
    dcgm_url: object = None
    tokens: object = True

    def runs(self, scenarios: Sequence[Scenario]) -> Iterator[tuple[Path, str]]:
        (scenario,) = scenarios
        if not self.tokens:
            self.say("waiting for http://h/v1: no answer yet")
            self.say("note: of the prompts")
        for streams in LEVELS if self.tokens else ():  # none to throw away
            if len(self.made) + 1 == self.breaks:
                self.made.append("broken")
                raise BenchError("the server is gone")
            yield self._written(scenario, streams), "complete"

    def check_machines(self) -> None:
        """Nothing: it has none."""

    def _written(self, scenario: Scenario, streams: int) -> Path:
        run_id = f"run{len(self.made)}"
        self.made.append(run_id)
        records = [made_record(i, run_id=run_id, concurrency=streams) for i in range(400)]
        plan = {"sha256": f"{scenario.seed % 100:02}{streams:02}" * 16}
        scenario_as_kept = {"label": scenario.label}
        info = made_info(records, scenario=scenario_as_kept, plan=plan)
        clock = ClockPair(wall_s=NOON_S + 60 * len(self.made), monotonic_ns=0)
        info = dataclasses.replace(info, experiment=dict(self.experiment), clock_start=clock)
        return write_run(self.folder, records, info)


def turns(results: Path, breaks: int | None = None, visits: int = 2) -> Turns:
    made: list[str] = []
    settings = {"name": "made", "model": "m", "dataset": "sample", "num_requests": 400}
    scenario = Scenario.model_validate({**settings, "max_new_tokens": 8, "concurrencies": LEVELS})

    def session(**of: Any) -> Any:
        return Runner(of["folder"], of["experiment"], made, breaks)

    means = Means(
        results=results,
        scenario=scenario,
        servers={s: Server(label, f"http://h:{n}/v1") for n, (s, label) in enumerate(SIDES, 1)},
        session=session,
        environ={},
        wait_s=1.0,
        say=print,
        measured=lambda _: None,
    )
    return Turns(means, begun(means, visits, turn=1, repeats=None))


SIDES: tuple[Any, Any] = (("a", "old"), ("b", "new"))


def of_compare(results: Path) -> set[str]:
    """The runs that compare.py counts."""
    one, other = sides("old", "new", results)
    found = compare(Runs("old", read(one.runs)), Runs("new", read(other.runs)))
    pairs = [pair for level in found.levels for pair in level.pairs]
    return {run.run_id for pair in pairs for unit in (pair.a, pair.b) for run in unit.runs}


@pytest.mark.parametrize("breaks", [None, 2, 4])
def test_compare_counts_the_runs_of_whole_visits_alone(tmp_path: Path, breaks: int | None) -> None:
    experiment = turns(tmp_path, breaks)
    state = experiment.make()
    counted = {*state.counted("a"), *state.counted("b")}
    assert len(counted) == 4
    assert of_compare(tmp_path) == counted


def test_a_run_that_a_killed_script_had_no_time_to_note_is_not_counted(tmp_path: Path) -> None:
    experiment = turns(tmp_path)
    state = experiment.state
    of = {"kind": "ab", "id": state.id, "side": "old", "visit": 1, "pair": 1, "restarted": False}
    unnoted = Runner(
        tmp_path, of, experiment.means.session(folder=tmp_path, experiment=of).made, None
    )
    one = experiment.means.scenario.model_copy(update={"label": "old"})
    rows, _ = next(unnoted.runs([one]))
    killed = Attempt(visit=1, side="a", pair=1, seed=1, status="broken off", began=now())
    experiment.state = state.model_copy(update={"attempts": (killed,)})
    experiment.make()
    assert read_run_info(rows.with_suffix(".json")).experiment["made_again"] is True
    assert rows.stem not in of_compare(tmp_path)


def test_waiting_for_a_server_that_stands_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns(tmp_path).make()
    said = capsys.readouterr().out
    assert said.count("waiting for http://h/v1") == 2
    assert "of the prompts" not in said


class Broken(Server):
    """One that never starts."""

    @contextmanager
    def up(self, _log: Path, _s: float, _began: Callable[[int], None], _wait: Wait) -> Iterator[Up]:
        raise StartFailedError("b: it ended", 1, ["ValueError: no room", "the last line"])
        yield Up()


def test_a_server_that_never_starts_ends_with_the_last_lines_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = turns(tmp_path)
    servers = {**experiment.means.servers, "b": Broken("new", "http://h:2/v1")}
    experiment.means = dataclasses.replace(experiment.means, servers=servers)
    with pytest.raises(VisitFailedError):
        experiment.make()
    said = capsys.readouterr().out
    assert (said.count("ValueError: no room"), said.count("the last line")) == (1, 1)
    assert [a.status for a in experiment.state.attempts] == ["whole", "failed", "failed"]
