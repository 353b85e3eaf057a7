#!/usr/bin/env python3
"""What it costs that no machine asks another one for its next request: docs/LOAD.md has the table.

    python tools/order_price.py                 64 streams over 4 machines, 256 over 16

Closed loops by number are played with lengths drawn from a lognormal distribution (CV 1), 25
requests a stream, 20 seeds. Told is how much of a run had all streams busy: with one order for all
machines, with the rule that is used (request i is of the machine of stream i mod C), and with
request i of stream i mod C itself. Nothing is sent. Exit codes: 0 done; 2 wrong usage.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.machines.deal import turns
from vllm_bench.script import parser_of, run

FLEETS = ((64, 4), (256, 16))  # streams, machines
EACH, SEEDS = 25, 20  # requests a stream
SLOWER = 1.1  # so many times as long takes each request of one machine
SIGMA = math.sqrt(math.log(2))  # of a lognormal distribution whose CV is 1


def held(
    lengths: Sequence[float], orders: Sequence[int], slow: Collection[int], times: float
) -> float:
    """Return the share of a run with all streams busy; `orders` are which one each stream takes of.

    What a slow stream sends takes so many times as long.
    """
    free: list[list[tuple[float, int]]] = [[] for _ in range(max(orders) + 1)]
    for stream, order in enumerate(orders):
        free[order].append((0.0, stream))
    last = 0.0
    for number, length in enumerate(lengths):
        mine = free[orders[number % len(orders)]]
        begin, stream = mine[0]
        end = begin + length * (times if stream in slow else 1.0)
        heapq.heapreplace(mine, (end, stream))
        last = max(last, end)
    return min(mine[0][0] for mine in free) / last


def price(streams: int, machines: int, times: float = 1.0) -> list[float]:
    """Return the mean shares of the three rules, where one machine takes so many times as long."""
    owners = turns([1] * machines, streams)
    slow = {stream for stream, owner in enumerate(owners) if owner == 0}
    ways = ([0] * streams, owners, list(range(streams)))
    found: list[list[float]] = [[], [], []]
    for seed in range(SEEDS):
        draw = random.Random(seed)
        lengths = [draw.lognormvariate(0, SIGMA) for _ in range(streams * EACH)]
        for shares, orders in zip(found, ways, strict=True):
            shares.append(held(lengths, orders, slow, times))
    return [statistics.fmean(shares) for shares in found]


def main() -> int:
    """Print the table."""
    parser_of(__doc__).parse_args()
    print("| streams, machines | one order | machine of stream i mod C | stream i mod C |")
    print("|---|---|---|---|")
    for streams, machines in FLEETS:
        for times, said in ((1.0, ""), (SLOWER, ", one 10 % slower")):
            shares = price(streams, machines, times)
            cells = (f"{share:.1%}".replace("%", " %") for share in shares)
            print(f"| {streams}, {machines}{said} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
