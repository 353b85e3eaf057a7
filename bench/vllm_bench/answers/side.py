"""The answers of a run, summed up, alone and against those of the same questions asked alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from ..records.row import Rows, doc
from ..stats.batches import TAIL, binomial_bound
from ..stats.quantiles import beta_share

# Which pass over the questions a run is: one at a time, at a level of load, or alone once more.
Pass = Literal["alone", "load", "again"]
PASSES: tuple[Pass, ...] = get_args(Pass)


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A pass against the one alone, question by question."""

    alone_match: float = doc("exact match of the same set asked one at a time, 0 to 1")
    pairs: int = doc("questions that were answered alone and in this run")
    left_out: int = doc("questions whose request failed, or was never sent, in one of the two")
    texts_changed: int = doc("of the pairs: the text is another one; batching alone does that")
    changed: int = doc("of the pairs: the answer that was read is another one")
    lost: int = doc("of the pairs: right alone, wrong in this run")
    won: int = doc("of the pairs: wrong alone, right in this run")
    p: float = doc("exact one-sided McNemar: the chance of so many lost if load changed nothing")
    p_holm: float | None = doc("p by Holm's method over the session's levels; empty: no level")
    no_verdict: str | None = doc("why lost answers aren't judged; empty: they are")

    @property
    def net(self) -> float:
        """The share of the pairs that was lost, those won taken off; below 0: more were won."""
        return (self.lost - self.won) / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersSide:
    """How many of a run's answers were right."""

    asked: Pass
    n: int = doc("answers that were scored: those of the requests that succeeded")
    right: int = doc("answers that are the set's")
    cut: int = doc("answers that max_tokens ended: they count as wrong")
    unread: int = doc("other replies in which no answer was found: they count as wrong")
    unparsed: int = doc("other answers that nothing marks: the last number was taken")
    match: float | None = doc("exact match: right / scored, 0 to 1")
    match_low: float | None = doc("low end of its 95 % interval (Clopper and Pearson)")
    match_high: float | None = doc("high end of that interval")
    against: Against | None = None  # None: the pass alone itself, or none is known

    @property
    def unfit(self) -> float:
        """The share of the replies in which there was no answer to be scored."""
        return (self.cut + self.unread) / self.n if self.n else 1.0


def answers_side(rows: Rows, asked: Pass) -> AnswersSide:
    """Return how many of these answers are right."""
    n, right = len(rows), int(rows["right"].sum())
    cut, found = rows["cut"] == 1, rows.has("found")
    low, high = interval(right, n) if n else (None, None)
    return AnswersSide(
        asked=asked,
        n=n,
        right=right,
        cut=int(cut.sum()),
        unread=int((~cut & ~found).sum()),
        unparsed=int((~cut & found & (rows["unparsed"] == 1)).sum()),
        match=right / n if n else None,
        match_low=low,
        match_high=high,
    )


def interval(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of answers: questions don't depend on each other."""
    low = binomial_bound(right, n, 1 - TAIL, upper=False)
    return low, binomial_bound(right, n, 1 - TAIL, upper=True)


def mcnemar(lost: int, won: int) -> float:
    """Return the chance of so many lost or more, if each that changed was as likely to be won.

    P(Bin(lost + won, 1/2) >= lost); McNemar, Psychometrika 12 (1947), in its exact form.
    """
    return 1.0 if lost == 0 else beta_share(lost, won + 1, 0.5)


def paired(run: Rows, alone: Rows, alone_match: float, questions: int) -> Against:
    """Return a run's answers against those alone, not judged yet. `questions`: how many there are.

    Of one that was asked twice the first answer counts.
    """
    here, there = _by_question(run), _by_question(alone)
    both = [(here[name], there[name]) for name in here if name in there]

    def differ(column: str) -> Iterator[tuple[object, object]]:
        ours, theirs = run[column], alone[column]
        return ((ours[a], theirs[b]) for a, b in both if ours[a] != theirs[b])

    lost = sum(1 for now, _ in differ("right") if not now)
    won = sum(1 for now, _ in differ("right") if now)
    return Against(
        alone_match=alone_match,
        pairs=len(both),
        left_out=max(questions, len(here.keys() | there.keys())) - len(both),
        texts_changed=sum(1 for _ in differ("text_sha256")),
        changed=sum(1 for _ in differ("found")),
        lost=lost,
        won=won,
        p=mcnemar(lost, won),
        p_holm=None,
        no_verdict=None,
    )


def _by_question(rows: Rows) -> dict[str, int]:
    """Return the place of each question's answer."""
    found: dict[str, int] = {}
    for place, name in enumerate(rows["prompt_id"].tolist()):
        found.setdefault(str(name), place)
    return found
