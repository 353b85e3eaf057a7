#!/usr/bin/env python3
"""Draw runs: distributions of each, a scenario's levels over each other, and against load.

    python bench/plot.py                            every run in results/
    python bench/plot.py results/smoke_test-*.csv   some of them

Reads results/<run_id>.csv and <run_id>.json, named as for summarize.py: by file, id, glob or
folder. Writes PNG files into plots/ in the folder of the first run, or of --results-dir:

    <run_id>_ttft_cdf.png, <run_id>_latency_cdf.png        each run, p50, p95 and p99 marked
    <scenario>_ttft_overlay.png, <scenario>_latency_overlay.png     where there are two runs
    <scenario>_load.png       TTFT, latency, throughput against concurrency: from two levels on

Times are of successful requests. What can't be drawn (no TTFT without streaming, no request
that succeeded) is said, and leaves no empty picture. A run that isn't VALID says so under its
title. No display is needed, and MPLBACKEND changes nothing.

Exit codes: 0 done; 1 no run, or one that can't be read (the others are still drawn); 2 wrong
usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from analysis.figures import PlottedRun
    from analysis.pictures import Picture

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    """Find the runs, draw what they allow, say what they don't."""
    args = _parse()
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows a ?
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    # matplotlib refuses to load where this names a backend that it doesn't know.
    os.environ["MPLBACKEND"] = "agg"
    from analysis.runs import find_runs, results_folder

    found = find_runs(args.files, args.results_dir or RESULTS)
    _complain(found.problems)
    runs, unread = _load(found.paths)
    if not runs:
        if not found.problems and not unread:
            _complain([f"no runs in {args.results_dir or RESULTS}: make some with make bench"])
        return 1
    folder = results_folder(found.paths[0], args.results_dir) / "plots"
    written = _draw_all(runs, folder)
    return 0 if written and not found.problems and not unread else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="runs; none: all of them")
    parser.add_argument("--results-dir", type=Path, metavar="D", help="where runs and plots lie")
    return parser.parse_args()


def _load(paths: Iterable[Path]) -> tuple[list[PlottedRun], int]:
    """Return the runs that can be read, and how many can't."""
    from analysis.figures import plotted_run
    from analysis.runs import load_run
    from loadgen.records import RecordsError

    runs, unread = [], 0
    for path in paths:
        try:
            run = load_run(path)
            runs.append(plotted_run(run))
        except RecordsError as e:
            _complain([str(e)])
            unread += 1
            continue
        if run.info_problem:
            _complain([run.info_problem])
            unread += 1
    return runs, unread


def _draw_all(runs: list[PlottedRun], folder: Path) -> bool:
    """Draw every picture, each saved before the next; False where the folder doesn't take them."""
    from analysis.foreign import printable
    from analysis.style import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in _pictures(runs):
            if picture.draw is None:
                print(f"no {picture.file_name}: {printable(picture.why_not)}")
                continue
            save(picture.draw(), folder / picture.file_name)
            print(folder / picture.file_name)
    except OSError as e:
        _complain([f"{folder}: picture not written: {e.strerror}"])
        return False
    return True


def _pictures(runs: list[PlottedRun]) -> Iterator[Picture]:
    from analysis.pictures import run_pictures, scenario_pictures

    for run in runs:
        yield from run_pictures(run)
    for name in sorted({run.summary.scenario for run in runs}):
        yield from scenario_pictures([run for run in runs if run.summary.scenario == name])


def _complain(problems: Iterable[str]) -> None:
    from analysis.foreign import printable

    for problem in problems:
        print(f"plot.py: {printable(problem, 500)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
