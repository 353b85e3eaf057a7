"""How prompts of recorded lengths are made of pieces: what several prompts begin with is one piece.

Blocks become pieces where prompts part: a piece ends a little behind the last block that the same
prompts have, since a server caches whole pages, and of a template some tokens come after the text.
Without ids the prompt that a turn goes on from is a piece. Each turn ends with a piece of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..traces.blocks import AFTER
from .session import Sessions, Turn

SHORTEST = 4  # tokens of a piece that several prompts share; a shorter one isn't made
UNKNOWN_ANSWER = 128  # tokens that stand for an answer whose length nobody knows

At = tuple[int, int]  # a session and a turn's place in it


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text behind another."""

    name: str  # equal names are equal texts
    before: int | None  # the piece that it follows
    end: int  # tokens from the prompt's beginning to its own end, with template and system prompt
    depth: int  # how many pieces are before it


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of all prompts, each behind the one that it follows."""

    pieces: list[Piece] = field(default_factory=list)
    last: dict[At, int] = field(default_factory=dict)  # that a turn's prompt ends with
    answers: dict[At, int] = field(default_factory=dict)  # in place of answers without a text

    def add(self, name: str, before: int | None, end: int) -> int:
        """Add a piece, and return its number."""
        depth = 0 if before is None else self.pieces[before].depth + 1
        self.pieces.append(Piece(name, before, end, depth))
        return len(self.pieces) - 1

    def end(self, piece: int | None) -> int:
        """Return the tokens up to a piece's end."""
        return 0 if piece is None else self.pieces[piece].end


def pieces_of(sessions: Sessions, overhead: int, *, live: bool = False) -> Pieces:
    """Return the pieces of all turns that have a length and no texts.

    `overhead` is the tokens of template and system prompt. Live turns that go on from others are
    put behind these when they are sent: they are a piece alone, of as many tokens more.
    """
    made = Pieces()
    scopes: dict[str, list[At]] = {}
    for number, session in enumerate(sessions.sessions):
        for place, turn in enumerate(session.turns):
            if turn.new_messages is not None or turn.prompt_tokens is None:
                continue
            if turn.block_ids is not None:
                scope = "shared" if sessions.blocks_shared else f"session {session.id}"
                scopes.setdefault(scope, []).append((number, place))
            else:
                _add_turn(made, sessions, (number, place), overhead, live=live)
    for scope, places in scopes.items():
        _Tree(sessions, places, overhead).add_to(made, scope)
    if not live:
        _add_answers(made, sessions, overhead)
    return made


def _add_answers(made: Pieces, sessions: Sessions, overhead: int) -> None:
    """Add a piece for each answer that a later prompt of texts has, and the file has not."""
    for number, session in enumerate(sessions.sessions):
        for turn in session.turns:
            if turn.new_messages is None or turn.messages is not None or turn.history is None:
                continue
            at, before = (number, turn.history), session.turns[turn.history]
            if before.answer is None and at not in made.answers:
                tokens = overhead + (before.output_tokens or UNKNOWN_ANSWER)
                name = f"session {session.id} answer {turn.history}"
                made.answers[at] = made.add(name, None, tokens)


def _add_turn(made: Pieces, sessions: Sessions, at: At, overhead: int, *, live: bool) -> None:
    """Add a turn whose prompt begins with the one that it goes on from."""
    session = sessions.sessions[at[0]]
    turn = session.turns[at[1]]
    tokens = turn.prompt_tokens or 0
    before = None
    if turn.history is not None:
        before = None if live else made.last.get((at[0], turn.history))
        tokens += overhead if live else 0
    tokens = max(overhead + 1, tokens)
    if made.end(before) >= tokens:
        before = None  # too short for the template: it begins anew
    made.last[at] = made.add(f"session {session.id} turn {at[1]}", before, tokens)


@dataclass(slots=True)
class _Node:
    """A block behind another."""

    block: int
    depth: int  # blocks from the prompt's beginning, with its own
    shortest: int  # tokens of the shortest prompt through it
    uses: int = 0
    inner: bool = False  # all prompts through it go on to the same block


class _Tree:
    """The blocks of some turns."""

    def __init__(self, sessions: Sessions, places: Sequence[At], overhead: int) -> None:
        self._sessions = sessions
        self._places = places
        self._overhead = overhead
        self._size = (sessions.block_tokens or 0) / sessions.length_divisor
        self._nodes: list[_Node] = []
        self._after: dict[tuple[int, int], int] = {}  # a node and a block behind it → its node
        self._paths = {at: self._path(at) for at in places}
        for (parent, _), child in self._after.items():
            if parent >= 0 and self._nodes[parent].uses == self._nodes[child].uses:
                self._nodes[parent].inner = True

    def add_to(self, made: Pieces, scope: str) -> None:
        """Add the pieces of all prompts."""
        pieces: dict[int, int | None] = {}  # by node: the piece that ends there, or before it
        for at in self._places:
            before: int | None = None
            for number in self._paths[at]:
                node = self._nodes[number]
                if node.uses == 1:
                    break
                if not node.inner:
                    if number not in pieces:
                        pieces[number] = self._shared(made, scope, node, before)
                    before = pieces[number]
            tokens = self._tokens(self._turn(at))
            if made.end(before) < tokens:
                name = f"session {self._sessions.sessions[at[0]].id} turn {at[1]}"
                before = made.add(name, before, tokens)
            assert before is not None  # a prompt has at least a token
            made.last[at] = before

    def _shared(self, made: Pieces, scope: str, node: _Node, before: int | None) -> int | None:
        """Add the piece that ends with a block of several prompts, if it is long enough."""
        end = min(round(node.depth * self._size) + AFTER, node.shortest)
        if end < max(made.end(before), self._overhead) + SHORTEST:
            return before
        name = f"{scope} block {node.block} at {node.depth}"
        return made.add(name, before, end)

    def _path(self, at: At) -> list[int]:
        """Return the nodes of a turn's blocks."""
        turn, node = self._turn(at), -1
        tokens, path = self._tokens(turn), list[int]()
        for depth, block in enumerate(turn.block_ids or (), start=1):
            key = (node, block)
            node = self._after.setdefault(key, len(self._nodes))
            if node == len(self._nodes):
                self._nodes.append(_Node(block, depth, tokens))
            found = self._nodes[node]
            found.uses += 1
            found.shortest = min(found.shortest, tokens)
            path.append(node)
        return path

    def _turn(self, at: At) -> Turn:
        return self._sessions.sessions[at[0]].turns[at[1]]

    def _tokens(self, turn: Turn) -> int:
        return max(self._overhead + 1, turn.prompt_tokens or 0)
