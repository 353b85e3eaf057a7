#!/usr/bin/env python3
"""Check the verdict: runs with something planted, against a simulator that records the truth.

    python bench/judge.py                     all cases, about 18 minutes
    python bench/judge.py --list              their names
    python bench/judge.py --only NAME ...     some of them
    python bench/judge.py --table             a Markdown table, as docs/METHOD.md has it
    python bench/judge.py --keep D            keep each case's files in D

Each case runs bench.py, as a user would, against a simulator on a free port. Half of the cases are
healthy in an ordinary way; in the others something is wrong with the server, the client, the load
or what stands between. The error of a figure is what bench.py shows against what the server's
users saw in the steady state. A figure that is over 10 % off must not be VALID, and a run whose
figures are all less than 2 % off must not be INVALID. Keep the machine quiet meanwhile.

Exit codes: 0 every verdict is right; 1 one is wrong, or a run failed; 2 wrong usage;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.errors import UsageError
from vllm_bench.script import complain, parser_of, run, say, working_folder

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.planted.play import Judged, Played
    from vllm_bench.planted.situation import Setup, Situation


def main() -> int:
    """Play the cases, print the table, say whether all verdicts are right."""
    args = _parse()
    from vllm_bench.planted.situations import SITUATIONS
    from vllm_bench.planted.table import listing, markdown, plain

    chosen = _chosen(SITUATIONS, args.only)
    if args.list:
        print(listing(chosen))
        return 0
    try:
        with working_folder(args.keep, "judge-") as folder:
            if any(folder.iterdir()):
                raise UsageError(f"--keep {args.keep}: it isn't empty; name a new folder")
            done, failed = _play(chosen, folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted") from None
    print((markdown if args.table else plain)(done))
    wrong = [case.situation.name for case in done if not case.right]
    if wrong:
        complain(f"{len(wrong)} of {len(done)} verdicts are wrong: {', '.join(wrong)}")
    return 1 if wrong or failed else 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="play these cases (default: all)")
    add("--list", action="store_true", help="name the cases and stop")
    add("--table", action="store_true", help="print Markdown")
    add("--keep", type=Path, metavar="D", help="keep the files in D, which must be new or empty")
    return parser.parse_args()


def _chosen(known: Sequence[Situation], names: Sequence[str] | None) -> list[Situation]:
    from vllm_bench.scenario.mistakes import nearest

    by_name = {situation.name: situation for situation in known}
    for name in names or ():
        if name not in by_name:
            hint = nearest(name, list(by_name))
            raise UsageError(f"--only {name}: no such case; --list names them all{hint}")
    return [s for s in known if names is None or s.name in names]


def _play(chosen: Sequence[Situation], folder: Path) -> tuple[list[Judged], int]:
    """Return what came of each case, and how many left no result; those are reported."""
    from vllm_bench.planted.inputs import write_inputs
    from vllm_bench.planted.play import PlayError, judged, play

    write_inputs(folder)
    os.environ["VLLM_BENCH_CACHE"] = str(folder / "cache")  # bench.py's: it ends with the folder
    runs: dict[Setup, Played] = {}  # cases that share a setup share its run

    def played(setup: Setup, name: str) -> Played:
        if setup not in runs:
            runs[setup] = play(setup, folder / name.replace(" ", "-"), folder)
        return runs[setup]

    done, failed = [], 0
    for number, situation in enumerate(chosen, 1):
        name = situation.name
        try:
            here = played(situation.setup, name)
            meant = played(situation.meant, f"{name} meant") if situation.meant else here
        except PlayError as e:
            complain(f"{name}: {e}")
            failed += 1
            continue
        case = judged(situation, here, meant)
        mark = "right" if case.right else "WRONG"
        say(f"[{number}/{len(chosen)}] {name}: {case.off or '-'}; {case.verdict}: {mark}")
        done.append(case)
    return done, failed


if __name__ == "__main__":
    sys.exit(run(main))
