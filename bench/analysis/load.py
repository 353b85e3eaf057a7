"""How hard a run pushed: the one place that says what a level of load is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loadgen.records import RunInfo

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["streams", "requests/s"]


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """A level of load. Levels of one unit can be ordered, and their ratio means something."""

    unit: Unit
    value: float

    @property
    def words(self) -> str:
        """The level for people: `8 streams`."""
        unit = self.unit.removesuffix("s") if self.value == 1 else self.unit
        return f"{self.value:g} {unit}"


def load_of(frame: pd.DataFrame, info: RunInfo | None) -> Load:
    """Return a run's load: the streams that its closed loop was to hold open."""
    streams = info.concurrency if info else int(frame["concurrency"].iloc[0]) if len(frame) else 0
    return Load("streams", streams)
