"""The requests of a run, made when they are asked for. Pure.

A run has fewer prompts than requests where its data set is small, where it goes by time, and in
the tail of an open loop. Prompts are then used again in their order. Under `cache: run` each use
has a salt of its own: a prefix cache finds what a run shares by design (a system prompt, a history,
the blocks of a trace), and not the same prompt sent before. Request i is always the same one,
whichever process makes it.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from .share import PlannedRequest, salted

if TYPE_CHECKING:  # the sending processes need no numpy
    import numpy.typing as npt

T = TypeVar("T")
Role = Literal["measured", "tail", "warm-up"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What all requests with one prompt have in common."""

    prompt_id: str
    body: bytes  # without a salt; of a turn: empty until the answer before it is known
    max_tokens: int


def packed(numbers: npt.ArrayLike) -> array[int]:
    """Return whole numbers from 0 in as few bytes each as they need: each process gets them."""
    import numpy as np

    found = np.asarray(numbers)
    most = int(found.max(initial=0))
    code = next(c for c in "BHIQ" if most < 1 << 8 * array(c).itemsize)
    return array(code, found.astype(code).tobytes())


def numbered(
    items: Iterable[T], content: Callable[[T], Hashable]
) -> tuple[tuple[T, ...], array[int]]:
    """Return the different items, in the order in which they come, and each item's place there.

    Items with equal contents are one; of a million that are the same objects few are looked into.
    """
    known: dict[int, int] = {}  # by identity
    places: dict[Hashable, int] = {}
    different, order = list[T](), array("I")
    for item in items:
        place = known.get(id(item))
        if place is None:
            place = known[id(item)] = places.setdefault(content(item), len(different))
            if place == len(different):
                different.append(item)
        order.append(place)
    return tuple(different), packed(order)


@dataclass(frozen=True, slots=True)
class Pool(Sequence[Piece]):
    """Pieces in sending order: each is kept once, and sent to each process once."""

    pieces: tuple[Piece, ...]
    order: array[int]

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, at: int) -> Piece: ...
    @overload
    def __getitem__(self, at: slice) -> Pool: ...
    def __getitem__(self, at: int | slice) -> Piece | Pool:
        if isinstance(at, slice):
            return Pool(self.pieces, self.order[at])
        return self.pieces[self.order[at]]

    @property
    def max_tokens(self) -> int:
        """The tokens asked for in one round, at most."""
        sent = Counter(self.order)
        return sum(self.pieces[place].max_tokens * times for place, times in sent.items())


@dataclass(frozen=True, slots=True)
class Uses:
    """How often what is sent under a number was sent before: numbers go round and round a pool."""

    before: array[int]  # by place in the pool: earlier places with the same content
    a_round: array[int]  # by place: all places with the same content

    @classmethod
    def of(cls, contents: Sequence[int]) -> Uses:
        """Return the uses of a pool; contents are numbers from 0, equal ones used again."""
        import numpy as np

        numbers = np.asarray(contents, dtype=np.int64)
        times = np.bincount(numbers)
        by_content = np.argsort(numbers, kind="stable")
        first = np.repeat(np.cumsum(times) - times, times)  # where each content's places begin
        before = np.empty_like(numbers)
        before[by_content] = np.arange(len(numbers)) - first
        return cls(packed(before), packed(times[numbers]))

    def earlier(self, number: int) -> int:
        """Return how many smaller numbers send the same."""
        rounds, place = divmod(number, len(self.before))
        return self.before[place] + rounds * self.a_round[place]

    def most(self, count: int) -> int:
        """Return how often the first `count` numbers send the same, at most."""
        import numpy as np

        if not count:
            return 0
        last_round = np.arange(max(0, count - len(self.before)), count)  # everything's last use
        rounds, places = np.divmod(last_round, len(self.before))
        earlier = np.asarray(self.before)[places] + rounds * np.asarray(self.a_round)[places]
        return int(earlier.max()) + 1


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
        role = self.role(index)
        warms_up = role == "warm-up"
        piece = self.warmup[index - self.timed] if warms_up else self.pool[index % len(self.pool)]
        salt = self._salt(index, role)
        conversation_id, turn = self._turn(index) if role == "measured" else (None, None)
        return PlannedRequest(
            index=index,
            request_id=f"{self.run_id}-{index}",
            prompt_id=piece.prompt_id,
            body=salted(piece.body, salt) if piece.body else b"",
            max_tokens=piece.max_tokens,
            conversation_id=conversation_id,
            turn=turn,
            cache_salt=salt,
        )

    def _turn(self, index: int) -> tuple[str | None, int | None]:
        if not self.conversation_ids:
            return None, None
        number, turn = divmod(index, self.turns)
        name = self.conversation_ids[number % len(self.conversation_ids)]
        earlier = self.uses.earlier(number)
        return (f"{name}~{earlier + 1}" if earlier else name), turn + 1

    def _salt(self, index: int, role: Role) -> str | None:
        """Return the salt for the prefix cache: prefixes match only under equal salts.

        The warm-up has its own: it puts no measured prompt into the cache.
        """
        if self.cache == "natural":
            return None
        if self.cache == "cold":
            return f"{self.run_id}-{index}"
        if role == "warm-up":
            return f"{self.run_id}-warmup"
        earlier = self.uses.earlier(index // self.turns)
        return f"{self.run_id}-use{earlier + 1}" if earlier else self.run_id
