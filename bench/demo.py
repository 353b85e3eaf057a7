#!/usr/bin/env python3
"""The main job from end to end, without a GPU, a model or a hub: `make demo`.

    python bench/demo.py                     about half a minute
    python bench/demo.py --results-dir D     results go there

Starts the simulator on a free port, runs the scenario `demo` against it, sums it up, draws it,
puts it on a page to look at, and stops the simulator, also after Ctrl-C or a failure in the middle.

Exit codes: those of bench.py, summarize.py, plot.py and report.py, the first that isn't 0;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from vllm_bench.script import RESULTS, ROOT, parser_of, run
from vllm_bench.simulator import simulator

# The levels of the scenario take this profile from a lone stream to one that fills its batches.
SIMULATOR = ("--model", "gpt-oss-20", "--profile", "gpt-oss-20b-h100")

AFTERWARDS = """
These are a SIMULATOR's figures: no GPU and no model stand behind them.

  {folder}/summary.md      the verdicts and the table, to paste somewhere
  {folder}/summary.csv     a row a run
  {folder}/*.csv           a row a request; *.json beside it: what the run was
  {folder}/plots/          the pictures
  {folder}/report.html     all of it on one page: open it in a browser

Next, on a machine with a GPU and vLLM:

  make init-env            then put your model and token into .env
  make server              in one terminal
  make all NAME=short_chat in another
"""


def main() -> int:
    """Run the scripts against a simulator."""
    args = _parse()
    # A plain kill must stop the simulator too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = args.results_dir
    try:
        # Ctrl-C is for the scripts: their requests under way shall still be answered.
        with simulator(*SIMULATOR, own_session=True) as (base_url, _):
            words = ["--name", "demo", "--base-url", base_url, "--results-dir", str(folder)]
            before = set(folder.glob("demo-*.csv"))
            status = _run("bench.py", *words, quiet=True)
        runs = sorted(str(path) for path in set(folder.glob("demo-*.csv")) - before)
        if status in (1, 2, 130) or not runs:
            return status or 1
        status = _run("summarize.py", *runs) or status
        status = _run("plot.py", *runs, quiet=True) or status
        status = _run("report.py", *runs, quiet=True) or status
    except KeyboardInterrupt:
        return 130
    print(AFTERWARDS.format(folder=_shown(folder)))
    return status


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--results-dir", type=Path, default=RESULTS, metavar="D")
    return parser.parse_args()


def _run(script: str, *words: str, quiet: bool = False) -> int:
    """Run a script and return its exit status; `quiet`: without what it prints as output."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / script), *words],
        stdout=subprocess.DEVNULL if quiet else None,
    )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal told the script too; a kill of this process alone did not.
            process.send_signal(signal.SIGINT)


def _shown(folder: Path) -> str:
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)


if __name__ == "__main__":
    sys.exit(run(main))
