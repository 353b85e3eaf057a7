"""The requests of a run, made when they are asked for. Pure.

A run has fewer prompts than requests where its data set is small, where it goes by time, and in
the tail of an open loop. Prompts are then used again in their order. Under `cache: run` each use
has a salt of its own: a prefix cache finds what a run shares by design (a system prompt, a history,
the blocks of a trace), and not the same prompt sent before. Prompts in groups that begin alike have
one salt, since their beginnings are to be found, and another word in each use where their own part
begins. Request i is always the same one, whichever process makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

from .pool import Marks, Piece, Pool, Uses
from .share import PlannedRequest, salted

Role = Literal["measured", "tail", "warm-up"]


@dataclass(frozen=True, slots=True)
class Requests(Sequence[PlannedRequest]):
    """The measured requests, then the tail of an open loop, then the warm-up.

    The warm-up is sent first; only the measured requests have rows. A slice has the same requests,
    with the same indexes.
    """

    run_id: str
    cache: Literal["run", "cold", "natural"]
    pool: Pool  # of the measured ones and the tail, in sending order
    uses: Uses  # of prompts, or of conversations
    warmup: tuple[Piece, ...]
    measured: int  # where a loop goes by time: the most that there may be
    timed: int  # measured ones and tail
    turns: int = 1
    conversation_ids: tuple[str, ...] = ()  # none: no conversations
    indexes: range = range(0)
    traced: bool = False  # whether each carries a traceparent
    place: int = 0  # of the part among `of`: request i of a part is i * of + place of the run
    of: int = 1
    marks: Marks | None = None  # of prompts in groups; None: they are in none
    primers: int = 0  # of the warm-up, its last: what they begin with is found by the measured

    def __len__(self) -> int:
        return len(self.indexes)

    @overload
    def __getitem__(self, at: int) -> PlannedRequest: ...
    @overload
    def __getitem__(self, at: slice) -> Requests: ...
    def __getitem__(self, at: int | slice) -> PlannedRequest | Requests:
        if isinstance(at, slice):
            return dataclasses.replace(self, indexes=self.indexes[at])
        return self._made(self.indexes[at])

    def role(self, index: int) -> Role:
        """Return what request `index` is for."""
        if index < self.measured:
            return "measured"
        return "tail" if index < self.timed else "warm-up"

    def _made(self, index: int) -> PlannedRequest:
        role, number = self.role(index), index * self.of + self.place
        warms_up = role == "warm-up"
        piece = self.warmup[index - self.timed] if warms_up else self.pool[index % len(self.pool)]
        earlier = 0 if warms_up else self.uses.earlier(index // self.turns)
        salt = self._salt(index, number, role, earlier)
        body = self.marks.body(piece, earlier) if self.marks else piece.body
        conversation_id, turn = self._turn(index) if role == "measured" else (None, None)
        return PlannedRequest(
            index=number,
            request_id=f"{self.run_id}-{number}",
            prompt_id=piece.prompt_id,
            body=salted(body, salt) if body else b"",
            max_tokens=piece.max_tokens,
            conversation_id=conversation_id,
            turn=turn,
            cache_salt=salt,
            traced=self.traced,
        )

    def _turn(self, index: int) -> tuple[str | None, int | None]:
        if not self.conversation_ids:
            return None, None
        number, turn = divmod(index, self.turns)
        name = self.conversation_ids[number % len(self.conversation_ids)]
        earlier = self.uses.earlier(number)
        return (f"{name}~{earlier + 1}" if earlier else name), turn + 1

    def _salt(self, index: int, number: int, role: Role, earlier: int) -> str | None:
        """Return the salt for the prefix cache: prefixes match only under equal salts.

        The warm-up has its own: it puts no measured prompt into the cache, unless it is to.
        """
        if self.cache == "natural":
            return None
        if self.cache == "cold":
            return f"{self.run_id}-{number}"
        if role == "warm-up":
            return self._salt_of_warmup(index - self.timed)
        use = earlier // (self.marks.cycle if self.marks else 1)
        return f"{self._own_salt}-use{use + 1}" if use else self._own_salt

    @property
    def _own_salt(self) -> str:
        """The salt of the run, or of a class: none finds what others sent, as if it was alone."""
        return self.run_id if self.of == 1 else f"{self.run_id}-class{self.place + 1}"

    def _salt_of_warmup(self, place: int) -> str:
        if self.primers and place >= len(self.warmup) - self.primers:
            return self._own_salt
        # Beside groups nothing of it is found at all, so that the server's hits are theirs.
        return f"{self.run_id}-warmup" + (f"-{place}" if self.marks else "")
