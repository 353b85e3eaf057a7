"""Which answers a load makes wrong: each level against the questions alone, judged together.

A model at temperature 0 may say the same in other words under load, since batching changes how
numbers are rounded: that is a note. Answers that were right alone and are wrong at a level are a
fault where chance doesn't explain them and where they are worth a word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from ..stats.paired import holm
from ..verdict.finding import Finding, Severity
from .side import Against, AnswersSide

CODES = ("answers_lost", "answers_changed", "answers_unjudged")
LEVEL = 0.05  # of false alarms, over all levels of a session
SUSPECT, INVALID = 0.01, 0.03  # net loss, as a share of the pairs
FEWEST = 5  # lost and none won: p is .031, and .063 with four
UNFIT = 0.05  # of the replies alone: with more that can't be scored, the rule doesn't fit
LOST = (
    "`answers_lost`, of a level of questions (`quality`) and not of a run alone: answers that were "
    "right one at a time are wrong at this level. SUSPECT where the exact one-sided McNemar test "
    f"has p < {LEVEL:g} by Holm's method over the session's levels, and the net loss is "
    f"{100 * SUSPECT:g} point or more; INVALID from {100 * INVALID:g} points on. By simulation 96 "
    "of 100 sound sessions, or more, aren't accused (docs/QUALITY.md). `answers_changed` is a "
    "note: texts differ, as batching makes them; `answers_unjudged`: no verdict, and why."
)
NO_ANSWERS = "the run's answers are missing"
NO_ALONE = "no pass over the questions alone"
UNJUDGED = (
    "no lost answer would be named: raise max_new_tokens, choose another set or system prompt, or "
    "run the scenario as a whole"
)
CHANGED_ADVICE = "batching alone changes texts at temperature 0; lost answers would be named"
LOST_ADVICE = (
    "a server that is fast and wrong isn't fast: look for what load switches on (KV transfer or "
    "offload, preemption, another kernel from some batch size on), and find the level from which "
    "on it happens (docs/QUALITY.md)"
)


def judged(
    levels: Sequence[AnswersSide], alone: AnswersSide | None, others: Sequence[float] = ()
) -> list[AnswersSide]:
    """Return the answers of a session's levels, with what is judged of all of them together.

    `others`: the p of the session's levels that aren't among these.
    """
    why = _no_verdict(alone)
    known = [side.against for side in levels if side.against is not None]
    adjusted = iter(holm([*(one.p for one in known), *others]))
    return [
        side
        if side.against is None
        else dataclasses.replace(
            side,
            against=dataclasses.replace(
                side.against, p_holm=next(adjusted), no_verdict=why or _too_few(side.against)
            ),
        )
        for side in levels
    ]


def _too_few(one: Against) -> str | None:
    """Return that none of so few pairs could be called lost; None: there are enough."""
    if one.pairs >= FEWEST:
        return None
    return f"{one.pairs} questions were answered both alone and at this level: too few"


def _no_verdict(alone: AnswersSide | None) -> str | None:
    """Return why nothing is judged; None: it is."""
    if alone is None or not alone.n:
        return NO_ALONE
    if alone.unfit > UNFIT:
        return (
            f"alone {alone.cut} of {alone.n} replies were cut by max_tokens and {alone.unread} had "
            f"no answer: over {100 * UNFIT:g} %, so the rule doesn't fit this model"
        )
    if alone.right < FEWEST:
        return f"alone {alone.right} of {alone.n} answers were right: too few to be lost"
    return None


def findings(side: AnswersSide | None) -> Iterator[Finding]:
    """Yield what is found about the answers of a level, once it was judged; None: it has none."""
    one = side.against if side else None
    if one is None or one.no_verdict is not None:
        why = one.no_verdict if one and one.no_verdict else NO_ANSWERS if not side else NO_ALONE
        yield Finding("answers_unjudged", Severity.NOTE, why, UNJUDGED)
        return
    severity = _severity(one)
    if severity is not None:
        yield Finding("answers_lost", severity, against_words(one), LOST_ADVICE)
    elif one.texts_changed:
        yield Finding("answers_changed", Severity.NOTE, against_words(one), CHANGED_ADVICE)


def _severity(one: Against) -> Severity | None:
    if one.p_holm is None or one.p_holm >= LEVEL or one.net < SUSPECT:
        return None
    return Severity.INVALID if one.net >= INVALID else Severity.SUSPECT


def side_words(side: AnswersSide) -> str:
    """Return how many answers were right, and what became of them under load."""
    if side.match is None or side.match_low is None or side.match_high is None:
        return "no answer"
    share = f"{100 * side.match:.3g} % right, {side.right} of {side.n}"
    between = f"95 % interval {100 * side.match_low:.3g} to {100 * side.match_high:.3g}"
    parts = [f"{share} ({between})"]
    parts += [f"{side.cut} cut by max_tokens"] if side.cut else []
    parts += [f"{side.unread} without an answer"] if side.unread else []
    parts += [f"{side.unparsed} without a mark"] if side.unparsed else []
    against = f"; {against_words(side.against)}" if side.against else ""
    return ", ".join(parts) + against


def against_words(one: Against) -> str:
    """Return `31 of 400 differ, 9 lost the right answer and 2 found it (McNemar p = .033)`."""
    words = (
        f"{one.texts_changed} of {one.pairs} differ from those alone, {one.lost} lost the right "
        f"answer and {one.won} found it (McNemar p {_p(one.p)}{_by_holm(one)})"
    )
    left_out = f", {one.left_out} left out: failed or not sent" if one.left_out else ""
    return f"{words}{left_out}" + (f"; no verdict: {one.no_verdict}" if one.no_verdict else "")


def _by_holm(one: Against) -> str:
    return "" if one.p_holm in (None, one.p) else f", {_p(one.p_holm)} by Holm"


def _p(p: float | None) -> str:
    if p is None or p >= 0.995:
        return "= 1"
    return "< .001" if p < 0.001 else f"= {p:.2g}".replace("0.", ".", 1)
