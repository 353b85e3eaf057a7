"""Figures that may not exist: each is a value, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ..records.run_info import RunInfo
from ..records.text import printable

T = TypeVar("T")


class Why(str):
    """Why there is no value, in words."""

    __slots__ = ()


Figure = float | Why


def group_of(kind: Callable[..., T], figures: Mapping[str, Figure], **known: Any) -> T:
    """Make a group of figures: None for those that don't exist, and the reasons in `absent`."""
    return kind(
        **{name: None if isinstance(f, Why) else f for name, f in figures.items()},
        **known,
        absent={name: str(f) for name, f in figures.items() if isinstance(f, Why)},
    )


def both(one: Figure, other: Figure, combine: Callable[[float, float], Figure]) -> Figure:
    """Return two figures combined, or why one of them doesn't exist."""
    if isinstance(one, Why):
        return one
    return other if isinstance(other, Why) else combine(one, other)


def ratio(part: float, whole: float) -> Figure:
    """Return part / whole, or why that can't be computed."""
    return part / whole if whole else Why("that would be a division by 0")


def joined(reasons: Iterable[str]) -> str:
    """Return reasons as one, each once."""
    return "; ".join(dict.fromkeys(reasons))


Sampler = Literal["gpu", "server_metrics"]


@dataclass(frozen=True, slots=True)
class Observed:
    """What a sampler noted about itself in the run's JSON."""

    noted: dict[str, Any]

    def parts(self, key: str) -> list[dict[str, Any]]:
        """Return a list of mappings, as `problems`, `gaps` and `gpus` are."""
        return self.noted.get(key) or []

    def problem(self, *codes: str) -> str | None:
        """Return the text of the first problem with one of these codes; without any, the last."""
        found = [p for p in self.parts("problems") if not codes or p.get("code") in codes]
        return printable(found[0 if codes else -1].get("text")) if found else None

    @property
    def sampled(self) -> bool:
        return "source" in self.noted or "rows" in self.noted


def observed(info: RunInfo | None, sampler: Sampler) -> Observed:
    """Return what a sampler of a run noted; nothing where it didn't run."""
    return Observed((info.observed.get(sampler) if info else None) or {})


def why_no_rows(info: RunInfo | None, sampler: Sampler, what: str) -> Why:
    """Return why a run has no rows of a sampler; `what` names them, as `GPUs`."""
    found = observed(info, sampler)
    if found.sampled and found.noted.get("rows"):
        missing = printable(found.noted.get("file", "their file"))
        return Why(f"{missing} is missing next to the rows")
    return Why(found.problem() or f"{what} were not sampled in this run")
