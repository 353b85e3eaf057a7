"""How hard a run pushed: the one place that says what a level of load is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass

Unit = Literal["streams", "requests/s"]
ONE: dict[Unit, str] = {"streams": "stream", "requests/s": "request/s"}


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """A level of load. Levels of one unit can be ordered, and their ratio means something."""

    unit: Unit
    value: float
    # How many times as fast a trace was replayed: told beside its rate, which is what compares.
    speed: float | None = field(default=None, compare=False)

    @property
    def words(self) -> str:
        """The level for people: `8 streams`, `2.5 requests/s`, `0.7746 requests/s (trace x2)`."""
        unit = ONE[self.unit] if self.value == 1 else self.unit
        return f"{self._digits} {unit}{self._trace}"

    @property
    def number(self) -> str:
        """The level under a heading that names the unit: `8`, `0.7746 (trace x2)`."""
        return f"{self._digits}{self._trace}"

    @property
    def _digits(self) -> str:
        """Four digits that matter, all of them from 1000 on."""
        return f"{self.value:.0f}" if self.value >= 1000 else f"{self.value:.4g}"

    @property
    def _trace(self) -> str:
        return "" if self.speed is None else f" (trace x{self.speed:g})"

    @property
    def axis_words(self) -> str:
        """What an axis of such loads is called."""
        return "requests asked for a second" if self.is_open else "concurrent streams"

    @property
    def is_open(self) -> bool:
        """Whether requests came by a schedule, whatever became of those before them."""
        return self.unit == "requests/s"
