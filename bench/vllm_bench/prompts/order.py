"""Seeded order, the same in every process, on every machine, in every version of Python.

Python promises that `random.Random(seed).random()` gives the same numbers in
every version. It promises this for no other method, so the shuffle is written
out here (Fisher and Yates, from the front). `hash()` differs from one process
to the next, so seeds are derived with SHA-256.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed below 2**63 for one purpose: equal inputs give equal seeds in any process."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def permutation(length: int, seed: int) -> Iterator[int]:
    """Yield 0 … length - 1, each once, in seeded order, computed only as far as needed."""
    rng = random.Random(seed)
    moved: dict[int, int] = {}  # the positions of the list that a swap has changed
    for place in range(length):
        other = place + int(rng.random() * (length - place))
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)


def endless_permutations(length: int, seed: int) -> Iterator[int]:
    """Yield complete permutations, one after the other, each in a different order."""
    turn = 0
    while True:
        yield from permutation(length, derive_seed(seed, f"permutation {turn}"))
        turn += 1
