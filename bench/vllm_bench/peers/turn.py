"""One run of a load generator, and its figures held against the server's own record."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..program import run_to_end
from ..simulator import simulator
from ..summary.truth import TrueRequest, read_truth
from .peer import MODEL, Load, Peer, PeerError, Place, Told

# A gap told as less than this share of what it was: its events were read together, or at once.
NONE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Turn:
    """The figures of one run, or the medians of several; times in ms, CPU in us."""

    requests: float  # that were told and recorded
    ttft_mean_ms: float  # as told
    record_mean_ms: float  # from reading the request to sending the first token
    ttft_error_mean_ms: float  # told less recorded
    ttft_error_p99_ms: float
    itl_error_p99_ms: float | None  # size of the difference; None: other gaps than were sent
    merged_percent: float | None  # of the gaps: told as none, as two events in one read are
    cpu_us: float  # of the whole process, for each chunk sent; start-up and warm-up included
    memory_mb: float  # peak, of the process that was started


def take_turn(peer: Peer, command: Path, load: Load, tokenizer: Path, folder: Path) -> Turn:
    """Run a load generator once against a new simulator. Raises PeerError, SimulatorError."""
    truth, log = folder / "truth.jsonl", folder / "log"
    pace = ("--exact", "--ttft-ms", f"{load.ttft_ms:g}", "--itl-ms", f"{load.itl_ms:g}")
    flags = (*pace, "--model", MODEL, "--tokenizer", str(tokenizer), "--truth", str(truth))
    ours, theirs = halves(sorted(os.sched_getaffinity(0)))
    with simulator(*flags, cores=theirs) as (base_url, _):
        place = Place(base_url, tokenizer, folder)
        peer.prepare(load, place)
        words = peer.command_line(command, load, place)
        used = run_to_end(words, log, () if peer.places_itself else ours)
    if used.exit_code not in peer.fine:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
        raise PeerError(f"{peer.name}: exit code {used.exit_code}; it said: {said[-1][-300:]}")
    record = read_truth(truth)
    chunks = sum(len(line.sent_ns) for line in record.values())
    cost = (1e6 * used.cpu_s / chunks, used.memory_bytes / 1e6)
    return _figures(peer.name, peer.read(folder), record, cost)


def halves(cores: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the client's cores and the server's: the last half and the first; both, if one."""
    if len(cores) == 1:
        return cores, cores
    middle = (len(cores) + 1) // 2
    return cores[middle:], cores[:middle]


def _figures(
    name: str,
    told: Mapping[str, Told],
    record: Mapping[str, TrueRequest],
    cost: tuple[float, float],
) -> Turn:
    pairs = [(one, record[key]) for key, one in told.items() if key in record]
    if not pairs:
        raise PeerError(f"{name}: none of its requests is in the server's record")
    ttft = np.array([one.ttft_ns for one, _ in pairs]) / 1e6
    true = np.array([line.sent_ns[0] - line.received_ns for _, line in pairs]) / 1e6
    gaps = _gaps(pairs)
    return Turn(
        requests=len(pairs),
        ttft_mean_ms=float(ttft.mean()),
        record_mean_ms=float(true.mean()),
        ttft_error_mean_ms=float((ttft - true).mean()),
        ttft_error_p99_ms=float(np.percentile(ttft - true, 99)),
        itl_error_p99_ms=None if gaps is None else float(np.percentile(gaps.errors_ms, 99)),
        merged_percent=None if gaps is None else 100 * gaps.merged,
        cpu_us=cost[0],
        memory_mb=cost[1],
    )


@dataclass(frozen=True, slots=True)
class _Gaps:
    """By how much each gap between tokens was told wrong, and the share that was told as none."""

    errors_ms: NDArray[np.float64]
    merged: float


def _gaps(pairs: Sequence[tuple[Told, TrueRequest]]) -> _Gaps | None:
    """Hold the gaps that were told against those that were sent; None: they can't be paired."""
    sent = [np.diff(line.sent_ns) for _, line in pairs]
    told = [np.array(one.gaps_ns) for one, _ in pairs]
    if any(len(a) != len(b) for a, b in zip(told, sent, strict=True)):
        return None
    seen, true = np.concatenate(told), np.concatenate(sent)
    none = (seen < NONE_SHARE * true).mean()
    return _Gaps(np.abs(seen - true) / 1e6, float(none))


def median_turn(turns: Sequence[Turn]) -> Turn:
    """Return the median of each figure; absent where it is in any of them."""
    columns = zip(*map(dataclasses.astuple, turns), strict=True)
    middle: list[Any] = [
        None if None in values else statistics.median(values) for values in columns
    ]
    return Turn(*middle)
