#!/usr/bin/env python3
"""Hold `answers_lost` to the truth: simulated sessions of questions whose truth is known.

    python -m tools.answers_truth                    2000 sessions a cell, about a minute
    python -m tools.answers_truth --sessions 200

A session asks n questions alone and at each of its levels. A sound server answers 3 % of them
otherwise under load, as often to its loss as to its gain; a bad one also loses a share of the
answers that were right. Nothing is sent anywhere. Prints the two Markdown tables of
docs/QUALITY.md.

Exit codes: 0 at most 6 of 100 sound sessions are accused and a loss of 5 points of 400 is found in
nine of ten; 1 not so; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.answers.lost import findings, judged
from vllm_bench.answers.side import Against, AnswersSide, mcnemar
from vllm_bench.figures.digits import markdown_table
from vllm_bench.script import parser_of, run

QUESTIONS = (100, 200, 400, 800, 1319)
LOSSES = (0.02, 0.03, 0.05, 0.1)
LEVELS = (1, 4, 8)
FLIPS = 0.03  # of a sound server's answers, half of them lost
WON = 0.01  # of a bad server's answers, beside those that it loses
RIGHT = 0.9
MOST_ACCUSED, LEAST_FOUND, SEED = 0.06, 0.9, 20

BLANK = Against(
    alone_match=RIGHT,
    pairs=1,
    left_out=0,
    texts_changed=0,
    changed=0,
    lost=0,
    won=0,
    p=1.0,
    p_holm=None,
    no_verdict=None,
)
ALONE = AnswersSide(
    asked="alone",
    n=400,
    right=360,
    cut=0,
    unread=0,
    unparsed=0,
    match=RIGHT,
    match_low=RIGHT,
    match_high=RIGHT,
)


def main() -> int:
    """Simulate, print the tables, and say whether both bars are met."""
    parser = parser_of(__doc__)
    parser.add_argument("--sessions", type=int, default=2000, metavar="N", help="a cell")
    sessions = parser.parse_args().sessions
    accused = {n: [share_accused(n, levels, sessions) for levels in LEVELS] for n in QUESTIONS}
    found = {n: [share_found(n, loss, sessions) for loss in LOSSES] for n in QUESTIONS}
    print(
        _table("sound server, accused", [f"{n} level{'s' * (n > 1)}" for n in LEVELS], accused),
        end="\n\n",
    )
    print(_table("chance to find a loss of", [f"{100 * x:g} points" for x in LOSSES], found))
    worst = max(share for row in accused.values() for share in row)
    return 0 if worst <= MOST_ACCUSED and found[400][LOSSES.index(0.05)] >= LEAST_FOUND else 1


def _table(title: str, headings: Sequence[str], rows: dict[int, list[float]]) -> str:
    cells = [[f"{n} questions", *(f"{100 * x:.1f} %" for x in row)] for n, row in rows.items()]
    return markdown_table([[title, *headings], ["---"] * (len(headings) + 1), *cells])


def share_accused(n: int, levels: int, sessions: int) -> float:
    """Return the share of sessions of a sound server in which any level is accused."""
    rng = np.random.default_rng((SEED, n, levels))
    changed = rng.binomial(n, FLIPS, (sessions, levels))
    lost = rng.binomial(changed, 0.5)
    return _accused(zip(lost, changed - lost, strict=True), n) / sessions


def share_found(n: int, loss: float, sessions: int) -> float:
    """Return the share of sessions in which the only level's loss of so many points is found."""
    rng = np.random.default_rng((SEED, n, round(1000 * loss)))
    won = rng.binomial(n, WON, (sessions, 1))
    lost = rng.binomial(n, loss + WON, (sessions, 1))
    return _accused(zip(lost, won, strict=True), n) / sessions


def _accused(sessions: Iterator[tuple[Sequence[int], Sequence[int]]], n: int) -> int:
    return sum(accused(list(zip(lost, won, strict=True)), n) for lost, won in sessions)


def accused(levels: Sequence[tuple[int, int]], n: int) -> bool:
    """Whether any level is accused, given the answers that each lost and won."""
    sides = [
        replace(
            ALONE,
            asked="load",
            against=replace(BLANK, pairs=n, lost=lost, won=won, p=mcnemar(int(lost), int(won))),
        )
        for lost, won in levels
    ]
    told = [found.code for side in judged(sides, ALONE) for found in findings(side)]
    return "answers_lost" in told


if __name__ == "__main__":
    sys.exit(run(main))
