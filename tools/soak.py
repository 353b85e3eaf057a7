#!/usr/bin/env python3
"""Hold one open loop for long against a simulator, and see whether anything grows or is lost.

    python -m tools.soak                             30 minutes at 200 requests/s
    python -m tools.soak --minutes 240 --rate 50     longer
    python -m tools.soak --keep D                    keep the run's files in D

Every 30 s (--every) a line: rows on disk, rows that are due by the plan, and of bench.py, each
sender and the simulator the memory (MB), the open descriptors and the threads. At the end the
bars: bench.py ended well, each request has its row once, the server's counters agree with the
client's count to the last token, no row was more than 3 s late, and no process grew: memory by a
line through the readings after a warm-up of a fifth, descriptors and threads by its last third
against its first. bench.py, which counts how late each read was, may grow by 40 bytes for each
request, the others by none; each line may rise by 0.3 MB a minute, as a heap of fragments does.

Exit codes: 0 all bars are met; 1 one is missed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.flags import number, whole, workers
from vllm_bench.script import complain, parser_of, without

from tools.hostile.left import LeftRun, Row, runs_in
from tools.hostile.loads import Load
from tools.hostile.processes import NS, Size, size_of
from tools.hostile.stage import Stage

POSITIVE = number(0, 1_000_000, above=True)
MB = 1_000_000
LATE_S = 3.0  # rows are on disk so long after they were due, replies of 0.2 s included
WARM_SHARE = 0.2  # of the readings that don't count for growth
GROWTH_MB_MIN = 0.3
BYTES_A_REQUEST = 40
# An open loop keeps as many connections as were ever needed at once: a rare crowd brings some more.
MORE = {"descriptors": (1.5, 8), "threads": (1.0, 0)}
END_LIMIT_S = 300.0  # after the last request: bench.py sums up
LEDGER = ("request_success_total", "prompt_tokens_total", "generation_tokens_total")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at everything."""

    t_s: float  # from the run's start
    rows: int
    due: int
    sizes: Mapping[str, Size]


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that has to be so."""

    name: str
    met: bool
    told: str


def main() -> int:
    """Run it, print a line for each look, then the bars."""
    args = _parse()
    if find_spec("uvloop") is None:  # the simulator would say so, in its log
        return without(ModuleNotFoundError(name="uvloop"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _folder(args.keep) as folder:
            bars = _soaked(args, folder)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as e:
        return complain(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    for bar in bars:
        print(f"{'met ' if bar.met else 'MISSED'}  {bar.name}: {bar.told}")
    missed = sum(not bar.met for bar in bars)
    print(f"{missed} of {len(bars)} bars are missed" if missed else f"all {len(bars)} bars are met")
    return 1 if missed else 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--minutes", type=POSITIVE, default=30.0, metavar="M", help="default: 30")
    add("--rate", type=POSITIVE, default=200.0, metavar="R", help="requests/s (default: 200)")
    add("--tokens", type=whole(1, 100_000), default=16, metavar="N", help="a reply (default: 16)")
    add("--every", type=POSITIVE, default=30.0, metavar="S", help="seconds between two lines")
    add("--workers", type=workers, metavar="N", help="sending processes (default: auto)")
    add("--keep", type=Path, metavar="D", help="keep the files in D, a new folder")
    return parser.parse_args()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        yield Path(made) / "soak"


def _soaked(args: argparse.Namespace, folder: Path) -> list[Bar]:
    settings = {
        "request_rates": [args.rate],
        "duration_s": args.minutes * 60,
        "max_new_tokens": args.tokens,
        "ignore_eos": True,
        **{f"timeout_{what}_s": 60 for what in ("first_token", "stall", "total")},
    }
    load = Load("soak", settings, 0, ("--workers", str(args.workers or "auto")))
    with closing(Stage(folder, random.Random(1), load, proxied=False)) as stage:
        stage.open()
        stage.bench = stage.start("bench")
        readings = list(_readings(stage, args.every))
        code = stage.wait_end(END_LIMIT_S)
        behind = stage.left_behind()
        words = (folder / "bench.err").read_text(encoding="utf-8", errors="replace")
        (run, *more) = runs_in(stage.results) or [LeftRun("none")]
    ended = code in (0, 4) and not behind and not more and "Traceback" not in words
    last = [line.strip() for line in words.splitlines() if " failed" in line][-1:]
    return [
        Bar("end", ended, f"exit code {code}, {len(behind)} processes left; {''.join(last)[:150]}"),
        *run_bars(run),
        *growth_bars(readings, args.rate),
    ]


# -- looks -----------------------------------------------------------------------------------


class Rows:
    """Counts the rows of the one run of a folder, and those that its plan says are due."""

    def __init__(self, results: Path) -> None:
        """Wait for the run to begin; it has no rows before."""
        self._results = results
        self._read, self._found = 0, 0
        self._due_s: list[float] = []
        self._start_ns = 0

    def look(self) -> tuple[float, int, int] | None:
        """Return the time since the start, rows on disk, rows due; None: it hasn't begun."""
        path = next(iter(self._results.glob("*.csv")), None)
        if path is None:
            return None
        if not self._due_s:
            self._begin(path)
        with path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        self._found += new.count(b"\n")
        t_s = (time.perf_counter_ns() - self._start_ns) / NS
        return t_s, self._found - 1, bisect_right(self._due_s, t_s - LATE_S)

    def _begin(self, path: Path) -> None:
        info = json.loads(path.with_suffix(".json").read_bytes())
        self._start_ns = info["clock_start"]["monotonic_ns"]
        header, *lines = (
            (path.parent / "plans" / path.name).read_text(encoding="utf-8").splitlines()
        )
        at = header.split(",").index("t_scheduled_s")
        self._due_s = [float(line.split(",")[at]) for line in lines]


