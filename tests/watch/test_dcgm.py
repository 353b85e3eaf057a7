"""GPU rows from a DCGM exporter: its pages as literals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.vllm.page import PageError
from vllm_bench.vllm.server import ControlError
from vllm_bench.watch.dcgm import DcgmSampler, Numbers, is_blank, read_page
from vllm_bench.watch.recording import GpuRecording, UnavailableError


def labels(gpu: int, **more: str) -> str:
    given = {
        "gpu": str(gpu),
        "UUID": f"GPU-{gpu}",
        "device": f"nvidia{gpu}",
        "modelName": "NVIDIA H100 80GB HBM3",
        "Hostname": "gpu7",
        **more,
    }
    return "{" + ",".join(f'{k}="{v}"' for k, v in given.items()) + "}"


FIELDS = {
    "DCGM_FI_DEV_SM_CLOCK": 1980,
    "DCGM_FI_DEV_MEM_CLOCK": 2619,
    "DCGM_FI_DEV_GPU_TEMP": 41,
    "DCGM_FI_DEV_MEMORY_TEMP": 50,
    "DCGM_FI_DEV_POWER_USAGE": 123.456,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 8423456789,
    "DCGM_FI_DEV_GPU_UTIL": 97,
    "DCGM_FI_DEV_FB_USED": 70000,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 4,
    "DCGM_FI_PROF_PCIE_TX_BYTES": 5_000_000,
    "DCGM_FI_PROF_PCIE_RX_BYTES": 7_000_000,
}


def page(*gpus: int, **changes: float | str) -> str:
    lines = []
    for name, value in {**FIELDS, **changes}.items():
        lines += [f"# HELP {name} words", f"# TYPE {name} gauge"]
        lines += [f"{name}{labels(gpu)} {value}" for gpu in gpus]
    return "\n".join(lines) + "\n"


def test_its_fields_become_our_columns_in_our_units() -> None:
    (reading,) = read_page(page(3))
    assert (reading.index, reading.board.uuid, reading.name) == (
        3,
        "GPU-3",
        "NVIDIA H100 80GB HBM3",
    )
    assert reading.values == {
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "temperature_c": 41,
        "power_w": 123.456,
        "energy_j": 8423456.789,
        "utilization_percent": 97,
        "memory_used_mb": pytest.approx(73400.32),  # of 70,000 MiB
        "throttle_reasons": "sw_power_cap",
        "pcie_tx_kb_s": 5000,
        "pcie_rx_kb_s": 7000,
    }
    assert reading.facts().absent == ()


def test_an_older_exporter_names_the_reasons_otherwise() -> None:
    text = page(0).replace("CLOCKS_EVENT_REASONS", "CLOCK_THROTTLE_REASONS")
    assert read_page(text)[0].values["throttle_reasons"] == "sw_power_cap"


def test_a_field_that_the_exporter_leaves_out_is_absent() -> None:
    text = "\n".join(li for li in page(0).splitlines() if "ENERGY" not in li and "PROF" not in li)
    (reading,) = read_page(text + "\n")
    assert reading.facts().absent == ("energy_j", "pcie_rx_kb_s", "pcie_tx_kb_s")


@pytest.mark.parametrize(
    ("value", "blank"),
    [
        (0x7FFFFFF0, True),
        (0x7FFFFFFFFFFFFFF0, True),
        (140737488355328.0, True),
        (0, False),
        (0x7FFFFFEF, False),
        (3e9, False),  # millijoules: 50 minutes of an H100
    ],
)
def test_dcgms_marks_for_no_value_are_no_values(value: float, blank: bool) -> None:
    assert is_blank(value) == blank


def test_not_a_number_and_blank_are_left_out() -> None:
    text = page(0, DCGM_FI_DEV_POWER_USAGE="NaN", DCGM_FI_DEV_GPU_TEMP=0x7FFFFFF0)
    (reading,) = read_page(text)
    assert {"power_w", "temperature_c"} <= set(reading.facts().absent)


def test_gpus_come_in_their_order_and_only_those_wanted() -> None:
    assert [r.index for r in read_page(page(2, 0, 1))] == [0, 1, 2]
    assert [r.index for r in read_page(page(2, 0, 1), [1, 2])] == [1, 2]


def test_slices_of_a_split_gpu_give_the_boards_readings_alone() -> None:
    text = "".join(
        f"DCGM_FI_DEV_{name}{labels(0, GPU_I_ID=slice_, GPU_I_PROFILE='1g.10gb')} {value}\n"
        for name, value in (("POWER_USAGE", 300), ("FB_USED", 100), ("GPU_UTIL", 50))
        for slice_ in ("7", "8")
    )
    (reading,) = read_page(text)
    assert reading.is_split
    assert reading.values == {"power_w": 300.0}


def test_a_page_that_is_no_metrics_page_is_refused() -> None:
    with pytest.raises(PageError, match="not a page of Prometheus metrics"):
        read_page("DCGM_FI_DEV_GPU_UTIL{gpu= nonsense\n")
    assert read_page("<html>welcome</html>") == []


def hosts(*which: str, gpu: int = 0, **more: str) -> str:
    """A page of one GPU of each host, all with one number: 201 W, 202 W, ..."""
    return "".join(
        f"DCGM_FI_DEV_POWER_USAGE{labels(gpu, Hostname=host, UUID=f'GPU-{host}', **more)} {watts}\n"
        for watts, host in enumerate(which, start=201)
    )


def test_gpus_of_one_number_on_several_hosts_are_all_kept(tmp_path: Path) -> None:
    text = hosts("a", "b") + hosts("a", "b", gpu=1)
    rows, facts = asked(tmp_path, 2, text, text)
    assert rows["gpu_index"].to_list() == [0, 1, 2, 3]
    assert rows["gpu_uuid"].to_list() == ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]
    assert rows["power_w"].to_list() == [201, 201, 202, 202]
    told = [p["text"] for p in facts["problems"] if p["code"] == "several_hosts"]
    assert len(told) == 2
    assert "GPU 2 is GPU 0 of b (GPU-b)" in told[0]
    assert [g["index"] for g in facts["gpus"]] == [0, 1, 2, 3]


def test_hosts_are_told_apart_by_whatever_label_there_is() -> None:
    power = "DCGM_FI_DEV_POWER_USAGE"
    by_uuid = f'{power}{{gpu="0",UUID="GPU-a"}} 1\n{power}{{gpu="0",UUID="GPU-b"}} 2\n'
    by_host = f'{power}{{gpu="0",Hostname="a"}} 1\n{power}{{gpu="0",Hostname="b"}} 2\n'
    for text in (by_uuid, by_host):
        assert [(r.index, r.values["power_w"]) for r in read_page(text)] == [(0, 1.0), (1, 2.0)]
    pods = f'{power}{{gpu="0",UUID="a",pod="x"}} 1\n{power}{{gpu="0",UUID="a",pod="y"}} 1\n'
    assert [r.values for r in read_page(pods)] == [{"power_w": 1.0}]  # one board, shared


def test_a_number_once_given_stays_with_its_board() -> None:
    numbers = Numbers()
    assert [r.index for r in read_page(hosts("b"), None, numbers)] == [0]
    both = read_page(hosts("a", "b"), None, numbers)
    assert [(r.index, r.board.host) for r in both] == [(0, "b"), (1, "a")]


@pytest.mark.parametrize("gpu", ["", "x", "-1", "²", "9" * 5000, "0.5"])
def test_what_is_no_number_of_a_gpu_is_none(gpu: str) -> None:
    assert read_page(f'DCGM_FI_DEV_POWER_USAGE{{gpu="{gpu}"}} 1\n') == []


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-40", "1e308", "1e30"])
def test_a_value_that_cannot_be_true_is_an_absent_one(value: str) -> None:
    for name in FIELDS:
        readings = read_page(page(0, **{name: value}))
        assert len(readings) == 1


class Pages:
    """Plays one page a question, None for no answer; the last one again and again."""

    def __init__(self, *pages: str | None) -> None:
        self.left = list(pages)

    def __call__(self) -> str:
        page = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if page is None:
            raise ControlError("http://gpu7/metrics: no answer within 5 s")
        return page


def asked(folder: Path, times: int, *pages: str | None) -> tuple[pd.DataFrame, Any]:
    recording = GpuRecording(folder / "telemetry" / "x.csv", "dcgm")
    sampler = DcgmSampler(Pages(*pages), recording)
    for _ in range(times):
        sampler.sample()
    recording.anchor(0, 0.0)
    facts = recording.facts()
    return pd.read_csv(folder / "telemetry" / "x.csv"), facts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading of the monotonic clock is a second after the one before."""
    seconds: Iterator[int] = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))


