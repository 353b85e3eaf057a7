"""How many of a run's replies thought, how much of them was thought, and which never answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...records.row import Rows, doc
from ...stats.batches import Values
from ...stats.distribution import floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingFigures:
    """Of the counted successes of a run in which some thought. Shares from 0 to 1."""

    of: int  # counted successes
    replies: int = doc("counted successes with thoughts, however they came")
    unanswered: int = doc("counted successes without an answer: all of it was thought")
    unanswered_share: float = doc("these / the counted successes")
    token_share: float | None = doc(
        "thinking tokens / generated tokens, of the counted successes whose thinking tokens are "
        "known"
    )
    unknown: int = doc("counted successes with thoughts whose number of tokens is unknown")
    in_content: int  # counted successes with thoughts in their text
    hidden: int  # those whose thoughts were not sent
    timed: int  # those with a TTFA

    @property
    def words(self) -> str:
        """Who thought, for how many tokens, and of how many the TTFA is."""
        share = self.token_share
        tokens = "" if share is None else f", {100 * share:.3g} % of the tokens"
        partly = self.unknown and share is not None
        known = f" (unknown of {self.unknown} replies)" if partly else ""
        return f"{self.replies} of {self.of} replies thought{tokens}{known}{self._left_out}"

    @property
    def _left_out(self) -> str:
        if not self.unanswered:
            return ""
        share = f"{self.unanswered} unanswered ({100 * self.unanswered_share:.3g} %)"
        return f"; {share}: TTFA is of the {self.timed} answered"


def thinking_figures(rows: Rows) -> ThinkingFigures | None:
    """Return the figures of these successes; None where none thought."""
    thought = rows.has("thoughts")
    if not thought.any():
        return None
    tokens, made = rows["thinking_tokens"], rows["completion_tokens"]
    known = ~np.isnan(tokens.astype(np.float64)) & (made > 0)
    unanswered = int((~answered(rows)).sum())
    total = float(floats(made[known]).sum())
    return ThinkingFigures(
        of=len(rows),
        replies=int(thought.sum()),
        unanswered=unanswered,
        unanswered_share=unanswered / len(rows),
        token_share=float(floats(tokens[known]).sum()) / total if total else None,
        unknown=int((thought & ~known).sum()),
        in_content=int((rows["thoughts"] == "content").sum()),
        hidden=int((rows["thoughts"] == "hidden").sum()),
        timed=int(rows.has("ttfa_ms").sum()),
    )


def answered(rows: Rows) -> NDArray[np.bool_]:
    """Whether each reply came to an answer: text or a tool call that is no thought."""
    found: NDArray[np.bool_] = rows["visible_events"] > 0
    return found


def thinking_s(rows: Rows) -> Values:
    """Return from the first token to the first of the answer; nan where no thoughts were sent."""
    found = (rows["ttfa_ms"] - rows["ttft_ms"]) / 1000
    return np.where(rows["thoughts"] == "apart", found, np.nan)


def answer_tpot_ms(rows: Rows) -> Values:
    """Return the time per token of answers after thoughts, after each answer's first token.

    (t_end - its first token) / (answer tokens - 1), where answer tokens are those generated less
    those thought; nan below two, and where either is unknown.
    """
    tokens = rows["completion_tokens"] - rows["thinking_tokens"]
    after = rows["latency_ms"] - rows["ttfa_ms"]
    enough = rows.has("thoughts") & (tokens >= 2)
    return np.where(enough, after / np.where(enough, tokens - 1, 1), np.nan)
