"""Energy is what the script of readings says it is; or there is none, and the reason is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.summary.summary import RunSummary

from tests.end_to_end.watched import TENTHS, counted, gpu, observed_gpus, watched, wave

NO_ENERGY = ("window_j", "per_output_token_j", "per_request_j", "output_tokens_per_s_per_w")


def by_hand(summary: RunSummary) -> tuple[float, float, float]:
    """Length, output tokens and requests of the steady window: 20 tokens a request, at its end."""
    assert summary.window is not None
    ends = np.arange(400) / 4 + 1
    inside = (ends >= summary.window.start_s) & (ends < summary.window.end_s)
    return summary.window.length_s, 20.0 * inside.sum(), float(inside.sum())


def voided(summary: RunSummary) -> str:
    """Why there is no energy, the same for each of its figures."""
    reasons = {summary.energy.absent[name] for name in NO_ENERGY}
    assert len(reasons) == 1
    assert all(getattr(summary.energy, name) is None for name in NO_ENERGY)
    assert summary.energy.source is None
    return reasons.pop()


def test_two_healthy_gpus_with_counters_give_the_known_energy_by_token(tmp_path: Path) -> None:
    rows = gpu(0, energy_j=counted(310.0)) + gpu(1, energy_j=counted(290.0, start_j=7.0))
    summary = watched(tmp_path, rows, observed=observed_gpus(0, 1))
    length_s, tokens, requests = by_hand(summary)
    assert length_s > 90
    found = summary.energy
    assert found.source == "energy counter"
    assert found.window_j == pytest.approx(600 * length_s, rel=1e-9)
    assert found.per_output_token_j == pytest.approx(600 * length_s / tokens, rel=1e-9)
    assert found.per_request_j == pytest.approx(600 * length_s / requests, rel=1e-9)
    assert found.output_tokens_per_s_per_w == pytest.approx(tokens / length_s / 600, rel=1e-9)
    assert not found.absent


def test_without_a_counter_the_power_gives_it(tmp_path: Path) -> None:
    """300 W on average over whole swings, sampled ten times a second."""
    summary = watched(tmp_path, gpu(power_w=wave(300, 200)), observed=observed_gpus(0))
    length_s, tokens, _ = by_hand(summary)
    assert summary.energy.source == "power"
    left_over_j = 200 * 8 / np.pi  # what half a swing at an edge adds at most
    assert summary.energy.window_j == pytest.approx(300 * length_s, abs=left_over_j)
    exact_j = _integral_of_wave(summary)
    assert summary.energy.window_j == pytest.approx(exact_j, rel=1e-3)
    assert summary.energy.per_output_token_j == pytest.approx(exact_j / tokens, rel=1e-3)


def _integral_of_wave(summary: RunSummary) -> float:
    assert summary.window is not None
    at = [
        300 * t - 200 * 8 / (2 * np.pi) * np.cos(2 * np.pi * t / 8)
        for t in (summary.window.start_s, summary.window.end_s)
    ]
    return float(at[1] - at[0])


def test_a_counter_is_believed_over_the_power_and_each_gpu_on_its_own(tmp_path: Path) -> None:
    rows = gpu(0, energy_j=counted(100.0), power_w=900.0) + gpu(1, power_w=50.0)
    summary = watched(tmp_path, rows, observed=observed_gpus(0, 1))
    assert str(summary.energy.source).split(" and ") == ["energy counter", "power"]
    assert summary.energy.window_j == pytest.approx(150 * by_hand(summary)[0])


def test_a_counter_that_goes_back_voids_it(tmp_path: Path) -> None:
    rows = gpu(0) + gpu(1, energy_j=lambda t: 300 * t if t < 50 else 300 * (t - 50))
    why = voided(watched(tmp_path, rows, observed=observed_gpus(0, 1)))
    assert "GPU 1's" in why
    assert "back" in why


def test_a_counter_that_went_back_before_the_window_does_not(tmp_path: Path) -> None:
    rows = gpu(energy_j=lambda t: 1e6 + 300 * t if t < -0.5 else 300 * (t + 2))
    summary = watched(tmp_path, rows, observed=observed_gpus(0))
    assert summary.energy.window_j == pytest.approx(300 * by_hand(summary)[0])


def test_a_counter_that_stands_still_is_none(tmp_path: Path) -> None:
    why = voided(watched(tmp_path, gpu(energy_j=1e6), observed=observed_gpus(0)))
    assert "GPU 0's" in why


@pytest.mark.parametrize(
    ("times", "gap", "why"),
    [
        ([t for t in TENTHS if not 40 < t < 43.2], [], "from 40.0 s to 43.2 s"),
        (
            [t for t in TENTHS if t < 60.05],
            [{"gpu_index": 1, "from_s": 60.0, "to_s": None, "code": "gpu_lost"}],
            "from 60.0 s on (gpu_lost)",
        ),
        (
            [t for t in TENTHS if t > 7.95],
            [
                {"gpu_index": 1, "from_s": None, "to_s": 8.0, "code": "no_answer"},
                {"gpu_index": 0, "from_s": None, "to_s": 8.0, "code": "late"},  # of the other
                {"gpu_index": 1, "from_s": 70, "to_s": 71.5, "code": "late"},  # another time
            ],
            "before 8.0 s (no_answer)",
        ),
        ([], [{"gpu_index": 1, "from_s": None, "to_s": None, "code": "x"}], "at any time (x)"),
    ],
)
@pytest.mark.parametrize("energy_j", [None, counted(300.0)], ids=["power", "counter"])
def test_a_gap_voids_it_and_names_gpu_time_and_cause(
    tmp_path: Path, energy_j: Any, times: list[float], gap: list[Any], why: str
) -> None:
    rows = gpu(0, energy_j=energy_j) + gpu(1, times, energy_j=energy_j)
    summary = watched(tmp_path, rows, observed=observed_gpus(0, 1, gaps=gap))
    assert voided(summary).endswith(why)
    assert voided(summary).startswith("GPU 1 ")


def test_a_short_gap_is_bridged(tmp_path: Path) -> None:
    rows = gpu(0, [t for t in TENTHS if not 40 < t < 43])  # 3 s
    summary = watched(tmp_path, rows, observed=observed_gpus(0))
    assert summary.energy.window_j == pytest.approx(300 * by_hand(summary)[0])


def test_a_gpu_that_was_asked_for_and_is_not_there_voids_it(tmp_path: Path) -> None:
    missing = {"code": "gpu_missing", "text": "there is no GPU 5", "gpu_index": 5}
    observed = observed_gpus(0, problems=[missing])
    summary = watched(
        tmp_path, gpu(0), observed=observed, scenario={"telemetry_gpus": [0, 5], "gpus": 2}
    )
    assert "GPU 5" in voided(summary)
    assert (summary.gpu_side.expected, summary.gpu_side.seen) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"server": {"simulator": True}}, "simulator"),
        ({"scenario": {"gpus": 8}}, "gpus is 8"),
        ({"observed": {}}, "JSON"),
        (
            {"observed": observed_gpus(0, problems=[{"code": "mig", "text": "GPU 0 is split"}])},
            "GPU 0 is split",
        ),
    ],
)
def test_gpus_that_may_not_be_the_servers_have_no_energy_to_its_name(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    summary = watched(tmp_path, gpu(0), **{"observed": observed_gpus(0), **changes})
    assert why in voided(summary)


def test_gpus_that_did_nothing_are_not_the_servers(tmp_path: Path) -> None:
    idle, busy = gpu(0, utilization_percent=0), gpu(1)
    summary = watched(tmp_path, idle, observed=observed_gpus(0))
    assert voided(summary)
    (tmp_path / "two").mkdir()
    both = watched(tmp_path / "two", idle + busy, observed=observed_gpus(0, 1))
    assert both.energy.window_j is not None  # one of two may be: it is told, not judged


def test_all_that_speaks_against_it_is_told(tmp_path: Path) -> None:
    observed = observed_gpus(0)
    rows = gpu(0, [t for t in TENTHS if t < 50])
    why = voided(watched(tmp_path, rows, observed=observed, server={"simulator": True}))
    gap, simulator = why.split("; ")
    assert "49.9 s" in gap
    assert "simulator" in simulator


def test_a_short_window_has_an_energy_but_none_by_token(tmp_path: Path) -> None:
    summary = watched(tmp_path, gpu(0), requests=100, observed=observed_gpus(0))
    assert summary.window is not None
    length_s = summary.window.length_s
    assert length_s < 30
    assert summary.energy.window_j == pytest.approx(300 * length_s)
    for name in NO_ENERGY[1:]:
        assert f"{length_s:.1f} s" in summary.energy.absent[name]


def test_a_gpu_without_any_sensor_is_named(tmp_path: Path) -> None:
    summary = watched(tmp_path, gpu(0, power_w=None), observed=observed_gpus(0))
    assert voided(summary).startswith("GPU 0 ")
    assert "sensor" in voided(summary)


@pytest.mark.parametrize(
    ("observed", "why"),
    [
        ({}, "not sampled"),
        (
            {"gpu": {"problems": [{"code": "server_elsewhere", "text": "gpu7 isn't here"}]}},
            "gpu7 isn't here",
        ),
        (observed_gpus(0, file="telemetry/x.csv"), "telemetry/x.csv"),
    ],
)
def test_no_samples_no_energy_and_the_samplers_own_reason(
    tmp_path: Path, observed: dict[str, Any], why: str
) -> None:
    summary = watched(tmp_path, observed=observed)
    assert why in voided(summary)
    assert set(summary.gpu_side.absent.values()) == {voided(summary)}


def test_telemetry_without_a_row_is_no_energy_of_zero(tmp_path: Path) -> None:
    assert voided(watched(tmp_path, [], observed=observed_gpus()))


def test_stamps_that_were_not_kept_leave_the_energy_by_request(tmp_path: Path) -> None:
    summary = watched(tmp_path, gpu(0), observed=observed_gpus(0), scenario={"stream": True})
    assert summary.energy.per_request_j is not None
    assert summary.energy.per_output_token_j is None
    assert "stamps" in summary.energy.absent["per_output_token_j"]
