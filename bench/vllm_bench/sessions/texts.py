"""Prompts for recorded sessions: the recorded texts, or real text of the recorded lengths.

Equal blocks, and the prompt that a turn goes on from, become equal text; all else is text of its
own. A prompt is one user's message then: whose words they were isn't known, and equal tokens are
equal work. Recorded texts are sent as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..prompts.count import TokenCounter
from ..prompts.prompt import Message, Prompt, PromptError, PromptSet, PromptSource, user_prompt
from ..prompts.source import set_of
from ..traces.prompts import Writer, measure
from .lengths import counted
from .maker import Maker
from .pieces import UNKNOWN_ANSWER, At, Pieces, pieces_of
from .session import Sessions, Turn

MOST_TOKENS = 400_000_000  # of all prompts together: their texts are in memory


def session_prompts(
    sessions: Sessions,
    source: PromptSource,
    counter: TokenCounter,
    seed: int,
    *,
    live: bool = False,
) -> PromptSet:
    """Return the prompts of all turns, session by session.

    In a live history a turn is put behind the prompt that it goes on from and this server's answer:
    only what it adds is made, and its `prompt_tokens` are of that alone. Raises PromptError where
    one can't be made.
    """
    if not source.prompts:
        raise PromptError(f"{source.dataset}: no prompts")
    _check_total(sessions)
    overhead, chars_per_token = measure(Writer(source.prompts, seed), counter)
    pieces = pieces_of(sessions, overhead, live=live)
    writer = Writer(source.prompts, seed, chars_per_token)
    maker = Maker(writer, counter, pieces, overhead)
    maker.make()
    prompts = _Prompts(sessions, pieces, maker, live=live).all(counter)
    notes = (f"{sessions.kind}: {note}" for note in _notes(sessions, pieces, overhead, live=live))
    return set_of(source, prompts, counter, notes)


def _check_total(sessions: Sessions) -> None:
    total = sum(turn.prompt_tokens or 0 for s in sessions.sessions for turn in s.turns)
    if total > MOST_TOKENS:
        raise PromptError(
            f"{sessions.kind}: its prompts have {total:,} tokens together, and at most"
            f" {MOST_TOKENS:,} are kept in memory: set num_requests, or give fewer sessions"
        )


class _Prompts:
    """The prompts of all turns."""

    def __init__(self, sessions: Sessions, pieces: Pieces, maker: Maker, *, live: bool) -> None:
        self._sessions = sessions
        self._pieces = pieces
        self._maker = maker
        self._live = live
        self._sent: dict[At, tuple[Message, ...]] = {}  # of turns that others go on from

    def all(self, counter: TokenCounter) -> tuple[Prompt, ...]:
        """Return them, session by session, with their tokens. Raises PromptError."""
        made = list(self._made())
        texts = [n for n, prompt in enumerate(made) if prompt.tokens is None]
        found = counted([made[n] for n in texts], counter)
        for n, tokens in zip(texts, found, strict=True):
            if tokens is None:
                raise PromptError(
                    f"{self._sessions.kind}: {made[n].id}: the server refuses this prompt as too"
                    " long: raise its MAX_MODEL_LEN, or leave the session out"
                )
            made[n] = replace(made[n], tokens=tokens)
        return tuple(made)

    def _made(self) -> Iterator[Prompt]:
        for number, session in enumerate(self._sessions.sessions):
            for place, turn in enumerate(session.turns):
                piece, name = self._pieces.last.get((number, place)), f"{session.id}:{place}"
                if piece is None:
                    yield Prompt(name, self._messages((number, place), turn))
                else:
                    tokens = self._maker.texts[piece].tokens
                    yield replace(user_prompt(name, self._maker.whole(piece)), tokens=tokens)

    def _messages(self, at: At, turn: Turn) -> tuple[Message, ...]:
        """Return the messages of a prompt of texts."""
        new = turn.new_messages or ()
        if self._live and turn.history is not None:
            return new
        if turn.messages is not None:
            new = turn.messages
        if turn.messages is not None or turn.history is None:
            sent = new
        else:
            before = (at[0], turn.history)
            sent = (*self._sent.get(before, ()), Message("assistant", self._answer(before)), *new)
        self._sent[at] = sent
        return sent

    def _answer(self, at: At) -> str:
        """Return a turn's answer, or what stands for it."""
        answer = self._sessions.sessions[at[0]].turns[at[1]].answer
        return self._maker.whole(self._pieces.answers[at]) if answer is None else answer


def _notes(sessions: Sessions, pieces: Pieces, overhead: int, *, live: bool) -> Iterator[str]:
    """Yield what people must know about the prompts."""
    turns = [turn for session in sessions.sessions for turn in session.turns]
    common = [session.common_tokens for session in sessions.sessions if session.common_tokens]
    if common and not sessions.blocks_shared:
        yield (
            f"sessions have no text in common; in life tools and system prompt,"
            f" {sum(common) / len(common):,.0f} tokens on average, are equal for all users"
        )
    raised = sum(
        turn.prompt_tokens is not None
        and turn.new_messages is None
        and turn.prompt_tokens <= overhead
        and not (live and turn.history is not None)
        for turn in turns
    )
    if raised:
        yield (
            f"{raised:,} prompts raised to {overhead + 1} tokens: template and system prompt alone"
            f" take {overhead}"
        )
    if any(turn.new_messages for turn in turns):
        yield "texts are sent as recorded; calls of tools are lines of JSON, results a user's words"
    guessed = sum(
        sessions.sessions[number].turns[place].output_tokens is None
        for number, place in pieces.answers
    )
    if guessed:
        yield f"{guessed:,} answers of unknown length: {UNKNOWN_ANSWER} tokens stand for each"
