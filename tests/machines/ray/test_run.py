"""One load over three nodes of Ray: the same run as one machine's, in all but who sent what."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.records.beside.token_file import load as load_tokens
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.run_info import read_run_info

from tests.end_to_end.golden import (
    Evidence,
    check,
    check_causes,
    check_nothing_is_missing,
    check_order,
    check_row,
    pairs,
)
from tests.machines.ray.placing import Place
from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S
from tests.support.frames import read_frame
from tests.support.running import command, environment, write_prompts

pytestmark = pytest.mark.process

STREAMS, REQUESTS, NODES = 7, 42, 3
LOADS: dict[str, dict[str, Any]] = {
    "closed": {"concurrencies": [STREAMS], "num_requests": REQUESTS},
    "open": {"request_rates": [20], "num_requests": REQUESTS},
}


@dataclass
class Done:
    """What bench.py left, and what the server did."""

    folder: Path
    code: int
    out: str
    err: str
    truth: list[dict[str, Any]]  # by request

    def rows(self, load: str) -> pd.DataFrame:
        (path,) = (self.folder / "results").glob(f"{load}-*.csv")
        return read_frame(path)

    def evidence(self, load: str) -> Evidence:
        """Return what both sides wrote down of a load, less an open loop's tail."""
        (path,) = (self.folder / "results").glob(f"{load}-*.csv")
        run, tokens = load_run(path), load_tokens(path.parent / "tokens" / f"{path.stem}.npz")
        ids = set(run.frame["request_id"])
        return Evidence(run, tokens, [told for told in self.truth if told["request_id"] in ids])

    def info(self, load: str) -> Any:
        (path,) = (self.folder / "results").glob(f"{load}-*.json")
        return read_run_info(path)


@contextmanager
def begun(
    folder: Path, *words: str, **env: str
) -> Iterator[tuple[subprocess.Popen[str], Simulated]]:
    folder.mkdir()
    with Simulated("--exact", "--ttft-ms", "20", "--itl-ms", "5") as server:
        common = {
            "base_url": f"{server.url}/v1",
            "model": "simulated",
            "max_new_tokens": 8,
            "ignore_eos": True,
            "warmup_requests": 0,
            "dataset": f"file:{write_prompts(folder)}",
        }
        scenarios = folder / "scenarios.yaml"
        loads = {name: {**common, **load} for name, load in LOADS.items()}
        scenarios.write_text(json.dumps({"scenarios": loads}))
        with subprocess.Popen(
            command(folder, scenarios, "--plain", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(folder, **env),
        ) as process:
            yield process, server


def ended(folder: Path, process: subprocess.Popen[str], server: Simulated) -> Done:
    out, err = process.communicate(timeout=LIMIT_S)
    return Done(folder, process.returncode, out, err, server.truth())


@pytest.fixture(scope="module")
def both(somebodys: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Done]:
    """The same loads by Ray and by this machine alone, side by side, each on its own server."""
    folder = tmp_path_factory.mktemp("runs")
    ray = begun(folder / "ray", "--ray", somebodys.address, **somebodys.environ)
    with ray as first, begun(folder / "alone") as second:
        return ended(folder / "ray", *first), ended(folder / "alone", *second)


@pytest.mark.parametrize("load", LOADS)
def test_it_is_the_plan_of_one_machine_sent_once(both: tuple[Done, Done], load: str) -> None:
    ray, alone = both
    assert ray.code in (0, 4), ray.err  # a busy machine spoils a run by right
    rows = ray.rows(load)
    assert sorted(rows["request_index"]) == list(range(REQUESTS))
    assert rows["error_kind"].isna().all()
    assert ray.info(load).plan["sha256"] == alone.info(load).plan["sha256"]
    same = alone.rows(load).sort_values("request_index")["prompt_id"].to_list()
    assert rows.sort_values("request_index")["prompt_id"].to_list() == same


def test_request_i_belongs_to_the_machine_of_stream_i(both: tuple[Done, Done]) -> None:
    rows = both[0].rows("closed")
    names = sorted(set(rows["machine"]))
    assert len(names) == NODES
    owners = [names[index % STREAMS % NODES] for index in rows["request_index"]]
    assert rows["machine"].to_list() == owners
    for _, own in rows.groupby("machine"):  # one order inside each
        assert own.sort_values("t_sent_s")["request_index"].is_monotonic_increasing


def test_an_open_load_is_dealt_by_index(both: tuple[Done, Done]) -> None:
    rows = both[0].rows("open")
    names = sorted(set(rows["machine"]))
    assert rows["machine"].to_list() == [names[i % NODES] for i in rows["request_index"]]


def test_the_server_did_what_the_rows_say(both: tuple[Done, Done]) -> None:
    for done in both:
        assert "ledger_mismatch" not in done.out
        rows = [row for load in LOADS for row in done.rows(load).itertuples()]
        told = {row.request_id: row.completion_tokens for row in rows}
        assert len(told) == len(LOADS) * REQUESTS
        truth = {seen["request_id"]: seen["completion_tokens"] for seen in done.truth}
        assert {name: truth[name] for name in told} == told
        tail = truth.keys() - told.keys()  # an open loop's goes on until all have ended
        assert all(name.startswith("open-") for name in tail)


def test_its_files_pass_every_check_of_one_machines(both: tuple[Done, Done]) -> None:
    for done in both:
        check(done.evidence("closed"))
        evidence = done.evidence("open")
        check_nothing_is_missing(evidence)
        for pair in pairs(evidence):
            check_order(pair)
            check_causes(pair)
            check_row(pair)


@pytest.mark.parametrize("load", LOADS)
def test_each_node_is_told_and_runs_at_full_priority(both: tuple[Done, Done], load: str) -> None:
    machines = both[0].info(load).client_health["machines"]
    assert len(machines) == NODES
    assert [m["lost"] for m in machines] == [None] * NODES
    assert [m["nice"] for m in machines] == [0] * NODES  # Ray's own cluster has 15
    assert sum(m["rows"] for m in machines) == REQUESTS


def test_ray_says_nothing_on_our_screen(both: tuple[Done, Done]) -> None:
    ray, alone = both
    own = said(ray) - said(alone)
    assert len(own) == 2, own  # who is waited for, and who came
    shown = (ray.out + ray.err).replace(str(ray.folder), "").lower()
    assert "ray" not in shown


def said(done: Done) -> set[str]:
    """Return the lines that aren't of one run, without what differs from run to run."""
    lines = (re.sub(r"[\d.]+\S*|file:\S*", "#", line) for line in done.err.splitlines())
    return {line for line in lines if not line.startswith("  ")}
