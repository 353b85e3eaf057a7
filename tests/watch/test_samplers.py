"""What is sampled samplers a run, and what is said where that can't be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.vllm.server import ControlError
from vllm_bench.watch.samplers import Samplers, Wanted

from tests.support.shimmed import TWO_GPUS, load

pytestmark = pytest.mark.process

METRICS = 'vllm:num_requests_running{engine="0"} 1\n'
DCGM = 'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a"} 300\n'


def watched(folder: Path, **wanted: Any) -> tuple[dict[str, Any], list[str]]:
    """Watch a run that ends at once; return the facts and what was said."""
    said: list[str] = []
    settings: dict[str, Any] = {
        "base_url": "http://gpu7:8000/v1",
        "gpus": True,
        "gpu_hz": 0.01,  # no tick comes between the first reading and the last
        "gpu_indexes": None,
        "server_is_here": True,
    }
    samplers = Samplers(Wanted(**{**settings, **wanted}), folder, "x", said.append)
    samplers.start()
    samplers.anchor(time.perf_counter_ns(), time.time())
    facts = samplers.stop()
    assert samplers.stop() is facts  # it ends once
    return facts, said


def silent() -> str:
    raise ControlError("http://gpu7:8000/metrics: no answer within 5 s")


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.csv"))


def test_this_machines_gpus_and_the_server_are_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, tmp_path, TWO_GPUS)
    facts, said = watched(tmp_path, metrics=lambda: METRICS)
    assert files(tmp_path) == ["server_metrics/x.csv", "telemetry/x.csv"]
    assert (facts["gpu"]["source"], len(facts["gpu"]["gpus"])) == ("nvml", 2)
    assert facts["gpu"]["rows"] == 4  # before and after, of two
    written = (tmp_path / "server_metrics" / "x.csv").read_text().splitlines()
    assert facts["server_metrics"]["readings"] >= 2  # a slow machine has time for a tick
    assert facts["server_metrics"]["rows"] == len(written) - 1  # without the header
    assert not said


def test_telemetry_is_off_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, tmp_path, TWO_GPUS)
    facts, said = watched(tmp_path, gpus=False)
    assert (facts, said, files(tmp_path)) == ({}, [], [])


def test_this_machines_gpus_are_never_taken_for_a_servers_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, tmp_path, TWO_GPUS)
    facts, (line,) = watched(tmp_path, server_is_here=False)
    assert "http://gpu7:8000/v1" in line
    assert [p["code"] for p in facts["gpu"]["problems"]] == ["server_elsewhere"]
    assert not files(tmp_path)


def test_a_server_elsewhere_has_its_exporter_read(tmp_path: Path) -> None:
    facts, said = watched(tmp_path, server_is_here=False, dcgm=lambda: DCGM)
    assert (facts["gpu"]["source"], facts["gpu"]["rows"], said) == ("dcgm", 1, [])


def test_what_a_driver_lacks_is_said_and_the_reason_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, tmp_path, "gpu GPU-a X\n0 0 open=!4\n")
    facts, said = watched(tmp_path)
    assert [p["code"] for p in facts["gpu"]["problems"]] == ["no_permission", "no_gpu"]
    assert said[-1].startswith("no telemetry: ")


def test_a_gpu_that_is_lost_in_the_run_is_said_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, tmp_path, TWO_GPUS + "1 1 all=!15\n")
    facts, said = watched(tmp_path)
    (line,) = said
    assert line.startswith("GPU 1 (GPU-bbbb) ")
    assert line.endswith(": gpu_lost")
    assert facts["gpu"]["gaps"][0]["code"] == "gpu_lost"


def test_a_server_without_metrics_is_said_and_the_reason_kept(tmp_path: Path) -> None:
    facts, (line,) = watched(tmp_path, gpus=False, metrics=silent)
    assert "http://gpu7:8000/v1: " in line
    assert [p["code"] for p in facts["server_metrics"]["problems"]] == ["no_metrics"]


def test_a_run_that_never_starts_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, tmp_path, TWO_GPUS)
    wanted = Wanted(base_url="u", gpus=True, gpu_hz=10, gpu_indexes=None, server_is_here=True)
    samplers = Samplers(wanted, tmp_path, "x", lambda _: None)
    samplers.start()
    assert samplers.stop()["gpu"]["rows"] == 0
    assert not files(tmp_path)
