#!/usr/bin/env python3
"""Be one machine of a load that comes from several: docs/MACHINES.md.

    python bench/sender.py HOST:PORT < key      do what bench.py at that address asks for

bench.py --senders 'ssh box2 vllm-bench/.venv/bin/python vllm-bench/bench/sender.py' starts it by
itself, adds HOST:PORT (and /N, by which it knows whom it started) and gives it the key of the
session; srun or a Kubernetes Job can start it as well, with the key that bench.py has from its
--key-file. The key is read from standard input and never shown: all of it as it is, less newlines
at its end, as --key-file takes it.

It waits until there is a bench.py (--wait-s), and sends this machine's portion of each run, with as
many processes as suit it; rows go to bench.py as requests end. When bench.py is gone, it stops
loading the server within a second; when it says nothing for 10 s, too. What it measures it also
keeps on its own disk (--keep-in), until bench.py has written it: after a crash of bench.py, or of
the network, bench.py --resume with the same machines fetches it.

Exit codes: 0 the session is over, or bench.py has the machines that it wants; 1 no bench.py there,
another version of it, or it was lost; 2 wrong usage, or a wrong key; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

import argparse
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from vllm_bench.errors import BenchError, UsageError
from vllm_bench.flags import seconds
from vllm_bench.script import parser_of, run, say

if TYPE_CHECKING:
    from vllm_bench.machines.kept.keeper import Keeper
    from vllm_bench.machines.messages import Hello, Kind

WAIT_S = 60.0


def main() -> int:
    """Connect, and serve until bench.py has no more."""
    args = _parse()
    from vllm_bench.machines.foreman.serve import serve
    from vllm_bench.machines.meeting.address import address_of
    from vllm_bench.machines.meeting.dial import NotNeededError, dial
    from vllm_bench.machines.meeting.key import MOST, key_of

    where, _, called = args.head.partition("/")
    head = address_of(where, "HOST:PORT")
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("the key is read from standard input: sender.py HOST:PORT < key")
    key = key_of(sys.stdin.buffer.read(2 * MOST), "standard input")
    keeper = _keeper(args.keep_in)
    try:
        pipes = dial(head, key, _hellos(called, keeper), args.wait_s, say)
    except NotNeededError as e:
        say(str(e))
        return 0
    try:
        serve(pipes, keeper)
    except BenchError as e:
        raise BenchError(f"{head}: {e}") from e
    return 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("head", metavar="HOST:PORT", help="where bench.py listens")
    wait = f"wait this long for bench.py (default: {WAIT_S:g})"
    parser.add_argument("--wait-s", type=seconds, default=WAIT_S, metavar="S", help=wait)
    keep = (
        "private folder for what bench.py hasn't written yet (default: ~/.local/state/vllm-bench)"
    )
    parser.add_argument("--keep-in", type=Path, metavar="DIR", help=keep)
    return parser.parse_args()


def _keeper(asked: Path | None) -> Keeper:
    """Return what keeps measurements: in the folder asked for, else in a usual one, else nowhere.

    Raises UsageError.
    """
    from vllm_bench.machines.kept.folder import private_folder, usual_folder
    from vllm_bench.machines.kept.keeper import Keeper

    try:
        return Keeper(private_folder(asked) if asked else usual_folder(os.environ))
    except OSError as e:
        why = f"{e.filename}: {e.strerror}"
        if asked:
            raise UsageError(f"--keep-in {asked}: {e.strerror}: name a folder of your own") from e
        return Keeper(None, why)


def _hellos(called: str, keeper: Keeper) -> Callable[[Kind], Hello]:
    from vllm_bench.machines.facts import machine_facts
    from vllm_bench.machines.messages import Hello

    foreman, facts = secrets.token_hex(8), keeper.told_of(machine_facts())
    return lambda kind: Hello(kind, foreman, facts, called)


if __name__ == "__main__":
    sys.exit(run(main))
