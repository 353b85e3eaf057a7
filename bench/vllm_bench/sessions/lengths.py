"""How long sessions are on this server: texts are counted, recorded lengths may be divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..prompts.count import TokenCounter
from ..prompts.prompt import Prompt, user_prompt
from .pieces import UNKNOWN_ANSWER
from .session import Session, SessionError, Sessions, Turn

COUNTED_AT_ONCE = 64  # prompts; all of one may be long
MOST = 1 << 40  # tokens of a prompt that a server refuses


def with_lengths(sessions: Sessions, counter: TokenCounter) -> Sessions:
    """Return the sessions with the tokens of their texts, as this server counts them.

    Of answers only where the file has no number. A turn that the server refuses as too long has as
    many tokens as there can be. Raises PromptError.
    """
    turns = [turn for session in sessions.sessions for turn in session.turns]
    if not any(turn.new_messages for turn in turns):
        return sessions
    answers = [turn for turn in turns if turn.answer and turn.output_tokens is None]
    one, *outputs = counted(
        [user_prompt("x", "x"), *(user_prompt("answer", turn.answer or "") for turn in answers)],
        counter,
    )
    overhead = max(0, (one or 1) - 1)
    said = {
        id(turn): max(1, (tokens or 0) - overhead)
        for turn, tokens in zip(answers, outputs, strict=True)
    }
    texts = [turn for turn in turns if turn.new_messages]
    prompts = [Prompt("count", turn.messages or turn.new_messages or ()) for turn in texts]
    known = zip(texts, counted(prompts, counter), strict=True)
    lengths = {id(turn): tokens for turn, tokens in known}
    return replace(
        sessions, sessions=tuple(_counted(s, lengths, said, overhead) for s in sessions.sessions)
    )


def _counted(
    session: Session, lengths: dict[int, int | None], said: dict[int, int], overhead: int
) -> Session:
    turns: list[Turn] = []
    for turn in session.turns:
        prompt = turn.prompt_tokens
        if id(turn) in lengths:
            found = lengths[id(turn)]
            prompt = MOST if found is None else found
            if turn.messages is None and turn.history is not None:
                before = turns[turn.history]
                answer = before.output_tokens or UNKNOWN_ANSWER
                prompt += (before.prompt_tokens or 0) + answer - overhead
        output = said.get(id(turn), turn.output_tokens)
        turns.append(replace(turn, prompt_tokens=prompt, output_tokens=output))
    return replace(session, turns=tuple(turns))


def counted(prompts: Sequence[Prompt], counter: TokenCounter) -> list[int | None]:
    """Return the tokens of prompts, a few at once. Raises PromptError."""
    found: list[int | None] = []
    for first in range(0, len(prompts), COUNTED_AT_ONCE):
        found += counter.count(prompts[first : first + COUNTED_AT_ONCE])
    return found


def divided(sessions: Sessions, divisor: int) -> Sessions:
    """Return the sessions with prompts and answers a `divisor`-th as long, rounded up.

    What prompts have in common becomes shorter with them. Raises SessionError for texts, which are
    sent as they are.
    """
    if divisor == 1:
        return sessions
    turns = [turn for session in sessions.sessions for turn in session.turns]
    if any(turn.new_messages for turn in turns):
        raise SessionError(
            f"length_divisor: {divisor}: the texts of {sessions.kind} can't be made shorter"
        )
    note = (
        f"{sessions.kind}: length_divisor: prompts and answers are 1/{divisor} as long as recorded"
    )
    return replace(
        sessions,
        sessions=tuple(
            replace(session, turns=tuple(_divided(turn, divisor) for turn in session.turns))
            for session in sessions.sessions
        ),
        length_divisor=sessions.length_divisor * divisor,
        notes=(*sessions.notes, note),
    )


def _divided(turn: Turn, divisor: int) -> Turn:
    prompt, output = (
        None if tokens is None else math.ceil(tokens / divisor)
        for tokens in (turn.prompt_tokens, turn.output_tokens)
    )
    return replace(turn, prompt_tokens=prompt, output_tokens=output)
