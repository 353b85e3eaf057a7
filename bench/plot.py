#!/usr/bin/env python3
"""Draw runs: distributions, a timeline and single requests of each; levels against load.

    python bench/plot.py                            of each level in results/ the newest runs
    python bench/plot.py --last                     the runs of bench.py's last call
    python bench/plot.py results/smoke_test-*.csv   some of them; also --label WORD, --all
    python bench/plot.py --format svg --dark        for a dark page

Reads results/<run_id>.csv, <run_id>.json and the folders next to them (tokens/, telemetry/,
server_metrics/). Runs are named as for summarize.py: by file, id, glob or folder. Writes into
plots/ in the folder of the first run, or of --results-dir:

    <run_id>_ttft_cdf.png, _ttfa_cdf, _latency_cdf, _itl_cdf, _chunk_gap_cdf
                                distributions, p50, p95 and p99 marked; a thin line for each
                                other run of the same level. ITL: a gap counts for its tokens
    <run_id>_timeline.png       arrivals and ends, requests in flight, output tokens/s, TTFT and
                                failures, KV cache, GPUs: on one clock, the steady window shaded
    <run_id>_waterfall.png      up to 200 requests, one row each: until first token, decode
    <scenario>_ttft_overlay.png, _ttfa_overlay, _latency_overlay     from two runs on
    <scenario>_load.png         TTFT, TPOT, latency with 95 % intervals and objectives, throughput
                                and its knee against load: from two levels on
    <scenario>_pareto.png       tokens/s by GPU against tokens/s for a user: from two levels on

Of classes of users, each with a colour of its own (the timeline's dots, too):

    <run_id>_ttft_classes.png, _latency_classes    distributions of each class
    <scenario>_load_classes.png   TTFT and latency of each class against load
    <scenario>_fairness.png       each class's slowdown against the same requests alone (--alone)

Those of scenarios, of named runs, go to plots/<run_id>+2/: in plots/ they are of all levels.

A scenario that was run with several settings or servers has pictures for each, named for the label
(bench.py --label), the folder, or the setting that tells them apart: <scenario>-<label>_load.png.
A run that is INVALID is a hollow mark that no line joins; so are runs of a level that disagree.
Where something can't be drawn (no TTFT without streaming, no successful request), the script
says why and writes no empty picture. The picture of a run that isn't VALID says so under its
title. A long run is drawn with fewer points than were measured; the extremes are kept, and the
picture says so. The same files give the same pictures to the byte. No display is needed, and
MPLBACKEND changes nothing. Pictures of runs that are gone are named (runs.py --prune).

Exit codes: 0 done; 1 no run, or one of whose files something is missing, damaged or another run's
(a line says what; the rest is still drawn); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.script import add_runs, complain, each_run, find, output, parser_of, run, say

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.charts.pen_matplotlib import Format
    from vllm_bench.charts.pictures import DrawnRun, Picture
    from vllm_bench.records.find_runs import Run


OF_SERIES = (
    *("_ttft_overlay", "_ttfa_overlay", "_latency_overlay", "_load", "_pareto"),
    *("_load_classes", "_fairness"),  # of scenarios with classes of users
)
MOST_NAMED = 3  # pictures of runs that are gone; the others are counted


def main() -> int:
    """Find the runs, draw what they allow, say what they don't."""
    args = _parse()
    # matplotlib refuses to load where this names a backend that it doesn't know.
    os.environ["MPLBACKEND"] = "agg"
    chosen = find(args)
    if not chosen.paths:
        return 1
    folder, name = output(args, chosen)
    plots = Plots(folder / "plots", args.format, name if args.files else None)
    from vllm_bench.charts.chart import DARK, LIGHT
    from vllm_bench.charts.picture.style import in_style

    try:
        with in_style(DARK if args.dark else LIGHT):
            damaged = _draw_all(chosen.paths, plots)
    except BrokenPipeError:
        raise
    except OSError as e:
        return complain(f"{plots.folder}: picture not written: {e.strerror}")
    _name_what_is_left(folder)
    return 1 if chosen.problems or damaged else 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_runs(parser, "runs and plots")
    kinds = ("png", "svg", "pdf")
    parser.add_argument("--format", choices=kinds, default="png", help="png where not given")
    parser.add_argument("--dark", action="store_true", help="light on dark; the names stay")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Plots:
    """Where pictures go, and as what."""

    folder: Path
    format: Format
    part: str | None  # what runs that were named are called: their levels aren't all there are

    def draw(self, pictures: Iterable[Picture]) -> None:
        """Draw them, each saved before the next. Raises OSError."""
        from vllm_bench.charts.pen_matplotlib import draw, save
        from vllm_bench.records.text import printable

        for picture in pictures:
            path = self.folder / f"{picture.name}.{self.format}"
            if self.part and picture.name.endswith(OF_SERIES):
                path = self.folder / self.part / path.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if picture.chart is None:
                print(f"no {path.name}: {printable(picture.why_not)}{self._older(path)}")
                continue
            save(draw(picture.chart, picture.heading), path, self.format)
            print(path)

    def _older(self, path: Path) -> str:
        """Say which pictures of this name lie there, of other runs than those that are drawn."""
        names = (
            [path.name.replace("_*", one) for one in OF_SERIES] if "*" in path.name else [path.name]
        )
        there = [name for name in names if path.with_name(name).exists()]
        return f" (there, of earlier runs: {', '.join(there)})" if there else ""


def _name_what_is_left(folder: Path) -> None:
    """Say which pictures are of runs that are gone: they show nothing that is still there."""
    from vllm_bench.records.run_files import orphans

    gone = [path.name for of_one in orphans(folder).values() for path in of_one]
    pictures = [name for name in gone if (folder / "plots" / name).exists()]
    if pictures:
        more = f" and {len(pictures) - MOST_NAMED} more" if len(pictures) > MOST_NAMED else ""
        named = ", ".join(pictures[:MOST_NAMED])
        say(f"pictures of runs that are gone: {named}{more} (make runs ARGS=--prune)")


def _draw_all(paths: Iterable[Path], plots: Plots) -> int:
    """Draw every run, then what they are together; return how many are damaged."""
    from vllm_bench.charts.pictures import (
        all_series,
        fairness_pictures,
        judged_together,
        series_pictures,
    )

    found, damaged = each_run(paths, partial(_draw_moments, plots))
    runs = judged_together(found)
    for name, series in all_series(runs):
        plots.draw(series_pictures(name, series, runs))
    plots.draw(fairness_pictures(runs))
    return damaged


def _draw_moments(plots: Plots, run: Run) -> DrawnRun:
    """Draw what needs all rows of a run, and return what is kept of them."""
    from vllm_bench.charts.pictures import drawn_run, moment_pictures
    from vllm_bench.summary.summary import facts_of, summarize

    facts = facts_of(run)
    drawn = drawn_run(summarize(run, facts), facts)
    plots.draw(moment_pictures(drawn, facts))
    return drawn


if __name__ == "__main__":
    sys.exit(run(main))
