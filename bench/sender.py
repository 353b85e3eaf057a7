#!/usr/bin/env python3
"""Be one machine of a load that comes from several: docs/MACHINES.md.

    python bench/sender.py HOST:PORT < key      do what bench.py at that address asks for

bench.py --senders 'ssh gpu7 python vllm-bench/bench/sender.py' starts it by itself, adds HOST:PORT
and gives it the key of the session; srun or a Kubernetes Job can start it as well, with the key
that bench.py has from its --key-file. The key is read from standard input and never shown.

It connects, and sends this machine's part of each run, with as many processes as suit it; rows go
to bench.py as requests end. When bench.py is gone, it stops loading the server within a second.
What it measures it also keeps on its own disk (--keep-in), until bench.py has written it: after a
crash of bench.py, or of the network, bench.py --resume with the same machines fetches it.

Exit codes: 0 the session is over; 1 no bench.py there, or it was lost in the middle of a run; 2
wrong usage, or a wrong key; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

import argparse
import os
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING

from vllm_bench.errors import BenchError, UsageError
from vllm_bench.script import parser_of, run

if TYPE_CHECKING:
    from vllm_bench.machines.kept.keeper import Keeper

MOST_KEY = 4096  # bytes


def main() -> int:
    """Connect, and serve until bench.py has no more."""
    args = _parse()
    from vllm_bench.machines.foreman import serve

    key, keeper = _key(), _keeper(args.keep_in)
    host, port = args.head
    try:
        whole = serve((host, port), key, keeper)
    except AuthenticationError as e:
        raise UsageError(f"{host}:{port}: it has another key") from e
    except OSError as e:
        raise BenchError(f"{host}:{port}: no bench.py there: {e.strerror or e}") from e
    if not whole:
        raise BenchError(f"{host}:{port}: lost in the middle of a run, which was ended here")
    return 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("head", type=_address, metavar="HOST:PORT", help="where bench.py listens")
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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _key() -> bytes:
    """Return the key from standard input."""
    from vllm_bench.machines.door import key_of

    found = key_of(sys.stdin.buffer.readline(MOST_KEY))
    if not found:
        raise UsageError("no key on standard input: python bench/sender.py HOST:PORT < key")
    return found


if __name__ == "__main__":
    sys.exit(run(main))
