"""The real pynvml against a driver library made for the tests: see nvml_shim/nvml_shim.c."""

from __future__ import annotations

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from vllm_bench.records.beside.samples import GpuRow
from vllm_bench.watch.recording import GpuFacts, Problem

SOURCE = Path(__file__).resolve().parent / "nvml_shim" / "nvml_shim.c"
LIBRARY = "libnvidia-ml.so.1"

HEALTHY = (
    "util=35 memory=70000000000 temp=60 power=310500 energy=1000 sm=1980 memclock=2619 reasons=0"
)
TWO_GPUS = f"""
gpu GPU-aaaa NVIDIA_H100_80GB_HBM3
gpu GPU-bbbb NVIDIA_H100_80GB_HBM3
0 0 {HEALTHY}
1 0 {HEALTHY}
"""


@functools.cache
def build(*defines: str) -> Path:
    """Compile the shim, once for each set of symbols that it lacks; skip without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to build the driver library with")
    folder = Path(tempfile.mkdtemp(prefix="nvml-shim-"))
    atexit.register(shutil.rmtree, folder)
    words = [*(f"-D{d}" for d in defines), "-shared", "-fPIC", "-o", str(folder / LIBRARY)]
    subprocess.run([compiler, *words, str(SOURCE)], check=True)
    return folder / LIBRARY


def load(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str, *lacks: str) -> None:
    """Make pynvml load the shim with this script, in this process and until the test ends."""
    import pynvml

    library = build(*lacks)
    path = folder / "nvml_script.txt"
    path.write_text(script)
    monkeypatch.setenv("NVML_SHIM_SCRIPT", str(path))
    monkeypatch.setattr(pynvml, "CDLL", lambda name: ctypes.CDLL(str(library.with_name(name))))
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


def environment(folder: Path, script: str) -> dict[str, str]:
    """Return the variables with which another process loads the shim as its driver library."""
    path = folder / "nvml_script.txt"
    path.write_text(script)
    return {"LD_LIBRARY_PATH": str(build().parent), "NVML_SHIM_SCRIPT": str(path)}


class Collected:
    """A sink that keeps what a sampler finds."""

    def __init__(self) -> None:
        self.found: Sequence[GpuFacts] = ()
        self.hz = 0.0
        self.taken: list[GpuRow] = []
        self.lost: list[tuple[int, str]] = []
        self.problems: list[Problem] = []

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        self.found, self.hz = found, hz

    def rows(self, rows: Sequence[GpuRow]) -> None:
        self.taken.extend(rows)

    def missed(self, gpu_index: int, code: str) -> None:
        self.lost.append((gpu_index, code))

    def problem(self, problem: Problem) -> None:
        self.problems.append(problem)

    def of(self, index: int) -> list[GpuRow]:
        return [row for row in self.taken if row.gpu_index == index]

    @property
    def codes(self) -> list[tuple[str, int | None]]:
        return [(problem.code, problem.gpu_index) for problem in self.problems]
