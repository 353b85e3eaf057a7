"""The GPU sampler through the real pynvml, on a driver library that plays scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.records.beside.samples import GpuRow, reason_names
from vllm_bench.records.row import columns
from vllm_bench.watch.gpu import GpuSampler, PcieTurns
from vllm_bench.watch.nvml import GpuGoneError, Nvml
from vllm_bench.watch.recording import GpuRecording, UnavailableError

from tests.support.shimmed import HEALTHY, TWO_GPUS, Collected, load

pytestmark = pytest.mark.process

Load = Callable[..., None]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    def put(script: str, *lacks: str) -> None:
        load(monkeypatch, tmp_path, script, *lacks)

    return put


def sampled(times: int, **settings: Any) -> Collected:
    """Sample so often, without a thread, so that a script's steps are samples."""
    sink = Collected()
    sampler = GpuSampler(sink, 10, retry_s=0, **settings)
    for _ in range(times):
        sampler.sample()
    return sink


def test_readings_become_rows_in_the_units_of_their_names(driver: Load) -> None:
    driver(TWO_GPUS + "0 1 util=99 power=700000 energy=71000\n")
    sink = sampled(2)
    first, second = sink.of(0)
    assert (first.gpu_uuid, first.utilization_percent, first.temperature_c) == ("GPU-aaaa", 35, 60)
    assert (first.memory_used_mb, first.power_w, first.energy_j) == (70_000.0, 310.5, 1.0)
    assert (first.sm_clock_mhz, first.memory_clock_mhz) == (1980, 2619)
    assert first.throttle_reasons == "none"
    assert (second.utilization_percent, second.power_w, second.energy_j) == (99, 700.0, 71.0)
    assert second.t_s > first.t_s
    assert [gpu.name for gpu in sink.found] == ["NVIDIA H100 80GB HBM3"] * 2
    assert not sink.problems


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, "none"),
        (0x1, "gpu_idle"),
        (0x4, "sw_power_cap"),
        (0x8 | 0x40, "hw_slowdown|hw_thermal_slowdown"),
        (0x20 | 0x10000, "sw_thermal_slowdown|0x10000"),  # a bit of a driver to come
    ],
)
def test_throttle_reasons_are_named(bits: int, names: str) -> None:
    assert reason_names(bits) == names


def test_a_gpu_that_throttles_says_why_and_when(driver: Load) -> None:
    driver(TWO_GPUS + "1 2 reasons=0x44 sm=900\n1 4 reasons=0\n")
    reasons = [row.throttle_reasons for row in sampled(5).of(1)]
    throttled = "sw_power_cap|hw_thermal_slowdown"
    assert reasons == ["none", "none", throttled, throttled, "none"]


def test_a_sensor_that_a_gpu_lacks_is_an_empty_cell_and_not_asked_again(driver: Load) -> None:
    # The second value would be read if it were asked again.
    driver(TWO_GPUS + "0 0 energy=!3 power=!3\n0 1 energy=5 power=5\n")
    sink = sampled(3)
    assert [(row.energy_j, row.power_w) for row in sink.of(0)] == [(None, None)] * 3
    assert [row.energy_j for row in sink.of(1)] == [1.0] * 3
    assert {gpu.index: gpu.absent for gpu in sink.found} == {0: ("energy_j", "power_w"), 1: ()}
    assert not sink.problems


def test_an_older_driver_lacks_symbols_and_has_others(driver: Load) -> None:
    driver(TWO_GPUS + "0 0 reasons=4\n", "WITHOUT_ENERGY", "WITHOUT_EVENT_REASONS")
    sink = sampled(2)
    assert [row.throttle_reasons for row in sink.of(0)] == ["sw_power_cap"] * 2
    assert [row.energy_j for row in sink.taken] == [None] * 4
    assert sink.found[0].absent == ("energy_j",)