def _readings(stage: Stage, every_s: float) -> Iterator[Reading]:
    """Look as long as rows come; print and yield each look."""
    rows, next_s = Rows(stage.results), time.monotonic() + every_s
    while not stage.over():
        time.sleep(0.1)
        if time.monotonic() < next_s:
            continue
        next_s += every_s
        looked = rows.look()
        if looked is None:
            continue
        sizes = _sizes(stage)
        if "sender 0" not in sizes:
            return  # it sums up
        reading = Reading(*looked, sizes)
        print(line_of(reading), flush=True)
        yield reading


def _sizes(stage: Stage) -> dict[str, Size]:
    named = {"bench": stage.pid, "simulator": stage.simulator.pid}
    named |= {f"sender {i}": pid for i, pid in enumerate(stage.senders())}
    found = {name: size_of(pid) for name, pid in named.items()}
    return {name: size for name, size in found.items() if size is not None}


def line_of(reading: Reading) -> str:
    """Return the line that shows a look."""
    parts = (
        f"{name} {s.memory_bytes / MB:.1f} MB {s.descriptors} fd {s.threads} thr"
        for name, s in reading.sizes.items()
    )
    head = f"{reading.t_s:7.0f} s  {reading.rows:>8,} rows  {reading.due:>8,} due"
    return " | ".join((head, *parts))


# -- bars ------------------------------------------------------------------------------------


def run_bars(run: LeftRun) -> Iterator[Bar]:
    """Yield what has to be so of the run on disk."""
    info = run.info or {}
    asked = int(info.get("num_requests", 0))
    indexes = [row.index for row in run.rows]
    whole = sorted(indexes) == list(range(asked)) and not run.damaged and not run.torn
    told = f"{len(indexes):,} of {asked:,}, {len(set(indexes)):,} different; {run.status}"
    yield Bar("rows", whole and asked > 0 and run.status == "complete", told)
    failed = sum(bool(row.error_kind) for row in run.rows)
    yield Bar("failures", failed == 0, f"{failed:,}")
    for name, server, client in ledger(info, run.rows):
        yield Bar(f"ledger, {name}", server == client, f"server {server:,.0f}, client {client:,}")


def ledger(info: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[tuple[str, float, int]]:
    """Yield what the server counted during a run, and what the client did: name by name."""
    counters = info.get("server_counters") or {}
    before, after = counters.get("before") or {}, counters.get("after") or {}
    others = info.get("unmeasured") or {}
    good = [row for row in rows if not row.error_kind]
    extra = others.get("warmup", 0) + others.get("tail", 0) - others.get("failed", 0)
    counts = (
        len(good) + extra,
        sum(row.prompt_tokens or 0 for row in good) + others.get("prompt_tokens", 0),
        sum(row.completion_tokens or 0 for row in good) + others.get("completion_tokens", 0),
    )
    for name, count in zip(LEDGER, counts, strict=True):
        yield name, after.get(f"vllm:{name}", -1.0) - before.get(f"vllm:{name}", 0.0), count


def growth_bars(readings: Sequence[Reading], rate: float) -> Iterator[Bar]:
    """Yield what has to be so of the looks: no row late, and nothing grows."""
    behind = max((reading.due - reading.rows for reading in readings), default=1)
    yield Bar("rows in time", behind <= 0, f"{max(0, behind):,} were over {LATE_S:g} s late")
    warm = readings[round(len(readings) * WARM_SHARE) :]
    for name in warm[-1].sizes if warm else {}:
        there = [reading for reading in warm if name in reading.sizes]
        yield _memory_bar(name, there, BYTES_A_REQUEST * rate * 60 if name == "bench" else 0.0)
        thirds = there[: max(1, len(there) // 3)], there[-max(1, len(there) // 3) :]
        for what, (times, more) in MORE.items():
            first, last = (max(getattr(r.sizes[name], what) for r in some) for some in thirds)
            told = f"{first}, at the end {last}"
            yield Bar(f"{what} of {name}", last <= first * times + more, told)


def _memory_bar(name: str, readings: Sequence[Reading], may_bytes: float) -> Bar:
    """Return whether a process's memory is flat; `may_bytes` a minute is its due."""
    slope = slope_of([(r.t_s / 60, float(r.sizes[name].memory_bytes)) for r in readings])
    most = may_bytes + GROWTH_MB_MIN * MB
    told = f"{slope / MB:+.2f} MB a minute, {most / MB:.2f} allowed"
    return Bar(f"memory of {name}", slope <= most, told)


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through the points; 0 of fewer than three."""
    if len(points) < 3:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


if __name__ == "__main__":
    sys.exit(main())
