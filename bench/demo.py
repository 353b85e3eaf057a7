#!/usr/bin/env python3
"""Load a simulated server, sum up, draw and report: a tour without a GPU or a model (`make demo`).

    python bench/demo.py                     about a minute
    python bench/demo.py --results-dir D     write the results into D

Starts the simulator on a free port, runs the scenario `demo` against it, sums up the results,
draws them, and writes the report page. The simulator is stopped at the end, also after Ctrl-C or
a failure.

Exit codes: 0 all ran, whatever its verdict is; 1 or 2 one of the scripts failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.interrupts import INTERRUPTS
from vllm_bench.script import ROOT, add_results, parser_of, run
from vllm_bench.simulator import simulator

# Of the scenario's levels one is light, one fills this server's batches, and one is too much.
SIMULATOR = ("--model", "gpt-oss-20", "--profile", "gpt-oss-20b-h100", "--max-num-seqs", "32")
PORT = 18765  # the same each time, so that two demos are runs of one server

VERDICTS = (0, 3, 4)  # an objective that is missed, or an INVALID run, is a result

AFTERWARDS = """
These figures come from a SIMULATOR: there was no GPU and no model.

  {folder}/summary.md      the verdicts and the table, to paste into a pull request
  {folder}/summary.csv     one row per run
  {folder}/*.csv           one row per request; the *.json of the same name: what the run was
  {folder}/plots/          the pictures; the one to begin with is demo_load.png
  {folder}/report.html     everything on one page: open it in a browser

Next, on a machine with a GPU and vLLM:

  make init-env            then put your model and token into .env
  make server              in one terminal
  make all NAME=short_chat in another
"""


def main() -> int:
    """Run the scripts against a simulator."""
    args = _parse()
    import uvloop  # noqa: F401  (where it is missing, one line says so, instead of two)

    folder = args.results_dir
    try:
        # Ctrl-C is for the scripts: the simulator still answers their requests in flight.
        with simulator(*SIMULATOR, "--port", _port(), own_session=True) as (base_url, _):
            words = ["--name", "demo", "--base-url", base_url, "--results-dir", str(folder)]
            before = set(folder.glob("demo-*.csv"))
            status = _run("bench.py", *words, quiet=True)
        if status in (1, 2, 130) or not set(folder.glob("demo-*.csv")) - before:
            return status or 1
        words = ["--last", "--results-dir", str(folder)]
        told = [_run("summarize.py", *words)]
        told += [_run(script, *words, quiet=True) for script in ("plot.py", "report.py")]
        status = next((code for code in told if code not in VERDICTS), 0)
    except KeyboardInterrupt:
        return 130
    shown = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder
    print(AFTERWARDS.format(folder=shown))
    return status


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_results(parser)
    return parser.parse_args()


def _port() -> str:
    """Return the demo's port, or 0 for a free one where another program has it."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return "0"
    return str(PORT)


def _run(script: str, *words: str, quiet: bool = False) -> int:
    """Run a script and return its exit status; `quiet` hides its standard output."""
    process: subprocess.Popen[bytes] | None = None
    while True:
        try:
            with INTERRUPTS.put_off():
                process = process or subprocess.Popen(
                    [sys.executable, str(ROOT / "bench" / script), *words],
                    stdout=subprocess.DEVNULL if quiet else None,
                )
            return process.wait()
        except KeyboardInterrupt:
            if process is not None:
                # A terminal signals the script as well; a kill of this process alone doesn't.
                process.send_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(run(main))
