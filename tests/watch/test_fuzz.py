"""Whatever a sampler reads, its file can be read back, and what it tells fits the run's JSON."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.sample_file import read_gpu_rows, read_server
from vllm_bench.records.text import printable
from vllm_bench.watch.dcgm import DcgmSampler
from vllm_bench.watch.gpu import GpuSampler
from vllm_bench.watch.gpu_elsewhere import StreamError, take_line
from vllm_bench.watch.nvml import NEEDED
from vllm_bench.watch.recording import GpuRecording, Recording
from vllm_bench.watch.vllm_metrics import ServerMetricsSampler, ServerRecording

from tests.vllm.test_fuzz import PAGE
from tests.vllm.wild import LEAVES, edited_bytes, edited_json, edited_page

pytestmark = pytest.mark.fuzz


NOW_S = 1.8e9  # on the wall clock


def kept(recording: Recording, folder: Path) -> Any:
    """Write what was recorded; return it as it is read back."""
    recording.anchor(0, NOW_S)
    facts = recording.facts()
    orjson.dumps(facts)
    for problem in facts["problems"]:
        assert problem["text"] == printable(problem["text"], 500)
    if isinstance(recording, GpuRecording):
        rows = read_gpu_rows(folder / "x.csv")
        read = 0 if rows is None else len(rows)
    else:
        rows, said = read_server(folder / "x.csv")
        read = 0 if said is None else said.rows
    assert read == facts["rows"]
    for column in () if rows is None else rows.columns:
        values = rows[column]
        assert values.dtype.kind != "f" or not np.isinf(values).any()
    return rows


GPU = "1.5,1800000000.25,0,GPU-a,97,70000,41,700.5,8423.5,1980,2619,none,1,2"
NOTES = (
    {"gpus": [{"index": 0, "uuid": "GPU-a", "name": "H100", "absent": ["energy_j"]}], "hz": 10.0},
    {"missed": 0, "code": "gpu_lost"},
    {"problem": "mig", "text": "split", "gpu_index": 0},
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of a sampler's stream, edited."""
    if draw(st.booleans()):
        return b"# " + draw(edited_json(*NOTES))
    cells: list[object] = [*GPU.split(",")]
    for _ in range(draw(st.integers(0, 3))):
        cells[draw(st.integers(0, len(cells) - 1))] = draw(LEAVES | st.floats().map(repr))
    return edited_bytes(draw, ",".join(map(str, cells)).encode(errors="replace"))


@given(st.lists(lines(), max_size=20))
def test_any_lines_of_a_command_can_be_read_back(given_lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = GpuRecording(folder / "telemetry" / "x.csv", "command")
        for line in given_lines:
            with suppress(StreamError):
                take_line(line.decode(errors="replace"), recording, NOW_S)
        kept(recording, folder)


def of_host(host: str, gpu: int) -> str:
    label = f'{{gpu="{gpu}",UUID="GPU-{host}{gpu}",Hostname="{host}",modelName="H100"}}'
    return (
        f"DCGM_FI_DEV_GPU_UTIL{label} 97\nDCGM_FI_DEV_POWER_USAGE{label} 301.5\n"
        f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{label} 8423456789\n"
        f"DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{label} 4\n"
    )


EXPORTER = of_host("a", 0) + of_host("a", 1) + of_host("b", 0)


@given(st.lists(edited_page(EXPORTER), min_size=1, max_size=4))
def test_any_pages_of_an_exporter_can_be_read_back(pages: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, left = Path(name), list(pages)
        recording = GpuRecording(folder / "telemetry" / "x.csv", "dcgm")
        sampler = DcgmSampler(lambda: left.pop(0), recording)
        for _ in pages:
            sampler.sample()
        kept(recording, folder)


@given(st.lists(edited_page(PAGE), min_size=1, max_size=5))
def test_any_pages_of_a_server_can_be_read_back(pages: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, left = Path(name), list(pages)
        recording = ServerRecording(folder / "server_metrics" / "x.csv")
        sampler = ServerMetricsSampler(lambda: left.pop(0), recording)
        for _ in pages:
            sampler.sample()
        kept(recording, folder)


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


ERRORS = st.sampled_from([1, 2, 3, 4, 6, 9, 13, 15, 16, 18, 25, 28, 999]).map(NVMLError) | (
    st.sampled_from([TypeError("odd"), OSError(5, "io"), ValueError(), AttributeError("no")])
)
USUAL = object()  # what a healthy driver answers


def binding(outcomes: Iterator[Any]) -> SimpleNamespace:
    """A binding whose functions answer and raise anything, one outcome a call."""

    def odd(usual: object) -> Any:
        def call(*_: object) -> object:
            found = next(outcomes)
            if isinstance(found, Exception):
                raise found
            return usual if found is USUAL else found

        return call

    readings = SimpleNamespace(gpu=97, used=7e10)
    functions = {
        **dict.fromkeys(NEEDED, odd(4)),
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": odd(0),
        "nvmlDeviceGetUUID": odd(b"GPU-a\xff"),
        "nvmlDeviceGetName": odd("H100\n"),
        "nvmlDeviceGetUtilizationRates": odd(readings),
        "nvmlDeviceGetMemoryInfo": odd(readings),
        "nvmlDeviceGetMigMode": odd([0, 0]),
        "NVMLError": NVMLError,
    }
    for sensor in ("Temperature", "PowerUsage", "ClockInfo", "PcieThroughput"):
        functions[f"nvmlDeviceGet{sensor}"] = odd(7)
    return SimpleNamespace(**functions, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2)


@given(st.lists(st.just(USUAL) | st.just(USUAL) | LEAVES | ERRORS, min_size=1, max_size=40))
def test_any_readings_of_a_driver_can_be_read_back(outcomes: list[Any]) -> None:
    pynvml = binding(itertools.cycle(outcomes))
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(sys.modules, pynvml=pynvml):
        folder = Path(name)
        recording = GpuRecording(folder / "telemetry" / "x.csv", "nvml")
        sampler = GpuSampler(recording, 10, retry_s=0)
        for _ in range(3):
            with sampler._ticker.failures:
                sampler.sample()
        kept(recording, folder)