def test_a_sensor_that_fails_for_a_moment_is_asked_again(driver: Load) -> None:
    driver(TWO_GPUS + "0 1 power=!10\n0 2 power=5000\n")
    assert [row.power_w for row in sampled(3).of(0)] == [310.5, None, 5.0]


def test_permission_that_is_refused_is_told_once(driver: Load) -> None:
    driver(TWO_GPUS + "0 0 energy=!4\n")
    sink = sampled(3)
    assert sink.codes == [("no_permission", 0)]
    assert "energy_j" in sink.problems[0].text
    assert [row.energy_j for row in sink.of(0)] == [None] * 3
    assert [row.power_w for row in sink.of(0)] == [310.5] * 3


@pytest.mark.parametrize(
    ("error", "code"), [(15, "gpu_lost"), (16, "reset_required"), (18, "driver_mismatch")]
)
def test_a_gpu_that_is_lost_is_a_code_and_the_other_goes_on(
    driver: Load, error: int, code: str
) -> None:
    driver(TWO_GPUS + f"1 3 all=!{error}\n")
    sink = sampled(8)
    assert (len(sink.of(0)), len(sink.of(1))) == (8, 3)
    assert sink.lost == [(1, code)]  # once, however often it is looked for
    assert sink.codes == [(code, 1)]


def test_a_gpu_whose_sensors_all_fail_gives_no_answer(driver: Load) -> None:
    driver(TWO_GPUS + "1 2 " + " ".join(f"{w.split('=')[0]}=!999" for w in HEALTHY.split()) + "\n")
    sink = sampled(4)
    assert (len(sink.of(0)), len(sink.of(1))) == (4, 2)
    assert sink.lost == [(1, "no_answer")]


def test_a_gpu_that_comes_back_closes_its_gap(driver: Load, tmp_path: Path) -> None:
    driver(TWO_GPUS + "1 2 all=!15\n1 5 all=0\n")
    recording = GpuRecording(tmp_path / "telemetry" / "x.csv", "nvml")
    sampler = GpuSampler(recording, 10, retry_s=0)
    for _ in range(7):
        sampler.sample()
    recording.anchor(0, 0)
    found = recording.facts()
    assert found["rows"] == 7 + 4
    (gap,) = found["gaps"]
    assert (gap["gpu_index"], gap["code"]) == (1, "gpu_lost")
    times = pd.read_csv(tmp_path / "telemetry" / "x.csv").query("gpu_index == 1")["t_s"].to_list()
    assert [gap["from_s"], gap["to_s"]] == pytest.approx(times[1:3], abs=2e-6)


def test_a_driver_that_restarts_is_opened_again(driver: Load) -> None:
    # Two of the attempts to open it come while the driver is not yet loaded.
    driver("init 0\ninit 9\ninit 9\n" + TWO_GPUS + "0 2 all=!restart\n1 2 all=!restart\n")
    sink = sampled(10)
    assert len(sink.of(0)) > 2
    assert len(sink.of(1)) > 2
    assert sorted(sink.lost) == [(0, "driver_gone"), (1, "driver_gone")]


def test_a_lost_gpu_is_looked_for_no_more_than_once_a_second(driver: Load) -> None:
    driver(TWO_GPUS + "1 2 all=!15\n1 4 all=0\n")  # its steps are the times that it is asked
    sink = Collected()
    sampler = GpuSampler(sink, 10, retry_s=3600)
    for _ in range(10):
        sampler.sample()
    assert (len(sink.of(0)), len(sink.of(1))) == (10, 2)


def test_a_gpu_that_mig_splits_is_said_to_be(driver: Load) -> None:
    driver(TWO_GPUS + "0 0 mig=1 util=!3\n")
    sink = sampled(2)
    assert sink.codes == [("mig", 0)]
    assert [row.utilization_percent for row in sink.of(0)] == [None, None]
    assert [row.power_w for row in sink.of(0)] == [310.5] * 2


