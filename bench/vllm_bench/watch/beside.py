"""All that is sampled beside a run: which of it there can be, its start and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dcgm import DcgmSampler
from .gaps import Problem
from .gpu import GpuSampler
from .gpu_elsewhere import CommandSampler
from .gpu_recording import GpuRecording
from .nvml import GpuUnavailableError
from .vllm_metrics import NoMetricsError, ServerMetricsSampler

Fetch = Callable[[], "str | None"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run is to be watched with."""

    base_url: str
    gpus: bool
    gpu_hz: float
    gpu_indexes: Sequence[int] | None  # None: all
    server_is_here: bool
    command: str | None = None  # the sampler, run on the server's machine
    dcgm: Fetch | None = None  # a DCGM exporter's page
    metrics: Fetch | None = None  # the server's /metrics


class Beside:
    """The samplers of one run. What can't be sampled is said and noted, and the run goes on."""

    def __init__(self, wanted: Wanted, folder: Path, run_id: str, say: Say) -> None:
        """Prepare to write into `folder`'s telemetry/ and server_metrics/."""
        self._wanted = wanted
        self._gpu_path = folder / "telemetry" / f"{run_id}.csv"
        self._metrics_path = folder / "server_metrics" / f"{run_id}.csv"
        self._say = say
        self._recording: GpuRecording | None = None
        self._gpu: GpuSampler | CommandSampler | DcgmSampler | None = None
        self._metrics: ServerMetricsSampler | None = None
        self._facts: dict[str, Any] = {}
        self._stopped = False

    def start(self) -> None:
        """Start what there is; each has its first reading when this returns."""
        if self._wanted.gpus:
            self._start_gpu()
        if self._wanted.metrics is not None:
            self._start_metrics(self._wanted.metrics)

    def anchor(self, start_ns: int, start_wall_s: float) -> None:
        """Say when the run starts: one moment on the monotonic and the wall clock."""
        if self._recording is not None:
            self._recording.anchor(start_ns, start_wall_s)
        if self._metrics is not None:
            self._metrics.anchor(start_ns)

    def server_says(self) -> Mapping[str, float]:
        """Return what the server last said, by column; empty where it says nothing."""
        return self._metrics.latest if self._metrics is not None else {}

    def stop(self) -> dict[str, Any]:
        """End the sampling, once, and return what was sampled."""
        if self._stopped:
            return self._facts
        self._stopped = True
        if self._gpu is not None and self._recording is not None:
            self._gpu.stop()
            self._facts["gpu"] = self._recording.facts()
            self._tell(self._recording.problems)
        if self._metrics is not None:
            self._metrics.stop()
            self._facts["server_metrics"] = self._metrics.facts()
            self._tell(self._metrics.problems)
        return self._facts

    def _start_gpu(self) -> None:
        wanted = self._wanted
        if not (wanted.server_is_here or wanted.command or wanted.dcgm):
            text = (
                f"the server {wanted.base_url} isn't on this machine, and this machine's GPUs "
                "aren't its: --telemetry-command or --dcgm-url can reach them"
            )
            self._do_without("gpu", "telemetry", "server_elsewhere", text)
            return
        recording, sampler = self._gpu_source()
        try:
            sampler.start()
        except GpuUnavailableError as e:
            self._do_without("gpu", "telemetry", e.code, str(e), recording.problems)
            return
        self._recording, self._gpu = recording, sampler

    def _gpu_source(self) -> tuple[GpuRecording, GpuSampler | CommandSampler | DcgmSampler]:
        wanted, path = self._wanted, self._gpu_path
        if wanted.command is not None:
            recording = GpuRecording(path, "command", clock="wall")
            return recording, CommandSampler(wanted.command, recording)
        if wanted.dcgm is not None:
            recording = GpuRecording(path, "dcgm")
            return recording, DcgmSampler(wanted.dcgm, recording, wanted.gpu_indexes)
        recording = GpuRecording(path, "nvml")
        return recording, GpuSampler(recording, wanted.gpu_hz, wanted.gpu_indexes)

    def _start_metrics(self, fetch: Fetch) -> None:
        sampler = ServerMetricsSampler(fetch, self._metrics_path)
        try:
            sampler.start()
        except NoMetricsError as e:
            text = f"{self._wanted.base_url} has no /metrics to read: {e}"
            self._do_without("server_metrics", "server metrics", "no_metrics", text)
            return
        self._metrics = sampler

    def _do_without(
        self, key: str, what: str, code: str, text: str, more: Sequence[Problem] = ()
    ) -> None:
        self._tell(more)
        self._say(f"no {what}: {text}")
        problems = [*({"code": p.code, "text": p.text} for p in more), {"code": code, "text": text}]
        self._facts[key] = {"problems": problems}

    def _tell(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self._say(problem.text)
