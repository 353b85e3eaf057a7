"""TTFT turn by turn: what a conversation's growing history costs, and what its cache saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..figures.facts import Facts
from ..figures.metrics import headline_metric
from ..figures.statistics import describe, floats

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Turn:
    """The successes of one turn of a run's conversations; None where there is no such value."""

    turn: int  # from 1
    n: int
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    prompt_tokens_mean: float | None
    cached_share: float | None  # of the prompt tokens, where the replies say it


def turns_of(facts: Facts) -> tuple[Turn, ...]:
    """Return a run's turns in their order; none where its requests are no turns."""
    rows = facts.succeeded[facts.succeeded["turn"].notna()]
    return tuple(_turn(facts, int(str(turn)), of_turn) for turn, of_turn in rows.groupby("turn"))


def _turn(facts: Facts, turn: int, rows: pd.DataFrame) -> Turn:
    ttft = describe(floats(facts.times(headline_metric("ttft_ms", facts.load)).loc[rows.index]))
    tokens = floats(rows["prompt_tokens"])
    known = rows[rows["cached_tokens"].notna()]
    asked = float(floats(known["prompt_tokens"]).sum())
    return Turn(
        turn=turn,
        n=len(rows),
        ttft_p50_ms=ttft.percentile(50) if ttft else None,
        ttft_p95_ms=ttft.percentile(95) if ttft else None,
        prompt_tokens_mean=float(tokens.mean()) if tokens.size else None,
        cached_share=float(floats(known["cached_tokens"]).sum()) / asked if asked else None,
    )
