#!/usr/bin/env python3
"""Measure what the head of a load from many machines costs: a row, a token, a machine, a plan.

    python -m tools.scale                            6 minutes
    python -m tools.scale --repeats 1 --seconds 1    a look
    python -m tools.scale --no-search                without the rates at which a head falls behind

Made foremen, processes of this machine, connect to a head as real ones do, and send it made rows at
a set rate: real messages through real connections into the files of a real run, without a server
and without sending processes. CPU is that of the head's process, between the start and the last
row; each figure is the median of --repeats, each run has a process of its own. Costs are
differences: a row's is (rows without tokens - nothing) / rows, a token's (rows with 200 tokens -
without) / tokens, a machine's (16 idle ones - 2) / 14. Prints the Markdown tables of
docs/SCALE.md, and with --json F writes the figures to a file.

CPU is fairly independent of what else runs; "falls behind" isn't: for it run nothing beside.

Exit codes: 0 measured; 1 a run failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

from vllm_bench.figures.digits import markdown_table
from vllm_bench.script import parser_of, run

from tools.scale.costs import Sizes, costs, searched
from tools.scale.parts import dealing, steps

DEALT = ((10, 10_000), (100, 10_000), (100, 100_000))  # machines, requests
PROMPT_CHARS = 2000


def main() -> int:
    """Measure, and print tables."""
    args = _parse()
    sizes = Sizes(args.seconds, args.repeats, args.rate, args.tokens, tuple(args.machines))
    found = dict(_measured(args, sizes))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _measured(args: argparse.Namespace, sizes: Sizes) -> Iterator[tuple[str, Mapping[str, object]]]:
    load = "load average {:.1f} {:.1f} {:.1f}".format(*os.getloadavg())
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {load}\n", flush=True)
    for tokens in (0, args.tokens):
        found = steps(tokens, 5 * args.repeats)
        yield f"steps_{tokens}", _shown(f"a row of {tokens} tokens", found)
    for machines, requests in DEALT[: 1 if args.no_search else None]:
        what = (
            f"a plan of {requests:,} requests of {PROMPT_CHARS:,} characters, {machines} machines"
        )
        found = dealing(machines, requests, PROMPT_CHARS, args.repeats)
        yield f"dealing_{machines}_{requests}", _shown(what, found)
    yield "costs", _shown("the head", costs(sizes))
    if not args.no_search:
        for tokens in (0, args.tokens):
            yield f"search_{tokens}", _shown(f"rates, {tokens} tokens", searched(sizes, tokens))


def _shown(what: str, found: Mapping[str, float]) -> Mapping[str, float]:
    lines = [[name, _figure(value)] for name, value in found.items()]
    print(markdown_table([[what, "figure"], ["---", "--:"], *lines]) + "\n", flush=True)
    return found


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each run (%(default)s)")
    parser.add_argument("--rate", type=float, default=2000.0, help="rows/s (%(default)s)")
    parser.add_argument("--tokens", type=int, default=200, help="of a reply (%(default)s)")
    parser.add_argument("--machines", type=int, nargs=2, default=[2, 16], help="of idle runs")
    parser.add_argument("--no-search", action="store_true", help="costs alone")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
