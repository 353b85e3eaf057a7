#!/usr/bin/env python3
"""Hold searches for the capacity against the truth, in virtual time.

    python -m tools.capacity_truth                   120 searches: about 5 minutes
    python -m tools.capacity_truth --searches 30     fewer
    python -m tools.capacity_truth --minutes 3       with the requests that 3 minutes allow

On a queue whose truth is a formula, and on the simulator's engine, whose truth is where very long
runs have as many requests late as are allowed. Per server: the true
capacity, found / true (median, 5th and 95th percentile), how often it was more than 5 % too high,
how often "95 % from" was, and the runs and requests that a search took.

Exit codes: 0 the medians lie within 3 % of 1 and at most 5 % of all searches are more than 5 % too
high; 1 they don't; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "server"))

from vllm_bench.script import parser_of, run

if TYPE_CHECKING:
    from vllm_bench.search.found import Found
    from vllm_bench.search.probe import Probe

    from tools.truth.virtual import Virtual

HEADINGS = (
    *("server", "true", "searches", "found / true", "5 to 95 %", "> 5 % high"),
    *("95 % from: > true", "runs", "requests"),
)
MEDIAN_OFF, TOO_HIGH, TOO_OFTEN = 0.03, 1.05, 0.05


@dataclass(frozen=True, slots=True)
class Searched:
    """A search and its answer, beside the truth."""

    found: Found
    probes: Sequence[Probe]
    true: float

    @property
    def ratio(self) -> float:
        return (self.found.load or 0.0) / self.true


def main() -> int:
    """Search, and print the table."""
    from tools.truth.virtual import SERVERS

    args = _parse()
    table: list[Searched] = []
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    for place, server in enumerate(SERVERS):
        seeds = range(place, args.searches, len(SERVERS))
        done = [search(server, args.seed + n, 60 * args.minutes) for n in seeds]
        table += done
        print(_row(server.name, f"{server.capacity:.2f}", done), flush=True)
    print(_row("all", "", table))
    return 0 if is_right(table) else 1


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--searches", type=int, default=120, metavar="N", help="searches (default: 120)")
    add("--seed", type=int, default=1, metavar="N", help="of the first of them")
    add("--minutes", type=float, default=1e6, metavar="M", help="time of each (default: any)")
    return parser.parse_args()


def search(server: Virtual, seed: int, budget_s: float = 6e7) -> Searched:
    """Search a virtual server's capacity."""
    from vllm_bench.search.found import answer
    from vllm_bench.search.sizes import size_of
    from vllm_bench.search.steps import next_step

    probes: list[Probe] = []
    while (step := next_step(server.space, probes)) is not None:
        size = size_of(step, server.space, budget_s, step.load)
        probes.append(server.probe(len(probes) + 1, step, size, seed))
    return Searched(answer(server.space, "", probes), probes, server.capacity)


def is_right(table: Sequence[Searched]) -> bool:
    """Whether the searches are as right as they have to be."""
    high = sum(one.ratio > TOO_HIGH for one in table)
    middle = statistics.median(one.ratio for one in table)
    return abs(middle - 1) <= MEDIAN_OFF and high <= TOO_OFTEN * len(table)


def _row(name: str, true: str, done: Sequence[Searched]) -> str:
    ratios = sorted(one.ratio for one in done)
    cuts = statistics.quantiles(ratios, n=20, method="inclusive")
    high = sum(ratio > TOO_HIGH for ratio in ratios)
    sure = sum((one.found.sure or 0.0) > one.true for one in done)
    runs = statistics.mean(len(one.probes) for one in done)
    requests = statistics.mean(sum(p.requests for p in one.probes) for one in done)
    cells = (
        *(name, true, str(len(done)), f"{statistics.median(ratios):.3f}"),
        *(f"{cuts[0]:.3f} to {cuts[-1]:.3f}", f"{high} ({high / len(done):.0%})"),
        *(f"{sure} ({sure / len(done):.0%})", f"{runs:.1f}", f"{requests:,.0f}"),
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(run(main))
