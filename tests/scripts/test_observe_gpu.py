"""bench.py and observe_gpu.py as a person runs them, on a driver library that plays scripts."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.records.beside.said_file import Said
from vllm_bench.records.beside.sample_file import read_server
from vllm_bench.records.beside.samples import GpuRow
from vllm_bench.records.row import Rows, columns
from vllm_bench.records.run_info import read_run_info
from vllm_bench.watch.gpu_elsewhere import HEADER

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import FarEnd, TinyVllm
from tests.support.running import assert_ran, run_bench, run_script, tiny_scenario
from tests.support.shimmed import TWO_GPUS, environment

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
OBSERVE = ROOT / "bench" / "observe_gpu.py"
# GPU 0 throttles for a while; GPU 1 falls off the bus.
TROUBLE = TWO_GPUS + "0 3 reasons=0x44 sm=1200\n0 6 reasons=0 sm=1980\n1 5 all=!15\n"


@pytest.fixture
def bench(tmp_path: Path, tiny_vllm: TinyVllm) -> Callable[..., Any]:
    """Run bench.py on a scenario with these changes; return how it ended."""
    tiny_vllm.token_gap_s = 0.02
    settings = {"base_url": tiny_vllm.base_url, "concurrencies": [2], "num_requests": 12}

    def run(changes: dict[str, object], *words: str, **env: str) -> Any:
        return run_bench(
            tmp_path, tiny_scenario(tmp_path, **{**settings, **changes}), *words, **env
        )

    return run


def observed(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "results").glob("*.json")
    return read_run_info(path).observed


def telemetry(folder: Path) -> pd.DataFrame:
    (path,) = (folder / "results" / "telemetry").glob("*.csv")
    return pd.read_csv(path)


def test_a_run_with_two_gpus_of_which_one_throttles_and_one_disappears(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    changes = {"telemetry": True, "telemetry_hz": 100}
    done = bench(changes, **environment(tmp_path, TROUBLE))
    assert_ran(done)
    rows, gpu = telemetry(tmp_path), observed(tmp_path)["gpu"]
    assert tuple(rows.columns) == columns(GpuRow)
    first, second = (rows[rows["gpu_index"] == i] for i in (0, 1))
    assert first["throttle_reasons"].to_list()[:7] == [
        *["none"] * 3,
        *["sw_power_cap|hw_thermal_slowdown"] * 3,
        "none",
    ]
    assert first["sm_clock_mhz"].to_list()[3] == 1200
    assert len(second) == 5
    assert first["t_s"].iloc[0] < 0 < first["t_s"].iloc[-1]
    assert gpu["rows"] == len(rows)
    assert [(g["index"], g["uuid"]) for g in gpu["gpus"]] == [(0, "GPU-aaaa"), (1, "GPU-bbbb")]
    assert [(p["code"], p["gpu_index"]) for p in gpu["problems"]] == [("gpu_lost", 1)]
    (gap,) = [g for g in gpu["gaps"] if g["gpu_index"] == 1]
    assert (gap["to_s"], gap["code"]) == (None, "gpu_lost")
    assert gap["from_s"] == pytest.approx(second["t_s"].iloc[-1], abs=2e-6)
    assert gpu["problems"][0]["text"] in done.stderr


def server_of(run: Path) -> tuple[Rows, Said]:
    rows, said = read_server(run)
    assert rows is not None
    assert said is not None
    return rows, said


def test_rows_are_on_one_clock_with_the_requests(bench: Callable[..., Any], tmp_path: Path) -> None:
    assert_ran(bench({}, "--telemetry", **environment(tmp_path, TWO_GPUS)))
    (path,) = (tmp_path / "results").glob("*.csv")
    requests, rows = pd.read_csv(path), telemetry(tmp_path)
    server = pd.DataFrame(server_of(path)[0].columns)
    for sampled in (rows, server):
        assert sampled["t_s"].min() < requests["t_sent_s"].min()
        assert sampled["t_s"].max() > requests["t_end_s"].max()
    run = read_run_info(path.with_suffix(".json"))
    for sampled in (rows, server):
        # The anchor: the two clocks say the same, but for steps of the wall's.
        apart_s = sampled["wall_s"] - sampled["t_s"] - run.clock_start.wall_s
        assert apart_s.abs().max() < 0.05


def test_the_servers_metrics_are_recorded_in_every_run(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    done = bench({})
    assert_ran(done)
    found = observed(tmp_path)
    (path,) = (tmp_path / "results").glob("*.csv")
    rows, said = server_of(path)
    assert rows["generation_tokens_total"].max() == 48  # the last row is after the last token
    assert rows["generation_tokens_total"].min() == 0
    noted = found["server_metrics"]
    assert (noted["rows"], noted["readings"]) == (said.rows, len(said.t_s))
    ended = [one.values for one in said.series if "request_success" in one.name]
    assert sum(values[-1] - values[0] for values in ended) > 0
    assert list(found) == ["server_metrics"]  # no GPUs unless they are asked for
    assert not (tmp_path / "results" / "telemetry").exists()


def test_no_server_metrics_leaves_them_out(bench: Callable[..., Any], tmp_path: Path) -> None:
    assert_ran(bench({}, "--no-server-metrics"))
    assert observed(tmp_path) == {}
    assert not (tmp_path / "results" / "server_metrics").exists()


def test_no_driver_is_told_once_for_all_levels(bench: Callable[..., Any], tmp_path: Path) -> None:
    gone = environment(tmp_path, "init 9\n" * 9)
    done = bench({"concurrencies": [1, 2]}, "--telemetry", **gone)
    assert_ran(done)
    for path in (tmp_path / "results").glob("*.json"):
        (problem,) = read_run_info(path).observed["gpu"]["problems"]
        assert problem["code"] == "no_nvml"
        assert done.stderr.count(problem["text"]) == 1


def test_a_command_brings_the_gpus_of_another_machine(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    there = [f"{k}={v}" for k, v in environment(tmp_path, TROUBLE).items()]
    command = shlex.join(["env", *there, sys.executable, str(OBSERVE), "--hz", "100"])
    done = bench({}, "--telemetry-command", command)
    assert_ran(done)
    rows, gpu = telemetry(tmp_path), observed(tmp_path)["gpu"]
    assert (gpu["source"], gpu["hz"], gpu["rows"]) == ("command", 100, len(rows))
    assert len(rows[rows["gpu_index"] == 1]) == 5
    assert rows["t_s"].iloc[0] < 0
    assert [p["code"] for p in gpu["problems"]] == ["gpu_lost"]


def test_an_exporters_page_is_read(
    bench: Callable[..., Any], tmp_path: Path, far_end: FarEnd
) -> None:
    page = b'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",modelName="H100"} 300\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(page)
    far_end.scripts = [[head + page]]
    done = bench({}, "--dcgm-url", far_end.base_url.replace("/v1", "/metrics"))
    assert_ran(done)
    assert telemetry(tmp_path)["power_w"].to_list() == [300]
    assert observed(tmp_path)["gpu"]["source"] == "dcgm"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dcgm-url", "gpu7:9400"], "must be http"),
        (["--dcgm-url", "http://user:key@gpu7:9400/metrics"], "must be http"),
        (["--telemetry-command", " "], "it is empty"),
        (["--telemetry-command", "x", "--dcgm-url", "http://gpu7:9400/metrics"], "doesn't go with"),
    ],
)
def test_wrong_usage_is_told_before_any_request(
    bench: Callable[..., Any], tiny_vllm: TinyVllm, words: list[str], why: str
) -> None:
    done = bench({}, *words)
    assert done.returncode == 2
    assert why in done.stderr
    assert "key@" not in done.stderr.splitlines()[-1]
    assert not tiny_vllm.requests


def observe(folder: Path, script: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(OBSERVE), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment(folder, script)},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_sampler_on_its_own_writes_a_file_until_it_is_told_to_stop(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "gpus.csv"
    process = observe(tmp_path, TROUBLE, "--out", str(path), "--hz", "100")
    wait_until(lambda: path.exists() and path.read_text().count("GPU-aaaa") >= 8)
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (0, "")
    rows = pd.read_csv(path)
    assert tuple(rows.columns) == columns(GpuRow)
    assert len(rows[rows["gpu_index"] == 1]) == 5
    assert '"code": "gpu_lost"' in err  # the notes, apart from the rows


def test_ctrl_c_while_the_driver_gives_no_answer_is_no_word_on_the_driver(tmp_path: Path) -> None:
    there = tmp_path / "there"
    hangs = f"import pathlib, time; pathlib.Path({str(there)!r}).touch(); time.sleep(1000)"
    (tmp_path / "pynvml.py").write_text(hangs)
    process = subprocess.Popen(
        [sys.executable, str(OBSERVE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    wait_until(there.exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "30 s" not in err
    assert "Traceback" not in err


def test_the_sampler_ends_when_its_reader_goes_even_with_no_gpu_left(tmp_path: Path) -> None:
    process = observe(tmp_path, "gpu GPU-a X\n0 0 power=1\n0 2 all=!15\n")
    assert process.stdout is not None
    assert process.stdout.readline() == HEADER + "\n"
    process.stdout.close()
    assert process.wait(LIMIT_S) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("script", "words", "status", "why"),
    [
        ("init 9\n", [], 1, "Driver Not Loaded"),
        (TWO_GPUS, ["--gpus", "9"], 1, "no GPU that can be read"),
        (TWO_GPUS, ["--gpus", "a"], 2, "0 or more"),
        (TWO_GPUS, ["--hz", "1000"], 2, "0.5 to 100"),
        (TWO_GPUS, ["--out", "no/such/folder/x.csv"], 1, "No such file"),
        (TWO_GPUS, ["--out", "/dev/full"], 1, "No space left"),
    ],
)
def test_the_sampler_says_why_it_cannot(
    tmp_path: Path, script: str, words: list[str], status: int, why: str
) -> None:
    process = observe(tmp_path, script, *words)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status
    assert why in err
    assert "Traceback" not in err


def test_every_column_is_explained() -> None:
    told = run_script("bench/observe_gpu.py", "--columns").stdout
    assert [line.split()[0] for line in told.splitlines()] == list(columns(GpuRow))
