"""What a value that is read from a JSON file must be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .request_record import MOST_OF_A_NAME
from .row import MOST


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value must be, in words, and whether one is."""

    must: str
    holds: Callable[[Any], bool]

    def __call__(self, found: object) -> bool:
        return self.holds(found)


Shape = Kind | dict[str, Any] | list[Any]  # of each key (`*`: of any other), of each of a list

anything = Kind("anything", lambda found: True)
text = Kind("a text", lambda found: isinstance(found, str))
name = Kind(
    f"a text of at most {MOST_OF_A_NAME} characters",
    lambda found: isinstance(found, str) and len(found) <= MOST_OF_A_NAME,
)
flag = Kind("true or false", lambda found: isinstance(found, bool))
number = Kind(
    "a number below 2^53", lambda found: type(found) in (int, float) and -MOST <= found <= MOST
)
at_least_0 = Kind("a number from 0 to 2^53", lambda found: number(found) and found >= 0)
share = Kind("a share from 0 to 1", lambda found: number(found) and 0 <= found <= 1)
rate = Kind(
    "a rate from a billionth to a billion a second",
    lambda found: number(found) and 1e-9 <= found <= 1e9,
)
moment = Kind(
    "seconds since 1970, before the year 9999",
    lambda found: number(found) and 0 <= found < 253_370_764_800,
)
whole = Kind("a whole number", lambda found: type(found) is int)
tokens = Kind("a whole number from 0 to 2^53", lambda found: whole(found) and 0 <= found <= MOST)
count = Kind("a whole number from 0 to a billion", lambda found: whole(found) and 0 <= found <= 1e9)
from_1 = Kind("a whole number from 1 to a billion", lambda found: count(found) and found >= 1)


def _limits(found: object) -> bool:
    return isinstance(found, dict) and all(
        re.fullmatch(r"p(?!0+(\.0*)?$)\d{1,2}(\.\d+)?", key) and at_least_0(limit)
        for key, limit in found.items()
    )


limits = Kind('limits in ms by percentile, as {"p95": 500}', _limits)


def one_of(values: tuple[str, ...]) -> Kind:
    """Return the kind that has these texts alone."""
    *others, last = values
    return Kind(f"{', '.join(others)} or {last}", lambda found: found in values)


def or_null(kind: Kind) -> Kind:
    """Return the kind that also has null: nothing is known."""
    return Kind(f"{kind.must}, or null", lambda found: found is None or kind(found))
