"""All samplers of a run: which are possible, their start and their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from .dcgm import DcgmSampler
from .gpu import GpuSampler
from .gpu_elsewhere import CommandSampler
from .profile import Profile
from .recording import GpuRecording, Problem, Recording, UnavailableError
from .vllm_metrics import ServerMetricsSampler, ServerRecording

Fetch = Callable[[], str]  # raises BenchError where there is no page
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to sample during a run."""

    base_url: str
    gpus: bool
    gpu_hz: float
    gpu_indexes: Sequence[int] | None  # None: all
    server_is_here: bool
    command: str | None = None  # starts the sampler on the server's machine
    dcgm: Fetch | None = None  # a DCGM exporter's page
    metrics: Fetch | None = None  # the server's /metrics
    mask: Callable[[str], str] = str  # takes the server's secrets out of a text
    profile: Profile | None = None  # of the server by itself


class Sampler(Protocol):
    """Reads something from start to stop, into a recording."""

    def start(self) -> None:
        """Take the first reading. Raises UnavailableError."""

    def stop(self) -> None:
        """Take the last reading and end."""


class Samplers:
    """The samplers of one run. If something can't be sampled, that is reported; the run goes on."""

    def __init__(self, wanted: Wanted, folder: Path, run_id: str, say: Say) -> None:
        """Prepare to write into `folder`'s telemetry/ and server_metrics/."""
        self._wanted = wanted
        self._folder = folder
        self._file_name = f"{run_id}.csv"
        self._say = say
        self._running: list[tuple[str, Sampler, Recording]] = []
        self._metrics: ServerMetricsSampler | None = None
        self._facts: dict[str, Any] = {}
        self._start_ns = 0
        self._stopped = False

    def start(self) -> None:
        """Start all that are possible; each has its first reading when this returns."""
        wanted = self._wanted
        if wanted.gpus:
            source = "command" if wanted.command else "dcgm" if wanted.dcgm else "nvml"
            gpus = GpuRecording(self._folder / "telemetry" / self._file_name, source)
            self._start("gpu", "telemetry", gpus, partial(_gpu_sampler, wanted, gpus))
        if wanted.metrics is not None:
            server = ServerRecording(self._folder / "server_metrics" / self._file_name)
            self._metrics = metrics = ServerMetricsSampler(wanted.metrics, server, wanted.mask)
            what = f"server metrics of {wanted.base_url}"
            self._start("server_metrics", what, server, lambda: metrics)

    def anchor(self, start_ns: int, start_wall_s: float) -> None:
        """Set when the run starts: one moment on the monotonic and the wall clock."""
        self._start_ns = start_ns
        for _, _, recording in self._running:
            recording.anchor(start_ns, start_wall_s)

    def server_says(self) -> Mapping[str, float]:
        """Return the server's last values, by column; empty if there are none."""
        return self._metrics.latest if self._metrics is not None else {}

    def look(self, share: float) -> None:
        """Do what is due once this share of the run is over."""
        if self._wanted.profile is not None:
            self._wanted.profile.look(share)

    def stop(self) -> dict[str, Any]:
        """End the sampling and return what was sampled. Only the first call waits for anything."""
        first, self._stopped = not self._stopped, True
        profile = self._wanted.profile
        if profile is not None:
            profile.end()
        running, self._running = self._running, []
        for key, sampler, recording in running:
            sampler.stop()
            self._facts[key] = recording.facts()
            self._tell(recording.problems)
        if profile is not None:
            self._facts["profile"] = self._profiled(profile, wait=first)
        return self._facts

    def _profiled(self, profile: Profile, *, wait: bool) -> dict[str, Any]:
        """Return the facts of a profile that has ended, but may not be written yet."""
        if wait and profile.writing:
            self._say("the server writes its profile (Ctrl-C ends the wait)")
            profile.wait()
        facts = profile.facts(self._start_ns)
        if facts["problem"]:
            self._say(f"profile: {facts['problem']}")
        return facts

    def _start(
        self, key: str, what: str, recording: Recording, make: Callable[[], Sampler]
    ) -> None:
        try:
            sampler = make()
            sampler.start()
        except UnavailableError as e:
            self._tell(recording.problems)
            self._say(f"no {what}: {e}")
            problems = (*recording.problems, Problem(e.code, str(e)))
            self._facts[key] = {"problems": [{"code": p.code, "text": p.text} for p in problems]}
        else:
            self._running.append((key, sampler, recording))

    def _tell(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self._say(problem.text)


def _gpu_sampler(wanted: Wanted, recording: GpuRecording) -> Sampler:
    """Return the sampler of the server's GPUs. Raises UnavailableError."""
    if wanted.command is not None:
        return CommandSampler(wanted.command, recording)
    if wanted.dcgm is not None:
        return DcgmSampler(wanted.dcgm, recording, wanted.gpu_indexes)
    if wanted.server_is_here:
        return GpuSampler(recording, wanted.gpu_hz, wanted.gpu_indexes)
    text = (
        f"the server {wanted.base_url} isn't on this machine, and this machine's GPUs "
        "aren't its: --telemetry-command or --dcgm-url can reach them"
    )
    raise UnavailableError("server_elsewhere", text)