@pytest.mark.parametrize(
    ("wanted", "read", "codes"),
    [
        (None, {0, 1}, []),
        ([1], {1}, []),
        ([0, 7], {0}, [("gpu_missing", 7)]),
    ],
)
def test_only_the_gpus_that_are_wanted_are_read(
    driver: Load, wanted: list[int] | None, read: set[int], codes: list[tuple[str, int]]
) -> None:
    driver(TWO_GPUS)
    sink = sampled(2, wanted=wanted)
    assert {row.gpu_index for row in sink.taken} == read
    assert sink.codes == codes


def test_a_gpu_that_cannot_be_opened_leaves_the_others(driver: Load) -> None:
    driver(TWO_GPUS + "0 0 open=!4\n")
    sink = sampled(2)
    assert {row.gpu_index for row in sink.taken} == {1}
    assert sink.codes == [("no_permission", 0)]


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("init 9\n" + TWO_GPUS, "no_nvml", "Driver Not Loaded"),
        ("", "no_gpu", "no GPU"),
        ("gpu GPU-aaaa X\n0 0 open=!15\n", "no_gpu", "no GPU"),
    ],
)
def test_without_a_gpu_that_can_be_read_it_says_why(
    driver: Load, script: str, code: str, words: str
) -> None:
    driver(script)
    sampler = GpuSampler(Collected(), 10)
    with pytest.raises(UnavailableError, match=words) as failed:
        sampler.start()
    assert failed.value.code == code


def test_without_a_driver_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(pynvml, "CDLL", missing)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    with pytest.raises(UnavailableError, match="Library Not Found"):
        GpuSampler(Collected(), 10).start()


OLD_BINDING = """
# The shape of nvidia-ml-py3 7.352: bytes for texts, and none of what came after 2017.
class NVMLError(Exception):
    def __init__(self, value):
        self.value = value
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetHandleByUUID(uuid): return 0
def nvmlDeviceGetUUID(handle): return b"GPU-aaaa"
def nvmlDeviceGetName(handle): return b"GeForce"
def nvmlDeviceGetPowerUsage(handle): return 310500
def nvmlDeviceGetCurrentClocksThrottleReasons(handle): return 0
"""


@pytest.mark.parametrize("text", [OLD_BINDING, "print 'a binding for Python 2'"])
def test_an_old_binding_is_named_with_what_cures_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "pynvml.py").write_text(text)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    sampler = GpuSampler(Collected(), 10)
    with pytest.raises(UnavailableError) as failed:
        sampler.start()
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    assert failed.value.code == "old_pynvml"
    for part in ("pip uninstall nvidia-ml-py3 pynvml", "--force-reinstall nvidia-ml-py"):
        assert part in str(failed.value)


