#!/usr/bin/env python3
"""Let 100 things happen to bench.py, one to each run, and see whether anything is lost.

    python -m tools.chaos                            100 faults of seed 1: about 10 minutes
    python -m tools.chaos --faults 20 --seed 7       20 others
    python -m tools.chaos --only kill_bench int      faults of these kinds alone
    python -m tools.chaos --list                     the kinds
    python -m tools.chaos --seed 1 --only int --number 37 --keep D
                                                     one of them again; keep its files in D

Each fault meets a run of some seconds against a simulator that records what it answered: at a
drawn moment bench.py or a sender is killed, stopped or signalled, the server dies, comes back or
answers garbage, the network cuts or garbles, the disk is full or gone. Afterwards, by that record:
every row that was due is there, once; no success is one that the server doesn't know; the exit code
is the right one; the run's JSON says how it ended; summarize.py, plot.py and report.py read
what is left; no process and no traceback is left; and bench.py --resume makes what is missing.
A disk that is full, or read-only, is mounted where root runs this; else limits stand in for it.

Exit codes: 0 nothing was lost; 1 something was; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.flags import whole
from vllm_bench.script import complain, parser_of, without, working_folder

from tools.hostile.faults import KINDS
from tools.hostile.processes import Pulse
from tools.hostile.trial import Outcome, Trial, drawn, play, trials

COUNT = whole(1, 100_000)
TABLE = "{:<16} {:>6} {:>7} {:>7} {:>7} {:>6}"
LINE = "[{:>3}/{}] {:<15} {:<19} {:<6} exit {:>4} {:>4} rows, {:>3} due  {:>4.0f} s  {}"


def main() -> int:
    """Play the faults, print a line for each, then the table by kind."""
    args = _parse()
    if args.list:
        print("\n".join(f"{name:<16} {k.group:<8} {k.what}" for name, k in KINDS.items()))
        return 0
    chosen = _chosen(args)
    if find_spec("uvloop") is None:  # the simulator would say so, in its log
        return without(ModuleNotFoundError(name="uvloop"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its servers and disks must go
    for number in (signal.SIGINT, signal.SIGHUP):  # a shell's background, nohup: of this alone
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # bench.py won't ignore it
    began_s, done = time.monotonic(), []
    try:
        with working_folder(args.keep, "chaos-") as folder:
            for outcome in _played(chosen, folder, args):
                done.append(outcome)
                _tell(len(done), len(chosen), outcome)
            _print_table(done, time.monotonic() - began_s)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # nobody reads on; what was started has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        return complain(f"{e.filename or args.keep}: {e.strerror or e}")
    return 1 if any(outcome.wrong for outcome in done) else 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--faults", type=COUNT, default=100, metavar="N", help="how many (default: 100)")
    add("--seed", type=whole(), default=1, help="draws kinds, loads and moments (default: 1)")
    kinds = "faults of these kinds alone"
    add("--only", nargs="+", choices=KINDS, default=[], metavar="KIND", help=kinds)
    add("--number", type=COUNT, metavar="N", help="fault N alone, of the kind that --only names")
    add("--side-by-side", type=COUNT, default=2, metavar="N", help="so many at once (default: 2)")
    add("--keep", type=Path, metavar="D", help="keep the files of what went wrong in D")
    add("--list", action="store_true", help="name the kinds and stop")
    args = parser.parse_args()
    if args.number and len(args.only) != 1:
        parser.error(f"--number {args.number}: needs --only with one kind")
    return args


def _chosen(args: argparse.Namespace) -> list[Trial]:
    if args.number:
        return [drawn(args.seed, args.number, args.only[0])]
    return list(itertools.islice(trials(args.seed, args.only), args.faults))


def _played(chosen: Sequence[Trial], folder: Path, args: argparse.Namespace) -> Iterator[Outcome]:
    """Play them, some side by side; yield each as it ends."""
    pulse = Pulse()
    pulse.start()

    def play_one(trial: Trial) -> Outcome:
        here = folder / f"{trial.seed}-{trial.number:03}-{trial.name}"
        try:
            outcome = play(trial, here, pulse)
        except OSError as e:
            outcome = Outcome(trial, None, 0, 0, False, (f"not played: {e}",), 0.0)
        if not (outcome.wrong and args.keep):
            shutil.rmtree(here, ignore_errors=True)
        return outcome

    with ThreadPoolExecutor(args.side_by_side) as side_by_side:
        left: set[Future[Outcome]] = {side_by_side.submit(play_one, trial) for trial in chosen}
        try:
            while left:
                ended, left = wait(left, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ended)
        finally:
            side_by_side.shutdown(wait=True, cancel_futures=True)
            pulse.stop()


def _tell(number: int, total: int, outcome: Outcome) -> None:
    trial = outcome.trial
    code = "-" if outcome.code is None else outcome.code
    missed = "" if outcome.struck else " (it had ended before)"
    said = f"{len(outcome.wrong)} WRONG" if outcome.wrong else f"lost: none{missed}"
    where = trial.phase if trial.kind.strike else "all"
    print(
        LINE.format(
            *(number, total, trial.name, trial.load.name, where, code, outcome.rows),
            *(outcome.due, outcome.seconds, said),
        )
    )
    for what in outcome.wrong:
        print(f"      {what}")
    if outcome.wrong:
        words = f"--seed {trial.seed} --only {trial.name} --number {trial.number} --keep D"
        print(f'      again: make chaos ARGS="{words}"')
    sys.stdout.flush()


def _print_table(done: Sequence[Outcome], seconds: float) -> None:
    """Print what came of each kind."""
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in done:
        by_kind.setdefault(outcome.trial.name, []).append(outcome)
    print("\n" + TABLE.format("kind", "faults", "struck", "rows", "due", "wrong"))
    for name in (name for name in KINDS if name in by_kind):
        print(TABLE.format(name, *_sums(by_kind[name])))
    print(TABLE.format("all", *_sums(done)))
    codes = Counter("none" if outcome.code is None else str(outcome.code) for outcome in done)
    print(f"exit codes: {', '.join(f'{n} x {code}' for code, n in sorted(codes.items()))}")
    wrong = sum(bool(outcome.wrong) for outcome in done)
    found = f"{wrong} of {len(done)} went wrong" if wrong else "nothing was lost"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    took = f"{seconds / 60:.1f} minutes ({cpu_s / 60:.1f} of CPU)"
    print(f"{len(done)} faults in {took}: {found}")


def _sums(some: Sequence[Outcome]) -> tuple[int, int, int, int, int]:
    return (
        len(some),
        sum(outcome.struck for outcome in some),
        sum(outcome.rows for outcome in some),
        sum(outcome.due for outcome in some),
        sum(bool(outcome.wrong) for outcome in some),
    )


if __name__ == "__main__":
    sys.exit(main())
