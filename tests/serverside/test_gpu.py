"""What GPUs did in the window: means, peaks and what slowed them, each GPU and all together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.serverside.gpu import GpuSide

from tests.end_to_end.watched import TENTHS, gpu, observed_gpus, watched

INSIDE = [t for t in TENTHS if 1.75 <= t <= 100]  # the steady window of `watched`


def side_of(folder: Path, rows: list[Any], *indexes: int, **noted: Any) -> GpuSide:
    return watched(folder, rows, observed=observed_gpus(*indexes, **noted)).gpu_side


def test_each_gpus_mean_is_over_time_and_all_gpus_weigh_the_same(tmp_path: Path) -> None:
    first = gpu(0, power_w=lambda t: 100.0 + t, temperature_c=lambda t: 40 if t < 30 else 70)
    second = gpu(1, power_w=200.0, utilization_percent=10, memory_used_mb=10_000.0)
    side = side_of(tmp_path, first + second, 0, 1)
    one, two = side.gpus
    middle_s = (INSIDE[0] + INSIDE[-1]) / 2
    assert (one.index, two.index, one.name) == (0, 1, "H100")
    assert one.samples == len(INSIDE)
    assert one.covered_share == pytest.approx(1, abs=0.01)
    assert one.power_mean_w == pytest.approx(100 + middle_s)
    assert one.power_peak_w == 200
    assert (one.temperature_peak_c, two.temperature_mean_c) == (70, 60)
    assert side.power_mean_w == pytest.approx((100 + middle_s + 200) / 2)
    assert side.power_total_w == pytest.approx(100 + middle_s + 200)
    assert side.power_peak_w == 200
    assert side.utilization_mean_percent == pytest.approx(50)
    assert (side.utilization_peak_percent, side.memory_peak_mb) == (90, 70_000)
    assert side.memory_mean_mb == pytest.approx(40_000)
    assert (side.expected, side.seen) == (2, 2)
    assert not side.absent


def test_what_was_before_and_after_the_window_does_not_count(tmp_path: Path) -> None:
    side = side_of(tmp_path, gpu(power_w=lambda t: 300.0 if 0.7 < t < 100.1 else 5000.0), 0)
    assert (side.power_mean_w, side.power_peak_w) == (pytest.approx(300), 300)


def test_what_slowed_gpus_is_told_with_its_share_and_its_gpu(tmp_path: Path) -> None:
    def reasons(t: float) -> str:
        if t < 30:
            return "sw_power_cap|hw_thermal_slowdown"
        return "gpu_idle|sw_power_cap" if t < 40 else "applications_clocks_setting"

    calm, unknown = gpu(1), gpu(2, throttle_reasons=None)
    side = side_of(tmp_path, gpu(0, throttle_reasons=reasons) + calm + unknown, 0, 1, 2)
    one, two, three = side.gpus
    share = {by: np.mean([t < by for t in INSIDE]) for by in (30, 40)}
    assert one.throttled_share == pytest.approx(share[40])
    assert one.throttled_by == {
        "hw_thermal_slowdown": pytest.approx(share[30]),
        "sw_power_cap": pytest.approx(share[40]),
    }
    assert (two.throttled_share, dict(two.throttled_by)) == (0, {})
    assert three.throttled_share is None  # its driver doesn't say
    assert side.throttled_share == pytest.approx(share[40] / 2)
    by = str(side.throttled_by).split(", ")
    assert by == ["hw_thermal_slowdown (GPU 0)", "sw_power_cap (GPU 0)"]


def test_a_gpu_that_went_is_judged_by_the_time_it_was_read(tmp_path: Path) -> None:
    gone = gpu(1, [t for t in TENTHS if t < 50], power_w=100.0)
    side = side_of(tmp_path, gpu(0) + gone, 0, 1)
    assert side.gpus[1].covered_share == pytest.approx((49.9 - 1.8) / 98.25)
    assert side.gpus[1].power_mean_w == pytest.approx(100)
    assert side.seen == 2


def test_a_sensor_that_no_gpu_has_says_so(tmp_path: Path) -> None:
    side = side_of(tmp_path, gpu(sm_clock_mhz=None, throttle_reasons=None), 0)
    assert (side.sm_clock_mean_mhz, side.throttled_share) == (None, None)
    assert set(side.absent) == {"sm_clock_mean_mhz", "sm_clock_peak_mhz", "throttled_share"}
    assert side.power_mean_w == pytest.approx(300)


@pytest.mark.parametrize(
    ("noted", "scenario", "expected"),
    [
        ({}, {}, 1),
        ({}, {"telemetry_gpus": [0, 1, 2]}, 3),
        ({"source": "command"}, {"telemetry_gpus": [0, 1, 2]}, 1),  # it has flags of its own
        ({"problems": [{"code": "no_permission", "gpu_index": 4}]}, {}, 2),
        ({"problems": "nonsense", "gaps": 5, "gpus": [7, {"index": "x"}]}, {}, 1),
    ],
)
def test_gpus_expected_are_those_asked_for_found_or_tried(
    tmp_path: Path, noted: Any, scenario: Any, expected: int
) -> None:
    side = watched(tmp_path, gpu(0), observed=observed_gpus(0, **noted), scenario=scenario).gpu_side
    assert (side.expected, side.seen) == (expected, 1)


def test_readings_that_all_lie_outside_are_none(tmp_path: Path) -> None:
    side = side_of(tmp_path, gpu(0, [-1.0, -0.5]), 0)
    assert side.gpus == ()
    (why,) = set(side.absent.values())
    assert "98.2 s" in why
