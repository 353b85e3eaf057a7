#!/usr/bin/env python3
"""Write a report on runs as one HTML page: verdicts, objectives, tables, interactive charts.

    python bench/report.py                            of each level in results/ the newest runs
    python bench/report.py --last                     the runs of bench.py's last call
    python bench/report.py results/smoke_test-*.csv   some of them; also --label WORD, --all
    python bench/report.py --out smoke.html RUN_ID    under another name
    python bench/report.py --out smoke.pdf RUN_ID     on paper (needs Chromium or Chrome)

Reads results/<run_id>.csv and <run_id>.json, and, where they are there, tokens/<run_id>.npz,
telemetry/<run_id>.csv and server_metrics/<run_id>.csv. Runs are named as for summarize.py: by
file, id, glob or folder. Writes report.html into the folder of the first run, or of --results-dir;
on runs that are named, or have a label, reports/<run_id>.html or reports/<label>.html.

Where the runs have exactly two labels, or are the two sides of ab.py, the page also says which is
better, as compare.py does: A is the label that was measured first.

The page is one file of about 5 MB that opens offline, on a phone too, and can be printed. It makes
no network request: the chart library (plotly.js) is inside. Curves with many points are drawn with
fewer; each point is a measured value, and the extremes are kept.

Exit codes: 0 done; 1 no run, or one of whose files something is missing, damaged or another run's
(a line says what; the rest is still reported); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.script import add_runs, complain, each_run, find, output, parser_of, run

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.charts.over_time import Room
    from vllm_bench.charts.pictures import DrawnRun
    from vllm_bench.records.find_runs import Run


def main() -> int:
    """Find the runs, keep of each what the page shows, write the page."""
    args = _parse()
    from vllm_bench.charts.pictures import judged_together
    from vllm_bench.page.page import room_for

    chosen = find(args)
    found, damaged = each_run(chosen.paths, partial(_drawn, room_for(len(chosen.paths))))
    runs = judged_together(found)
    if not runs:
        return 1
    folder, name = output(args, chosen)
    page = folder / (f"reports/{name}.html" if name else "report.html")
    written = _write(args.out or page, runs)
    return 0 if written and not chosen.problems and not damaged else 1


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_runs(parser, "runs and report")
    out = "the page, or a PDF where F ends in .pdf (default: report.html there)"
    parser.add_argument("--out", type=Path, metavar="F", help=out)
    args = parser.parse_args()
    if args.out is not None and (problem := _problem(args.out)):
        parser.error(f"--out {args.out}: {problem}")
    return args


def _problem(out: Path) -> str | None:
    """Return why no report can be written under a name."""
    from vllm_bench.page.pdf import browser

    if out.is_dir():
        return "is a folder; name a file in it, report.html say"
    kind = out.suffix.lower()
    if kind == ".pdf":
        lacking = "a PDF takes Chromium or Chrome, and none is on the PATH: install one"
        return None if browser() else f"{lacking}, or write an .html and print it from a browser"
    pictures = "; pictures are plot.py's" if kind in (".png", ".svg", ".jpg", ".jpeg") else ""
    return None if kind in ("", ".html", ".htm") else f"must end in .html or .pdf{pictures}"


def _drawn(room: Room, run: Run) -> DrawnRun:
    """Return what the page shows of a run."""
    from vllm_bench.charts.pictures import drawn_run
    from vllm_bench.summary.summary import facts_of, summarize

    facts = facts_of(run)
    return drawn_run(summarize(run, facts), facts, room)


def _write(path: Path, runs: list[DrawnRun]) -> bool:
    """Write the page, or print it; False where that can't be done."""
    from vllm_bench.page.page import to_html
    from vllm_bench.page.pdf import PdfError, browser, to_pdf
    from vllm_bench.records.safe_file import write_atomically

    page, as_pdf = to_html(runs).encode(), path.suffix.lower() == ".pdf"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = to_pdf(page, browser() or "chromium", path.parent) if as_pdf else page
        write_atomically(path, data)
    except (OSError, PdfError) as e:
        complain(f"{path}: report not written: {getattr(e, 'strerror', None) or e}")
        return False
    print(f"{path} ({len(data) / 1e6:.1f} MB)" + ("" if as_pdf else ": open it in a browser"))
    return True


if __name__ == "__main__":
    sys.exit(run(main))
