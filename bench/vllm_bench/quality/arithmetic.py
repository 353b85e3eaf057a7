"""Small tasks of our own: sums, and look-ups in a list of 30. In no training set, short to answer.

Task i is the same in every version of Python and on every machine; nothing is fetched.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ..prompts.order import derive_seed, permutation

TASKS = 1000
LISTED = 30  # names in the list of a look-up
NAMES = (
    *("anvil", "bolt", "brush", "bucket", "cable", "candle", "chain", "chisel", "clamp", "comb"),
    *("drill", "fork", "funnel", "glove", "hammer", "hinge", "hook", "kettle", "knife", "ladder"),
    *("lamp", "lever", "lock", "mirror", "nail", "needle", "pan", "pedal", "pin", "pipe"),
    *("plank", "pliers", "plug", "pulley", "razor", "ring", "rope", "ruler", "saw", "screw"),
    *("shelf", "shovel", "spoon", "spring", "staple"),
    *("string", "switch", "tile", "valve", "wrench"),
)


def tasks(count: int = TASKS) -> Iterator[tuple[str, int]]:
    """Yield tasks, each unlike all others, and the answer of each: three sums, then a look-up."""
    number, known = 0, set[str]()
    while len(known) < count:
        rng = _Drawn(number)
        text, answer = _look_up(rng) if number % 4 == 3 else _sum(rng)
        number += 1
        if text not in known:
            known.add(text)
            yield text, answer


class _Drawn:
    """Whole numbers from a seed. Only `random()` is promised to be the same in all versions."""

    def __init__(self, number: int) -> None:
        self._seed = derive_seed(0, f"arithmetic {number}")
        self._random = random.Random(self._seed).random

    def within(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def some(self, of: Sequence[str], count: int) -> list[str]:
        """Return so many of these, each once."""
        order = permutation(len(of), self._seed)
        return [of[next(order)] for _ in range(count)]


def _sum(rng: _Drawn) -> tuple[str, int]:
    a, b, c = rng.within(12, 99), rng.within(3, 29), rng.within(10, 999)
    kind = rng.within(0, 3)
    if kind == 0:
        return f"Compute {a} * {b} - {c}.", a * b - c
    if kind == 1:
        return f"Compute {c} + {a} * {b}.", c + a * b
    if kind == 2:
        return f"Compute ({c} - {a}) * {b}.", (c - a) * b
    return f"Compute {c} + {a} - {b}.", c + a - b


def _look_up(rng: _Drawn) -> tuple[str, int]:
    """A list of names with a number each, and a question on one or two of them."""
    stock = {name: rng.within(10, 999) for name in rng.some(NAMES, LISTED)}
    names = list(stock)
    one, other = names[rng.within(0, LISTED // 2 - 1)], names[rng.within(LISTED // 2, LISTED - 1)]
    lines = "".join(f"{name}: {number}\n" for name, number in stock.items())
    if rng.within(0, 1):
        return f"{lines}Compute {one}.", stock[one]
    return f"{lines}Compute {one} + {other}.", stock[one] + stock[other]
