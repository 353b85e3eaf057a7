#!/usr/bin/env python3
"""Measure the client's own error: bench.py against a simulator that records what it did.

    python bench/calibrate.py                            1, 8, 64, 256, 512 and 1000 streams
    python bench/calibrate.py --streams 64,256 --repeats 5
    python bench/calibrate.py --like RUN_ID              at the streams and pace of a run
    python bench/calibrate.py --one-core                 only what one sending core takes

The simulator sends every token at a set time, whatever the load, and records when it had read
each request and when it handed each token to the socket. What the client reports beyond that is
its error. Each level is run --repeats times, and the table has the medians. Keep the machine
quiet meanwhile: client and simulator share it, and other work on it would be measured too. Each
sending process has its own core, as in any run; the simulator uses the others.

A second table says how many events a second one sending core takes with own - kernel p99 (how long
after the kernel's stamp a token was read) at most 1 ms, and at most 0.1 % of the reads with several
events. The rate is doubled until that isn't so, then tried once half-way back. The simulator would
be the limit here: server/source.py sends prepared bytes instead, and says how late it was itself.

Writes calibration/<time>.csv, .md and .png into the results folder; with --like
calibration/<run_id>.json, which summarize.py shows with the run.

Exit codes: 0 done; 1 the simulator or the client failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.flags import count, counts
from vllm_bench.script import add_results, parser_of, run, say

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.records.run_info import RunInfo
    from vllm_bench.run.exact_run import ExactRun, Pace
    from vllm_bench.summary.calibration import Calibration
    from vllm_bench.summary.one_core import CoreLevel

STREAMS = (1, 8, 64, 256, 512, 1000)
CORE_ITL_MS = 20  # of what one core takes; more events a second are more streams


def main() -> int:
    """Measure each level, print the table, write the files."""
    args = _parse()
    try:
        paces = [_pace_of(args)] if args.like else [_usual_pace(n) for n in args.streams]
        rows = [_median_level(pace, args.repeats) for pace in paces if not args.one_core]
        levels = [] if args.like else _core_levels(args.repeats)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted") from None
    _report(rows, levels, args)
    return 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--streams", type=counts, default=STREAMS, metavar="N,N", help="levels to measure")
    add("--repeats", type=count, default=3, metavar="K", help="runs of each level (default: 3)")
    add("--like", metavar="RUN_ID", help="measure at the streams and the speed of this run instead")
    add("--one-core", action="store_true", help="measure only what one sending core takes")
    add_results(parser)
    return parser.parse_args()


def _usual_pace(streams: int) -> Pace:
    from vllm_bench.run.exact_run import Pace

    # From 512 streams on, half the tokens per second, so that a simulator in Python keeps up.
    return Pace(streams, 50, 20 if streams < 512 else 40, 100)


def _pace_of(args: argparse.Namespace) -> Pace:
    """Return the pace of a run. Raises CalibrationError, RecordsError."""
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.run.exact_run import CalibrationError, Pace
    from vllm_bench.summary.summary import summarize

    summary = summarize(load_run(args.results_dir / f"{args.like}.csv"))
    ttft_ms, tpot_ms = (summary.percentile(metric, 50) for metric in ("ttft_ms", "tpot_ms"))
    if ttft_ms is None or tpot_ms is None:
        raise CalibrationError(f"{args.like}: no median TTFT and TPOT for the simulator to copy")
    tokens = summary.distributions["completion_tokens"].mean
    # An open loop has no streams: its requests in flight are used instead.
    in_flight = summary.in_flight.mean if summary.in_flight else 1.0
    streams = summary.concurrency or ceil(in_flight)
    return Pace(streams, ttft_ms, tpot_ms, max(2, round(tokens)))


def _median_level(pace: Pace, repeats: int) -> Calibration:
    from vllm_bench.summary.calibration import median_of

    rows = []
    for number in range(repeats):
        say(
            f"{pace.streams} streams, TTFT {pace.ttft_ms:g} ms, ITL {pace.itl_ms:g} ms, "
            f"{pace.requests} requests [{number + 1}/{repeats}]"
        )
        with tempfile.TemporaryDirectory(prefix="calibrate-") as folder:
            rows.append(_measured(pace, Path(folder)))
    return median_of(rows)


def _measured(pace: Pace, folder: Path) -> Calibration:
    """Run the client once, and compare its files with the simulator's truth."""
    from vllm_bench.records.beside.token_file import load
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.run.exact_run import CalibrationError, exact_run
    from vllm_bench.summary.calibration import Calibration
    from vllm_bench.summary.truth import client_errors, error_figures, read_truth

    made = exact_run(pace, folder)
    run, tokens = load_run(made.rows), load(folder / "results" / "tokens" / f"{made.rows.stem}.npz")
    errors = client_errors(run, tokens, read_truth(made.truth))
    if errors.requests < pace.requests:
        raise CalibrationError(f"{pace.requests - errors.requests} requests failed: see above")
    span_s = float(run.frame["t_end_s"].max() - run.frame["t_sent_s"].min())
    assert run.info is not None
    figures: dict[str, Any] = {
        "tokens_per_s": errors.tokens / span_s,
        "ttft_set_ms": pace.ttft_ms,
        "itl_set_ms": pace.itl_ms,
        **error_figures(errors),
        **_cost_figures(errors.tokens, made, run.info.client_health),
        **_read_figures(run.info),
    }
    return Calibration(streams=pace.streams, **figures)