def test_a_sensor_that_a_binding_cannot_read_is_told_and_the_others_go_on(
    driver: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    driver(TWO_GPUS)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda _: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", lambda *_: 4_294_967_295 * 10**9)
    sink = sampled(2)
    assert [(r.power_w, r.temperature_c, r.sm_clock_mhz) for r in sink.of(0)] == [
        (None, None, 1980)
    ] * 2
    assert sink.codes == [("sensor_failed", 0), ("sensor_failed", 1)]


def test_readings_that_fail_in_the_run_are_counted_and_told(
    driver: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(TWO_GPUS)
    sink = Collected()
    sampler = GpuSampler(sink, 100)
    sampler.start()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Nvml, "read", fail)
    sampler.stop()
    (problem,) = sink.problems
    assert problem.code == "reading_failed"
    assert problem.text.endswith("readings failed: RuntimeError: a bug")


def test_readings_that_fail_from_the_start_say_why(
    driver: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    driver(TWO_GPUS)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: "two")
    with pytest.raises(UnavailableError, match="1 readings failed: ValueError") as failed:
        GpuSampler(Collected(), 0.001).start()
    assert failed.value.code == "reading_failed"


def test_the_thread_samples_from_before_the_run_to_after_it(driver: Load, tmp_path: Path) -> None:
    driver(TWO_GPUS)
    path = tmp_path / "telemetry" / "x.csv"
    recording = GpuRecording(path, "nvml")
    sampler = GpuSampler(recording, 100)
    sampler.start()
    assert not path.exists()  # there is no run yet whose clock the rows could be on
    start_ns = time.perf_counter_ns()
    recording.anchor(start_ns, time.time())
    end_s = (time.perf_counter_ns() - start_ns) / 1e9
    sampler.stop()
    facts = recording.facts()
    found = pd.read_csv(path)
    assert tuple(found.columns) == columns(GpuRow)
    assert len(found) == facts["rows"]
    for _, rows in found.groupby("gpu_index"):
        assert rows["t_s"].iloc[0] < 0
        assert rows["t_s"].iloc[-1] > end_s
        assert rows["t_s"].is_monotonic_increasing
    assert (facts["source"], facts["hz"], facts["file"]) == ("nvml", 100, "telemetry/x.csv")
    assert facts["gpus"][0]["uuid"] == "GPU-aaaa"


def test_a_file_that_cannot_be_written_is_a_problem_and_no_failure(
    driver: Load, tmp_path: Path
) -> None:
    driver(TWO_GPUS)
    (tmp_path / "telemetry").write_text("a file where the folder should be")
    recording = GpuRecording(tmp_path / "telemetry" / "x.csv", "nvml")
    sampler = GpuSampler(recording, 10)
    recording.anchor(0, 0)
    sampler.sample()
    facts = recording.facts()
    assert [p["code"] for p in facts["problems"]] == ["not_written"]
    assert facts["rows"] == 0


def test_pcie_is_read_in_turn_and_only_where_there_is_time(driver: Load) -> None:
    driver(TWO_GPUS + "0 0 tx=100 rx=200\n1 0 tx=300 rx=400\n")
    nvml = Nvml(lambda _: None)
    gpus, turns = nvml.gpus(None), PcieTurns()
    turns.read_one(nvml, gpus, left_s=0.001)
    assert turns.take(gpus[0]) == turns.take(gpus[1]) == {}
    for _ in range(4):
        turns.read_one(nvml, gpus, left_s=10)
    assert turns.take(gpus[0]) == {"pcie_tx_kb_s": 100, "pcie_rx_kb_s": 200}
    assert turns.take(gpus[1]) == {"pcie_tx_kb_s": 300, "pcie_rx_kb_s": 400}
    assert turns.take(gpus[1]) == {}  # a row gets a reading once


def test_a_gpu_without_pcie_readings_takes_no_turn(driver: Load) -> None:
    driver(TWO_GPUS + "1 0 tx=300 rx=400\n")
    nvml = Nvml(lambda _: None)
    gpus, turns = nvml.gpus(None), PcieTurns()
    for _ in range(6):
        turns.read_one(nvml, gpus, left_s=10)
    assert gpus[0].absent == {"pcie_tx_kb_s", "pcie_rx_kb_s"}
    assert turns.take(gpus[1]) == {"pcie_tx_kb_s": 300, "pcie_rx_kb_s": 400}


def test_a_lost_gpu_loses_no_more_than_its_turn(driver: Load) -> None:
    driver(TWO_GPUS + "0 1 all=!15\n1 0 tx=300 rx=400\n")
    nvml = Nvml(lambda _: None)
    gpus, turns = nvml.gpus(None), PcieTurns()
    nvml.read(gpus[0])
    with pytest.raises(GpuGoneError):
        nvml.read(gpus[0])
    for _ in range(4):
        turns.read_one(nvml, gpus, left_s=10)
    assert turns.take(gpus[1]) == {"pcie_tx_kb_s": 300, "pcie_rx_kb_s": 400}
