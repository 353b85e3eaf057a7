"""Jobs whose load comes from two machines, here two foremen: what the server sees is one load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import RunInfo, read_run_info
from vllm_bench.records.same_run import RunKey
from vllm_bench.search.kept import read_search
from vllm_bench.simulator import simulator

from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import TinyVllm
from tests.support.frames import read_frame
from tests.support.running import ROOT, environment, tiny_scenario, write_scenario

pytestmark = pytest.mark.process

SENDER = f"{sys.executable} {ROOT / 'bench' / 'sender.py'}"
TWO = ("--senders", SENDER, "--senders", SENDER, "--listen", "127.0.0.1", "--plain")
NAMES = 2


@pytest.fixture
def tiny() -> Iterator[TinyVllm]:
    with TinyVllm() as server:
        yield server


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with simulator("--profile", "tiny-cpu", "--model", "tiny") as (url, _):
        yield url


def run(folder: Path, script: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(folder),
    )


def bench(folder: Path, scenarios: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(
        folder, "bench.py", "--scenarios", scenarios, "--results-dir", folder / "results", *words
    )


def sent(server: TinyVllm) -> list[str]:
    """Return what the server was asked since the last time, without salts, in any order."""
    found = []
    for request in server.requests:
        if request.path.endswith("completions"):
            body = {k: v for k, v in request.json.items() if k != "cache_salt"}
            found.append(json.dumps(body, sort_keys=True))
    server.requests.clear()
    return sorted(found)


def infos(folder: Path) -> list[RunInfo]:
    """Return what the runs in a folder say of themselves, in their order."""
    found = [read_run_info(path) for path in folder.glob("*.json")]
    return sorted(found, key=lambda info: info.clock_start.wall_s)


def names_of(info: RunInfo) -> list[str]:
    return [machine["machine"] for machine in info.client_health["machines"]]


LOADS: dict[str, dict[str, Any]] = {
    "streams": {"concurrencies": [5], "num_requests": 43, "warmup_requests": 3},
    "talks": {"concurrencies": [4], "duration_s": 0.5, "conversations": {"turns": 3}},
    "clock": {"request_rates": [90], "num_requests": 45, "max_in_flight": 7},
    "one": {"concurrencies": [1], "duration_s": 0.3},  # of one stream a machine has nothing
}


def test_two_machines_ask_a_server_what_one_asks(tmp_path: Path, tiny: TinyVllm) -> None:
    scenarios = tiny_scenario(tmp_path, tiny.base_url)
    usual = json.loads(scenarios.read_text())["scenarios"]["one"]
    loads = {name: {**usual, **load} for name, load in LOADS.items()}
    scenarios.write_text(json.dumps({"scenarios": loads}))
    alone = bench(tmp_path, scenarios, "--plain", "--name", "streams")
    by_one = sent(tiny)
    ones = {info.scenario["name"]: info for info in infos(tmp_path / "results")}
    together = bench(tmp_path, scenarios, "--workers", "2", *TWO)
    assert {alone.returncode, together.returncode} <= {0, 4}, together.stderr
    assert together.stderr.count("waiting for 2 machines") == 1
    assert "1 stream: too small for all machines" in together.stderr
    twos = infos(tmp_path / "results")[len(ones) :]
    assert [info.scenario["name"] for info in twos] == list(LOADS)
    assert Counter(by_one) <= Counter(sent(tiny))
    for two in twos:
        _check(two, tmp_path / "results")
        if two.scenario["name"] in ones:
            one = ones[two.scenario["name"]]
            assert two.plan["sha256"] == one.plan["sha256"]
            assert RunKey.of(two) == RunKey.of(one)  # what --resume asks for


def _check(info: RunInfo, folder: Path) -> None:
    """Each request has a row, of the machine of its stream; by time each that began."""
    load = LOADS[info.scenario["name"]]
    rows = read_frame(folder / f"{info.run_id}.csv")
    assert info.status == "complete"
    assert len(rows) == info.num_requests == load.get("num_requests", len(rows))
    assert rows["error"].isna().all()
    assert rows["request_index"].is_unique
    streams = load.get("concurrencies", [NAMES])[0]
    assert rows["machine"].nunique() == min(NAMES, streams)
    if "conversations" not in load:  # of these plays are dealt
        by_stream = rows.groupby(rows["request_index"] % streams)
        assert by_stream["machine"].nunique().eq(1).all()
    if "num_requests" in load:
        assert sorted(rows["request_index"]) == list(range(load["num_requests"]))
    else:
        uses = rows["prompt_id"].value_counts()
        assert (info.prompts["distinct"], info.prompts["max_uses"]) == (len(uses), uses.max())
    assert sum(sender["streams"] for sender in info.client_health["workers"]) >= streams


@pytest.mark.parametrize("senders", [("--plain",), TWO], ids=["one", "two"])
def test_what_a_class_has_is_sent_by_those_who_have_its_streams(
    tmp_path: Path, tiny: TinyVllm, senders: tuple[str, ...]
) -> None:
    """Of more processes and machines than streams, or places, some have none of them."""
    of_class = {"chat": {"share": 1.0}, "agents": {"streams": 1}, "more": {"streams": 5}}
    load = {"request_rates": [90], "num_requests": 40, "max_in_flight": 3, "warmup_requests": 7}
    scenarios = tiny_scenario(tmp_path, tiny.base_url, **load, classes=of_class)
    done = bench(tmp_path, scenarios, "--workers", "3", *senders)
    assert done.returncode in (0, 4), done.stderr
    (info,) = infos(tmp_path / "results")
    rows = read_frame(tmp_path / "results" / f"{info.run_id}.csv")
    assert (info.status, len(rows)) == ("complete", info.num_requests)
    assert info.unmeasured["warmup"] == 7 * len(of_class)
    assert sorted(rows["request_index"][rows["class"] == "chat"]) == list(range(0, 120, 3))
    assert len(sent(tiny)) == len(rows) + 7 * len(of_class) + info.unmeasured["tail"]


@pytest.mark.parametrize("script", ["bench.py", "capacity.py"])
def test_a_dry_run_starts_no_machine_and_refuses_what_a_run_refuses(
    tmp_path: Path, script: str
) -> None:
    load = {"slo": {"ttft_ms": {"p90": 9}}, "concurrencies": [2], "num_requests": 9}
    scenarios = tiny_scenario(tmp_path, "http://127.0.0.1:9/v1", **load)
    words = ("--scenarios", scenarios, "--results-dir", tmp_path / "results", "--dry-run")
    words = (*words, *(("--of", "concurrency") if script == "capacity.py" else ()))
    done = run(tmp_path, script, *words, "--senders", "false", "--machines", "3")
    assert (done.returncode, "3 machines" in done.stderr) == (0, True), done.stderr
    refused = run(tmp_path, script, *words, "--machines", "3")
    assert refused.returncode == 2
    assert "--key-file" in refused.stderr


def test_a_search_ends_a_run_over_machines_early(tmp_path: Path, base_url: str) -> None:
    slo = {"ttft_ms": {"p90": 0.01}}
    settings = {"model": "tiny", "max_new_tokens": 8, "slo": slo, "base_url": base_url}
    scenarios = write_scenario(tmp_path, **settings, request_rates=[40], num_requests=9)
    results = tmp_path / "results"
    words = ("--scenarios", scenarios, "--results-dir", results, "--low", "40", "--minutes", "0.3")
    done = run(tmp_path, "capacity.py", *words, *TWO)
    assert done.returncode in (3, 4), done.stderr
    (path,) = (results / "capacity").glob("*.json")
    search = read_search(path)
    assert search.probes
    runs = [results / "capacity" / search.id / probe.run_id for probe in search.probes]
    for run_file in runs:
        info = read_run_info(run_file.with_suffix(".json"))
        rows = read_frame(run_file.with_suffix(".csv"))
        assert info.status == "stopped"
        assert 0 < len(rows) < info.num_requests
        assert len(names_of(info)) == NAMES
        assert {machine["lost"] for machine in info.client_health["machines"]} == {None}


def test_an_experiment_takes_turns_between_servers_with_the_same_machines(tmp_path: Path) -> None:
    load = {"model": "tiny", "max_new_tokens": 4, "concurrencies": [4], "duration_s": 1.0}
    scenarios = write_scenario(tmp_path, **load)
    flags = ("--model", "tiny", "--profile", "tiny-cpu")
    with simulator(*flags) as (one, _), simulator(*flags) as (other, _):
        words = ("--no-restart", "--base-url-a", one, "--base-url-b", other, "--visits", "2")
        where = ("--scenarios", scenarios, "--results-dir", tmp_path / "results")
        done = run(tmp_path, "ab.py", *words, *where, "--label-a", "x", "--label-b", "y", *TWO)
    assert done.returncode == 4, done.stderr  # under eight visits nothing is judged
    assert done.stderr.count("waiting for 2 machines") == 1
    found = infos(tmp_path / "results")
    assert {info.experiment["side"] for info in found} == {"x", "y"}
    a, b = ([i for i in found if i.experiment["side"] == side] for side in ("x", "y"))
    assert [i.plan["sha256"] for i in a] == [i.plan["sha256"] for i in b]
    assert {tuple(names_of(info)) for info in found} == {tuple(names_of(found[0]))}
