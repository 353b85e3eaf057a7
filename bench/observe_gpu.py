#!/usr/bin/env python3
"""Sample this machine's GPUs until Ctrl-C: the sampler of bench.py --telemetry, on its own.

    python bench/observe_gpu.py --out gpus.csv           into a file
    python bench/observe_gpu.py --gpus 0,1 --hz 5        as lines, for a person or a program
    python bench/bench.py --telemetry-command 'ssh gpu7 python vllm-bench/bench/observe_gpu.py'

The last command is how a run records the GPUs of a server on another machine: the lines come
back as they are written, and are placed in time by the wall clock, so let both machines use NTP.
It needs a login without a password, and on that machine Python and the package nvidia-ml-py.

Writes the columns of results/telemetry/<run_id>.csv (--columns explains them); t_s counts from
the sampler's start. Lines on the output that begin with # are notes, as JSON; with a file they
go to standard error.

Exit codes: 0 ended by Ctrl-C, a signal or its reader; 1 no GPU to read, or no file to write;
2 wrong usage; 130 Ctrl-C before it began.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.flags import number, several, whole
from vllm_bench.interrupts import INTERRUPTS, set_handlers
from vllm_bench.script import complain, parser_of, run


class Lines:
    """Writes lines and, once that fails, asks for the end."""

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        """Write readings to one stream and notes, which begin with #, to the other."""
        self._out = out
        self._notes = notes
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self.problem: str | None = None

    def write(self, lines: str) -> None:
        """Write complete lines, at once."""
        stream = self._notes if lines.startswith("#") else self._out
        try:
            with self._lock:
                stream.write(lines)
                stream.flush()
        except BrokenPipeError:
            self.ended.set()  # the reader has gone: the usual end
        except OSError as e:
            self.problem = e.strerror or str(e)
            self.ended.set()


def main() -> int:
    """Sample until asked to stop."""
    args = _parse()
    if args.columns:
        return _explain()
    if args.out == "-":
        status = _sample(args, Lines(sys.stdout, sys.stdout))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return status
    try:
        with Path(args.out).open("w", encoding="utf-8") as out:
            return _sample(args, Lines(out, sys.stderr))
    except OSError as e:
        return complain(f"{args.out}: {e.strerror}")


def _sample(args: argparse.Namespace, lines: Lines) -> int:
    from vllm_bench.watch.gpu import GpuSampler
    from vllm_bench.watch.gpu_elsewhere import ALIVE, StreamSink

    sink = StreamSink(lines.write, time.perf_counter())
    sampler = GpuSampler(sink, args.hz, args.gpus)
    sampler.start()  # before the first sample a signal breaks it off
    INTERRUPTS.count_from_now_on()
    set_handlers(lambda *_: lines.ended.set())
    while not lines.ended.wait(1.0):
        # A reader that has gone is noticed even when no GPU answers.
        lines.write(ALIVE if args.out == "-" else "")
    sampler.stop()
    return complain(f"{args.out}: {lines.problem}") if lines.problem else 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--out", default="-", metavar="F", help="file to write; -, the default: the output")
    rate = "samples per second (default: 10)"
    add("--hz", type=number(0.5, 100), default=10.0, metavar="N", help=rate)
    gpus = "GPUs, as nvidia-smi counts (default: all)"
    add("--gpus", type=several(whole()), metavar="I,I", help=gpus)
    add("--columns", action="store_true", help="say what each column means, and stop")
    return parser.parse_args()


def _explain() -> int:
    from vllm_bench.records.beside.samples import GpuRow
    from vllm_bench.records.row import column_docs

    for name, meaning in column_docs(GpuRow):
        print(f"{name:20} {meaning}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
