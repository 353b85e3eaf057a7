"""Figures that may not exist: each is a value, or the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Why(str):
    """Why there is no value, in words."""

    __slots__ = ()


Figure = float | Why


def doc(text: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field that knows what its figure means."""
    return field(default=default, metadata={"doc": text})


def docs_of(kind: type[Any]) -> list[tuple[str, str]]:
    """Return (figure, meaning) of the fields made with `doc`, in their order."""
    return [(f.name, f.metadata["doc"]) for f in dataclasses.fields(kind) if "doc" in f.metadata]


@dataclass(frozen=True, slots=True)
class Split:
    """Figures told apart: those that exist, None for the others, and why these don't."""

    values: dict[str, Any]
    absent: dict[str, str]


def split(figures: Mapping[str, Figure]) -> Split:
    """Tell figures that exist from those that don't."""
    return Split(
        {name: None if isinstance(f, Why) else f for name, f in figures.items()},
        {name: str(f) for name, f in figures.items() if isinstance(f, Why)},
    )


def both(one: Figure, other: Figure, combine: Callable[[float, float], Figure]) -> Figure:
    """Return two figures combined, or why one of them doesn't exist."""
    if isinstance(one, Why) or isinstance(other, Why):
        return one if isinstance(one, Why) else other
    return combine(one, other)


def ratio(part: float, whole: float) -> Figure:
    """Return part over whole."""
    return part / whole if whole else Why("that would be a division by 0")


def joined(reasons: Iterable[str]) -> str:
    """Return reasons as one, each once."""
    return "; ".join(dict.fromkeys(reasons))
