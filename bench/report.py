#!/usr/bin/env python3
"""Put runs on one page to look at: verdicts, objectives, tables, charts to hover and zoom.

    python bench/report.py                            every run in results/
    python bench/report.py results/smoke_test-*.csv   some of them
    python bench/report.py --out smoke.html RUN_ID    under another name

Reads results/<run_id>.csv and <run_id>.json, and, where they are there, tokens/<run_id>.npz,
telemetry/<run_id>.csv and server_metrics/<run_id>.csv. Runs are named as for summarize.py: by
file, id, glob or folder. Writes report.html into the folder of the first run, or of --results-dir.

The page is one file of about 5 MB that opens offline, on a phone too, and prints. It asks nothing
of any network: its charts' library (plotly.js) lies inside. Curves of many points are drawn with
fewer; each is a measured value, and the extremes are kept.

Exit codes: 0 done; 1 no run, or one that can't be read (the others are still reported); 2 wrong
usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_bench.script import ended

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.page.report_run import ReportedRun

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    """Find the runs, keep of each what the page shows, write the page."""
    args = _parse()
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows a ?
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    from vllm_bench.records.find_runs import find_runs, results_folder

    found = find_runs(args.files, args.results_dir or RESULTS)
    _complain(found.problems)
    runs, unread = _load(found.paths)
    if not runs:
        return 1
    path = args.out or results_folder(found.paths[0], args.results_dir) / "report.html"
    written = _write(path, runs)
    return 0 if written and not found.problems and not unread else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="runs; none: all of them")
    where = "where runs and report lie (default: results, beside bench)"
    parser.add_argument("--results-dir", type=Path, metavar="D", help=where)
    parser.add_argument("--out", type=Path, metavar="F", help="the page; report.html there")
    return parser.parse_args()


def _load(paths: Sequence[Path]) -> tuple[list[ReportedRun], int]:
    """Return the runs that can be read, and how many can't. One run's rows in memory at once."""
    from vllm_bench.page.report_run import points_each, reported_run
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.records.request_record import RecordsError

    runs, unread = [], 0
    for path in paths:
        try:
            run = load_run(path)
            runs.append(reported_run(run, points_each(len(paths))))
        except RecordsError as e:
            _complain([str(e)])
            unread += 1
            continue
        if run.info_problem:
            _complain([run.info_problem])
            unread += 1
    return runs, unread


def _write(path: Path, runs: list[ReportedRun]) -> bool:
    """Write the page; False where the folder doesn't take it."""
    from vllm_bench.page.page import to_html
    from vllm_bench.page.report_run import sorted_runs
    from vllm_bench.records.whole_file import write_whole

    page = to_html(sorted_runs(runs)).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)
    except OSError as e:
        _complain([f"{path}: report not written: {e.strerror}"])
        return False
    print(f"{path} ({len(page) / 1e6:.1f} MB): open it in a browser")
    return True


def _complain(problems: Iterable[str]) -> None:
    from vllm_bench.records.text import printable

    for problem in problems:
        print(f"report.py: {printable(problem, 500)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(ended(main))
