"""From a driver's readings to the verdict and the summary: bench.py on the NVML shim."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.records.beside.samples import GpuRow
from vllm_bench.records.row import columns
from vllm_bench.serverside.energy import MIN_ENERGY_WINDOW_S

from tests.sim.simulated import Simulated
from tests.support.far_end import TinyVllm
from tests.support.reading import numbers
from tests.support.running import assert_ran, run_bench, run_script, tiny_scenario, write_scenario
from tests.support.shimmed import TWO_GPUS, environment

pytestmark = pytest.mark.process

NO_COUNTER = "0 0 energy=!3\n1 0 energy=!3\n"
SLOWED_AT, LOST_AT = 10, 30  # samples: a busy machine takes few of the 150
TROUBLE = f"""{TWO_GPUS}{NO_COUNTER}
0 {SLOWED_AT} reasons=0x44 sm=1200
1 {LOST_AT} all=!15
"""


def summarized(folder: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """Return the one run of summary.json, its row of summary.csv, and what was printed."""
    results = folder / "results"
    done = run_script("bench/summarize.py", "--results-dir", results)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((results / "summary.json").read_text())["runs"]
    with (results / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return run, row, done.stdout


def telemetry(folder: Path) -> pd.DataFrame:
    (path,) = (folder / "results" / "telemetry").glob("*.csv")
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 3 s with two GPUs, of which one throttles and one disappears."""
    folder = tmp_path_factory.mktemp("trouble")
    with Simulated("--exact", "--ttft-ms", "50", "--itl-ms", "10") as server:
        scenario = write_scenario(
            folder,
            base_url=f"{server.url}/v1",
            model="simulated",
            max_new_tokens=20,
            concurrencies=[4],
            num_requests=48,
            telemetry=True,
            telemetry_hz=50,
            gpus=2,
            gpu_hour_price=2.5,
        )
        assert_ran(run_bench(folder, scenario, **environment(folder, TROUBLE)))
    return folder


def test_rows_tell_which_gpu_throttled_and_which_disappeared(trouble: Path) -> None:
    rows = telemetry(trouble)
    assert tuple(rows.columns) == columns(GpuRow)
    first, second = (rows[rows["gpu_index"] == index] for index in (0, 1))
    reasons = first["throttle_reasons"].to_list()
    assert reasons[:SLOWED_AT] == ["none"] * SLOWED_AT
    assert set(reasons[SLOWED_AT:]) == {"sw_power_cap|hw_thermal_slowdown"}
    assert set(second["throttle_reasons"]) == {"none"}
    assert len(second) == LOST_AT
    assert second["t_s"].max() < first["t_s"].max()


def test_the_verdict_names_both_gpus_and_what_happened_to_them(trouble: Path) -> None:
    run, _, printed = summarized(trouble)
    findings = {f["code"]: f for f in run["verdict"]["findings"]}
    gap, throttled = findings["gpu_gap"], findings["gpu_throttled"]
    assert (gap["severity"], throttled["severity"]) == ("SUSPECT", "SUSPECT")
    assert "GPU 1 (gpu_lost)" in gap["figures"]
    (thermal, times), (power, again) = re.findall(r"(\w+_\w+) in (\d+)", throttled["figures"])
    assert (thermal, power) == ("hw_thermal_slowdown", "sw_power_cap")
    assert int(times) == int(again) > 0
    assert "GPU 0" in throttled["figures"]
    assert "GPU 1" not in throttled["figures"]
    assert "gpu_gap" in printed
    assert "gpu_throttled" in printed


def test_the_summary_has_no_energy_and_says_why(trouble: Path) -> None:
    run, row, printed = summarized(trouble)
    why = run["energy"]["absent"]["per_output_token_j"]
    assert re.match(r"GPU 1 .*-?\d+\.\d s .*\(gpu_lost\); ", why)
    assert "simulator" in why
    assert row["energy_absent"] == why
    assert (run["energy"]["window_j"], row["energy_per_output_token_j"]) == (None, "")
    assert f"no energy: {why}" in printed
    gpus = run["gpu_side"]
    assert (gpus["expected"], row["gpu_expected"]) == (2, "2")
    assert gpus["gpus"][0]["throttled_by"].keys() == {"hw_thermal_slowdown", "sw_power_cap"}
    assert row["gpu_throttled_by"].split(", ") == [
        f"{reason} (GPU 0)" for reason in ("hw_thermal_slowdown", "sw_power_cap")
    ]
    assert "hw_thermal_slowdown" in printed


def test_the_servers_and_the_money_side_stand_beside_it(trouble: Path) -> None:
    run, row, printed = summarized(trouble)
    server, cost = run["server_side"], run["cost"]
    assert server["samples"] >= 2
    assert server["ttft_mean_ms"] >= 50  # the simulator never answers sooner
    assert server["client_ttft_mean_ms"] >= server["ttft_mean_ms"] - 1
    assert server["running_peak"] == 4
    rate = float(row["window_output_tokens_per_s"])
    assert cost["output_tokens_per_s_per_gpu"] == pytest.approx(rate / 2, rel=1e-4)
    # A price for what a simulator gets done would be believed by somebody.
    assert cost["per_million_output_tokens"] is None
    assert "simulator" in cost["absent"]["per_million_output_tokens"]
    assert "million" not in printed


def test_constant_power_is_the_energy_of_the_window_whatever_its_length(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.02
    scenario = tiny_scenario(
        tmp_path,
        tiny_vllm.base_url,
        max_new_tokens=8,
        concurrencies=[2],
        num_requests=12,
        telemetry=True,
    )
    script = TWO_GPUS + NO_COUNTER  # each at 310.5 W
    assert_ran(run_bench(tmp_path, scenario, **environment(tmp_path, script)))
    run, row, _ = summarized(tmp_path)
    assert run["energy"]["source"] == "power"
    assert run["energy"]["window_j"] == pytest.approx(621 * float(row["window_s"]), rel=1e-3)
    why = run["energy"]["absent"]["per_output_token_j"]
    assert numbers(why) == [pytest.approx(float(row["window_s"]), abs=0.1), MIN_ENERGY_WINDOW_S]
