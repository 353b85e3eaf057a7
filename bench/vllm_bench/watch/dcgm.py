"""GPU rows from the page of a DCGM exporter, on any machine.

The exporter repeats its last reading until it takes the next one, by default every 30 s
(`dcgm-exporter -c 100`: every 100 ms). A repeated reading doesn't make a new row, so that the gaps
of a slow exporter are visible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records.beside.samples import GpuRow, reason_names
from ..records.text import printable
from ..vllm.page import PageError, Sample, samples
from .page_sampler import Page, PageSampler
from .recording import GpuFacts, GpuRecording, Problem

HZ = 1.0
MIB = 1_048_576

# Our column, and how its value is computed from the exporter's.
FIELDS: dict[str, tuple[str, Callable[[float], object]]] = {
    "DCGM_FI_DEV_GPU_UTIL": ("utilization_percent", int),
    "DCGM_FI_DEV_FB_USED": ("memory_used_mb", lambda mib: mib * MIB / 1e6),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_c", int),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", float),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_j", lambda millijoules: millijoules / 1e3),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", int),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_mhz", int),
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": ("throttle_reasons", lambda x: reason_names(int(x))),
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": ("throttle_reasons", lambda x: reason_names(int(x))),
    "DCGM_FI_PROF_PCIE_TX_BYTES": ("pcie_tx_kb_s", lambda bytes_s: int(bytes_s / 1e3)),
    "DCGM_FI_PROF_PCIE_RX_BYTES": ("pcie_rx_kb_s", lambda bytes_s: int(bytes_s / 1e3)),
}
COLUMNS = {column for column, _ in FIELDS.values()}
HOSTS = ("Hostname", "hostname", "node", "instance")  # labels, the exporter's own first
MOST_NAME = 100  # characters
MOST_BOARDS = 1024
OF_A_SLICE = {"utilization_percent", "memory_used_mb"}  # of a slice, not of the board, with MIG


class DcgmSampler(PageSampler):
    """Records new readings from the exporter's page."""

    def __init__(
        self, fetch: Callable[[], str], recording: GpuRecording, wanted: Sequence[int] | None = None
    ) -> None:
        super().__init__(fetch, recording, HZ, "--dcgm-url", "exporter")
        self._recording = recording
        self._wanted = wanted
        self._numbers = Numbers()
        self._last: dict[int, dict[str, Any]] = {}

    def _take(self, page: Page) -> None:
        readings = read_page(page.text, self._wanted, self._numbers)
        fresh = [r for r in readings if r.values and r.values != self._last.get(r.index)]
        if not (fresh or self._last):
            raise PageError("it shows no GPU that was asked for")
        self._tell(fresh)
        self._recording.rows([_row(r, page) for r in fresh])
        self._missed(self._last.keys() - {r.index for r in readings})
        self._last.update((r.index, r.values) for r in fresh)

    def _miss(self, why: str) -> None:
        self._missed(self._last.keys())
        if self._last:
            self._recording.problem(Problem("exporter", f"--dcgm-url, in the run: {why}"))

    def _missed(self, gpus: Iterable[int]) -> None:
        for index in gpus:
            self._recording.missed(index, "exporter")

    def _tell(self, fresh: Sequence[Reading]) -> None:
        new = [r for r in fresh if r.index not in self._last]
        self._recording.gpus([r.facts() for r in new], HZ)
        for reading in new:
            if reading.is_split:
                text = f"GPU {reading.index} is split by MIG: its readings are the whole board's"
                self._recording.problem(Problem("mig", text, reading.index))
            if reading.index != reading.board.gpu:
                text = f"several hosts are on the page: GPU {reading.index} is {reading.board}"
                self._recording.problem(Problem("several_hosts", text))


def is_blank(value: float) -> bool:
    """Whether the value is DCGM's mark for "no value": one mark for 32 bits, one for more.

    No sensor gives what isn't a number, or less than nothing.
    """
    return not 0 <= value < 2**47 or 0x7FFFFFF0 <= value <= 0x7FFFFFFF


@dataclass(frozen=True, slots=True, order=True)
class Board:
    """Which GPU of which host. A page may be of several hosts, each with a GPU 0."""

    host: str
    gpu: int
    uuid: str

    def __str__(self) -> str:
        return f"GPU {self.gpu} of {self.host or 'another host'} ({self.uuid})"


class Numbers:
    """Gives each board of a run its number: its own, or the next one where that is taken."""

    def __init__(self) -> None:
        self._of: dict[Board, int] = {}

    def of(self, board: Board) -> int | None:
        """Return the board's number; None: there are more than any cluster has."""
        found = self._of.get(board)
        if found is None and len(self._of) < MOST_BOARDS:
            taken = set(self._of.values())
            found = board.gpu if board.gpu not in taken else max(taken) + 1
            self._of[board] = found
        return found


class Reading:
    """The values of one GPU on one page."""

    def __init__(self, index: int, board: Board, given: Sequence[Sample]) -> None:
        self.index = index
        self.board = board
        name = given[0].labels.get("modelName")
        self.name = None if name is None else name[:MOST_NAME]
        self.is_split = any(sample.labels.get("GPU_I_ID") for sample in given)
        self.values: dict[str, Any] = {}
        for sample in given:
            self._add(sample)

    def _add(self, sample: Sample) -> None:
        """Take one value; if a board has several, one for each slice, only the first."""
        column, convert = FIELDS[sample.name]
        of_a_slice = column in OF_A_SLICE and sample.labels.get("GPU_I_ID")
        if not is_blank(sample.value) and not of_a_slice:
            self.values.setdefault(column, convert(sample.value))

    def facts(self) -> GpuFacts:
        absent = tuple(sorted(COLUMNS - set(self.values)))
        return GpuFacts(self.index, self.board.uuid, self.name, absent)


def read_page(
    text: str, wanted: Sequence[int] | None = None, numbers: Numbers | None = None
) -> list[Reading]:
    """Return the page's GPUs, or only those wanted. Raises PageError: it isn't Prometheus text."""
    numbers = numbers or Numbers()
    found: dict[Board, list[Sample]] = {}
    for sample in samples(text, FIELDS):
        board = _board(sample.labels)
        if board is not None and (wanted is None or board.gpu in wanted):
            found.setdefault(board, []).append(sample)
    readings = []
    for board in sorted(found):  # a whole host before the next one
        index = numbers.of(board)
        if index is not None:
            readings.append(Reading(index, board, found[board]))
    return sorted(readings, key=lambda reading: reading.index)


def _board(labels: Mapping[str, str]) -> Board | None:
    gpu = labels.get("gpu", "")
    if not gpu.isdecimal() or len(gpu) > 4:
        return None
    host = next((labels[key] for key in HOSTS if labels.get(key)), "")
    uuid = labels.get("UUID") or f"{host}/{gpu}"  # of an exporter that leaves it out
    return Board(printable(host, MOST_NAME), int(gpu), printable(uuid, MOST_NAME))


def _row(reading: Reading, page: Page) -> GpuRow:
    return GpuRow(
        t_s=page.t_s,
        wall_s=page.wall_s,
        gpu_index=reading.index,
        gpu_uuid=reading.board.uuid,
        **reading.values,
    )
