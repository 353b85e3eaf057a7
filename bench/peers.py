#!/usr/bin/env python3
"""Hold other load generators and this one, in turn, against a simulator that records what it did.

    python bench/peers.py                        vllm-rs and this project
    python bench/peers.py --peer vllm-rs --peer vllm-bench --streams 64,256
    python bench/peers.py --command vllm-rs=/opt/vllm-rs --repeats 1

Each of them sends the same load: so many streams that begin together, 4 requests each (3 from 512
streams on), 100 tokens a reply. Told are, as medians of --repeats runs: TTFT as the client tells it
less the server's record of the same request, the error of the gaps between tokens, and the CPU of
the whole process for each chunk that the server sent. They run in turn, so that whatever else the
machine does meets them all. The simulator has the first half of the cores, a peer the others;
bench.py places itself: its senders on the last cores, its parent beside the simulator.

What is missing is installed into .peers. Keep the machine quiet meanwhile. Writes
calibration/peers-<time>.md into the results folder.

Exit codes: 0 done; 1 something failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.errors import UsageError
from vllm_bench.flags import count, counts
from vllm_bench.script import ROOT, add_results, parser_of, run, say

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.peers.peer import Load, Peer
    from vllm_bench.peers.turn import Turn

INSTALLED = ROOT / ".peers"
STREAMS = (64, 256, 1000)


def main() -> int:
    """Install what is missing, let each have its turns, print the table and write it."""
    args = _parse()
    from vllm_bench.peers.install import make_tokenizer
    from vllm_bench.peers.known import OWN, PEERS

    chosen = [_named(PEERS, name) for name in dict.fromkeys(args.peer or ["vllm-rs"])]
    given = dict(_command(text, PEERS) for text in args.command)
    try:
        INSTALLED.mkdir(exist_ok=True)
        (INSTALLED / ".vllm-bench-peers").touch()  # by which `make clean` knows it
        commands = {peer: given.get(peer.name) or _installed(peer) for peer in (*chosen, OWN)}
        tokenizer = make_tokenizer(INSTALLED)
        rows: dict[tuple[Load, str], Turn] = {}
        for load in map(_load, args.streams):
            rows |= _turns(load, commands, tokenizer, args.repeats)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted") from None
    _report(rows, args)
    return 0


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    peer = "vllm-rs (default) or vllm-bench; repeatable"
    add("--peer", action="append", metavar="NAME", help=peer)
    path = "use this program instead of installing it"
    add("--command", action="append", default=[], metavar="NAME=PATH", help=path)
    add("--streams", type=counts, default=STREAMS, metavar="N,N", help="default: 64,256,1000")
    add("--repeats", type=count, default=5, metavar="K", help="runs of each (default: 5)")
    add_results(parser)
    return parser.parse_args()


def _named(peers: dict[str, Peer], name: str) -> Peer:
    from vllm_bench.scenario.mistakes import nearest

    if name not in peers:
        there = f"no such peer; there are: {', '.join(peers)}"
        raise UsageError(f"{name}: {there}{nearest(name, peers)}")
    return peers[name]


def _command(text: str, peers: dict[str, Peer]) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not os.access(path, os.X_OK):
        raise UsageError(f"--command {text}: must be NAME=PATH of a program that can be run")
    return _named(peers, name).name, Path(path).absolute()


def _installed(peer: Peer) -> Path:
    say(f"{peer.name}: {peer.what}")
    return peer.install(INSTALLED)


def _load(streams: int) -> Load:
    from vllm_bench.peers.peer import Load

    # From 512 streams on, half the tokens per second, so that a simulator in Python keeps up.
    few = streams < 512
    return Load(streams, streams * (4 if few else 3), 100, 50, 20 if few else 40)


def _turns(
    load: Load, commands: dict[Peer, Path], tokenizer: Path, repeats: int
) -> dict[tuple[Load, str], Turn]:
    from vllm_bench.peers.turn import median_turn, take_turn

    turns: dict[Peer, list[Turn]] = {peer: [] for peer in commands}
    for number in range(repeats):
        for peer, command in commands.items():
            say(f"{load.streams} streams: {peer.name} [{number + 1}/{repeats}]")
            with tempfile.TemporaryDirectory(prefix="peers-") as folder:
                turns[peer].append(take_turn(peer, command, load, tokenizer, Path(folder)))
    return {(load, peer.name): median_turn(found) for peer, found in turns.items()}


def _report(rows: dict[tuple[Load, str], Turn], args: argparse.Namespace) -> None:
    """Print the table and write it. Raises OSError."""
    from vllm_bench.peers.table import markdown
    from vllm_bench.records.safe_file import write_atomically

    machine = f"{os.cpu_count()} cores, server and client together; medians of {args.repeats}."
    text = f"Times in ms. {machine}\n\n{markdown(rows)}\n"
    print(text)
    folder = args.results_dir / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"peers-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.md"
    write_atomically(path, text.encode())
    print(f"Wrote {path}")


if __name__ == "__main__":
    sys.exit(run(main))
