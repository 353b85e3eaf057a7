"""What requests have in common: pieces that are sent again and again, and how often each was.

A run of millions has few different prompts: each is kept once, in order by numbers of as few bytes
as they need, since every sending process gets them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:  # the sending processes need no numpy
    import numpy.typing as npt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece:
    """What all requests with one prompt have in common."""

    prompt_id: str
    body: bytes  # without a salt; of a turn: empty until the answer before it is known
    max_tokens: int
    mark_at: int | None = None  # where its word begins that another use replaces; None: nowhere
    mark: int = 0  # which of the words stands there


@dataclass(frozen=True, slots=True)
class Marks:
    """Words of one length in tokens: a prompt has another one each time that it is used.

    Their number is a prime: any step that isn't a multiple of it goes through all of them.
    """

    words: tuple[bytes, ...]
    step: int

    @property
    def cycle(self) -> int:
        """How many uses of a prompt are unlike each other."""
        return len(self.words) or 1

    def body(self, piece: Piece, use: int) -> bytes:
        """Return the body of a use, which counts from 0."""
        if piece.mark_at is None or use % self.cycle == 0:
            return piece.body
        word = self.words[(piece.mark + use * self.step) % len(self.words)]
        end = piece.mark_at + len(self.words[piece.mark])
        return piece.body[: piece.mark_at] + word + piece.body[end:]


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
    order: Sequence[int]

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


@dataclass(frozen=True, slots=True)
class Uses:
    """How often what is sent under a number was sent before: numbers go round and round a pool."""

    before: Sequence[int]  # by place in the pool: earlier places with the same content
    a_round: Sequence[int]  # by place: all places with the same content

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