def test_a_reading_that_the_exporter_repeats_is_one_row(tmp_path: Path) -> None:
    old, new = page(0), page(0, DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION=8423999999)
    rows, facts = asked(tmp_path, 6, old, old, old, new)
    assert rows["energy_j"].to_list() == [8423456.789, 8423999.999]
    assert facts["rows"] == 2
    assert (facts["source"], facts["gpus"][0]["name"]) == ("dcgm", "NVIDIA H100 80GB HBM3")


@pytest.mark.usefixtures("clock")
def test_an_exporter_that_reads_seldom_shows_as_gaps(tmp_path: Path) -> None:
    old, new = page(0), page(0, DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION=8423999999)
    _, facts = asked(tmp_path, 5, old, old, old, old, new)
    (gap,) = facts["gaps"]
    assert gap["code"] == "late"
    assert gap["to_s"] - gap["from_s"] == 8  # four questions of two clock readings each


def test_a_gpu_that_leaves_the_page_is_a_gap_and_the_other_goes_on(tmp_path: Path) -> None:
    def at(energy: int, *gpus: int) -> str:
        return page(*gpus, DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION=energy)

    rows, facts = asked(tmp_path, 4, at(1000, 0, 1), at(2000, 0, 1), at(3000, 0), at(4000, 0))
    assert rows["gpu_index"].value_counts().to_dict() == {0: 4, 1: 2}
    (gap,) = facts["gaps"]
    assert (gap["gpu_index"], gap["to_s"], gap["code"]) == (1, None, "exporter")


def test_an_exporter_that_stops_answering_is_a_gap_and_told_once(tmp_path: Path) -> None:
    rows, facts = asked(tmp_path, 4, page(0), None, None, page(0, DCGM_FI_DEV_GPU_TEMP=50))
    assert len(rows) == 2
    assert [gap["code"] for gap in facts["gaps"]] == ["exporter"]
    assert [p["code"] for p in facts["problems"]] == ["exporter"]


@pytest.mark.parametrize(
    ("answer", "wanted", "why"),
    [
        (None, None, "no answer within 5 s"),
        ("<html>", None, "shows no GPU"),
        (page(0), [5], "shows no GPU that was asked for"),
    ],
)
def test_without_a_gpu_on_the_page_it_says_why(
    tmp_path: Path, answer: str | None, wanted: list[int] | None, why: str
) -> None:
    sampler = DcgmSampler(Pages(answer), GpuRecording(tmp_path / "x.csv", "dcgm"), wanted)
    with pytest.raises(UnavailableError, match=why):
        sampler.start()
