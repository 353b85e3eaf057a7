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

from .dealt.own import ALL, Own
from .pool import Marks, Piece, Pool, Uses
from .sessions.script import Plays
from .share import PlannedRequest, salted

Role = Literal["measured", "tail", "warm-up", "priming"]


@dataclass(frozen=True, slots=True)
class Requests(Sequence[PlannedRequest]):
    """The measured requests, then the tail of an open loop, the warm-up, and what primes caches.

    These last two are sent first; only the measured requests have rows. A slice has the same
    requests, with the same indexes.
    """

    run_id: str
    cache: Literal["run", "cold", "natural"]
    pool: Pool  # of the measured ones and the tail, in sending order
    uses: Uses  # of prompts, or of sessions by their plays
    warmup: Sequence[Piece]
    measured: int  # where a loop goes by time: the most that there may be
    timed: int  # measured ones and tail
    plays: Plays | None = None  # None: no sessions
    indexes: Sequence[int] = range(0)
    traced: bool = False  # whether each carries a traceparent
    place: int = 0  # of the part among `of`: request i of a part is i * of + place of the run
    of: int = 1
    marks: Marks | None = None  # of prompts in groups; None: they are in none
    primed_uses: tuple[int, ...] = ()  # of the warm-up's last: by which use each is to be found

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

    def at(self, own: Own) -> Requests:
        """Return those at one's own places."""
        return self if own == ALL else dataclasses.replace(self, indexes=self._indexes_at(own))

    def _indexes_at(self, own: Own) -> Sequence[int]:
        begin, places = self.indexes[0] if self.indexes else 0, own.upto(len(self.indexes))
        if isinstance(places, range):
            return self.indexes[places.start :: places.step]
        return places if begin == 0 else [begin + place for place in places]

    def role(self, index: int) -> Role:
        """Return what request `index` is for."""
        if index < self.measured:
            return "measured"
        if index < self.timed:
            return "tail"
        primers = self.timed + len(self.warmup) - len(self.primed_uses)
        return "warm-up" if index < primers else "priming"

    def _made(self, index: int) -> PlannedRequest:
        role, number = self.role(index), index * self.of + self.place
        at = self.plays.at(index) if self.plays and role == "measured" else None
        if role in ("warm-up", "priming"):
            place = index - self.timed
            piece, earlier = self.warmup[place], 0
            if role == "priming":
                earlier = self.primed_uses[place - len(self.warmup)]
        else:
            place = self.plays.position(*at) if self.plays and at else index
            piece = self.pool[place % len(self.pool)]
            earlier = self.uses.earlier(at[0] if at else index)
        salt = self._salt(index, number, role, earlier)
        body = self.marks.body(piece, earlier) if self.marks else piece.body
        return PlannedRequest(
            index=number,
            request_id=f"{self.run_id}-{number}",
            prompt_id=piece.prompt_id,
            body=salted(body, salt) if body else b"",
            max_tokens=piece.max_tokens,
            conversation_id=self.name_of(at[0]) if at else None,
            turn=at[1] + 1 if at else None,
            cache_salt=salt,
            traced=self.traced,
        )

    def name_of(self, play: int) -> str:
        """Return the name of a play: the session's, `~2` of its second play."""
        assert self.plays is not None
        name, earlier = self.plays.script(play).name, self.uses.earlier(play)
        return f"{name}~{earlier + 1}" if earlier else name

    def _salt(self, index: int, number: int, role: Role, earlier: int) -> str | None:
        """Return the salt for the prefix cache: prefixes match only under equal salts.

        The warm-up has its own: it puts no measured prompt into the cache, unless it is to.
        """
        if self.cache == "natural":
            return None
        if self.cache == "cold":
            return f"{self.run_id}-{number}"
        if role == "warm-up":
            # Beside groups nothing of it is found at all, so that the server's hits are theirs.
            return f"{self.run_id}-warmup" + (f"-{number}" if self.marks else "")
        use = earlier // (self.marks.cycle if self.marks else 1)
        return f"{self._own_salt}-use{use + 1}" if use else self._own_salt

    @property
    def _own_salt(self) -> str:
        """The salt of the run, or of a class: none finds what others sent, as if it was alone."""
        return self.run_id if self.of == 1 else f"{self.run_id}-class{self.place + 1}"