def _core_levels(repeats: int) -> list[CoreLevel]:
    """Double the rate until one sending core doesn't take it, and go once half-way back."""
    from vllm_bench.summary.one_core import median_level, next_rate

    levels: list[CoreLevel] = []
    while (rate := next_rate(levels)) is not None:
        found = []
        for number in range(repeats):
            say(f"one core, {rate:,.0f} events/s [{number + 1}/{repeats}]")
            with tempfile.TemporaryDirectory(prefix="calibrate-") as folder:
                found.append(_core_level(rate, Path(folder)))
        levels.append(median_level(found))
    return levels


def _core_level(rate: float, folder: Path) -> CoreLevel:
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.run.exact_run import Pace, source_run
    from vllm_bench.summary.one_core import core_level
    from vllm_bench.summary.summary import summarize

    made = source_run(Pace(round(rate * CORE_ITL_MS / 1000), CORE_ITL_MS, CORE_ITL_MS, 100), folder)
    return core_level(summarize(load_run(made.rows)), rate, made.sent)


def _cost_figures(chunks: int, made: ExactRun, health: dict[str, Any]) -> dict[str, float | None]:
    """Return the figures of a `Calibration` about the CPU and memory that the client used."""
    workers, lag = health["workers"], health["loop_lag_ms"]
    return {
        "loop_lag_p99_ms": lag["p99"] if lag else None,
        "loop_cpu_us": 1e6 * sum(worker["cpu_s"] for worker in workers) / chunks,
        "whole_cpu_us": 1e6 * made.cpu_s / chunks,
        "sender_memory_mb": max(worker["peak_memory_bytes"] for worker in workers) / 1e6,
        "parent_memory_mb": made.memory_bytes / 1e6,
    }


def _read_figures(info: RunInfo) -> dict[str, float | None]:
    """Return the figures of a `Calibration` about how late, and how many at a time, tokens came."""
    from vllm_bench.figures.client import lateness_p99_ms, reads_of
    from vllm_bench.summary.one_core import percent

    reads = reads_of(info)
    return {
        "late_p99_ms": lateness_p99_ms(info),
        "merged_percent": percent(reads.merged if reads else None),
        "first_merged_percent": percent(reads.first_merged if reads else None),
    }


def _report(rows: list[Calibration], levels: list[CoreLevel], args: argparse.Namespace) -> None:
    """Print the tables and write the files. Raises OSError."""
    from vllm_bench.charts.against_load import calibration_chart
    from vllm_bench.charts.chart import Heading
    from vllm_bench.charts.pen_matplotlib import draw, save
    from vllm_bench.records.row import to_csv
    from vllm_bench.records.safe_file import write_atomically
    from vllm_bench.summary.calibration import COLUMNS, sidecar, write_sidecar

    machine = f"{os.cpu_count()} cores, client and simulator together."
    text = _text(rows, levels, machine)
    print(text)
    if args.like:
        path = sidecar(args.results_dir, args.like)
        write_sidecar(path, rows[0])
        print(f"Wrote {path}")
        return
    folder = args.results_dir / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    write_atomically(folder / f"{stem}.md", text.encode())
    print(f"Wrote {folder / stem}.md")
    if not rows:
        return
    write_atomically(folder / f"{stem}.csv", to_csv(COLUMNS, rows, digits=None))
    chart = calibration_chart(rows)
    save(draw(chart, Heading(chart.title, machine, chart.doc)), folder / f"{stem}.png")
    print(f"Wrote {folder / stem}.csv and .png")


def _text(rows: list[Calibration], levels: list[CoreLevel], machine: str) -> str:
    """Return the tables, each with the line that says what it means."""
    from vllm_bench.summary import calibration, one_core

    parts = []
    if rows:
        parts += [calibration.to_markdown(rows, machine), f"{calibration.judged(rows)}\n"]
    if levels:
        parts += [f"{one_core.to_markdown(levels)}\n", f"{one_core.judged(levels)}\n"]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(run(main))
