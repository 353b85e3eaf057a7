"""A gate: red only where two experiments, the second on fresh seeds, call the same thing slower.

One look over ten measures and several levels is wrong now and then; that two independent looks are
wrong about the same measure at the same level is rare enough to stop a change for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..compare.comparison import Comparison, LevelRows, Row
from ..scenario.load import Load

Place = tuple[str, Load, str]  # scenario, level, measure

GREEN, RED, UNJUDGED = 0, 3, 4
COLOURS = {GREEN: "green", RED: "red", UNJUDGED: "not judged"}


@dataclass(frozen=True)
class Gate:
    """What one look said, or two."""

    first: Comparison
    second: Comparison | None = None

    @property
    def asks_again(self) -> bool:
        """Whether a second look is due: the first one alone would be red."""
        return self.second is None and bool(self.doubted)

    @cached_property
    def doubted(self) -> dict[Place, Row]:
        """What the first look called slower."""
        return {_place(level, row): row for level, row in self.first.slower}

    @cached_property
    def again(self) -> dict[Place, Row]:
        """What the second look said of these."""
        levels = self.second.levels if self.second else ()
        found = {_place(level, row): row for level in levels for row in level.rows}
        return {place: found[place] for place in self.doubted if place in found}

    @property
    def red(self) -> list[Place]:
        """What both looks call slower."""
        return [place for place, row in self.again.items() if row.word == "slower"]

    @property
    def exit_code(self) -> int:
        """0 green, 3 red, 4 where a level, or something that was doubted, could not be judged."""
        if self.red:
            return RED
        if self.second is None and self.first.exit_code:
            return self.first.exit_code
        judged = [row for row in self.again.values() if row.word is not None]
        unheard = len(judged) < len(self.doubted)
        return UNJUDGED if unheard or (self.second and self.second.silent) else GREEN

    def lines(self) -> Iterator[str]:
        """Yield what the gate says, for people."""
        yield f"gate: {COLOURS[self.exit_code]}: {self._why()}"
        for place, row in self.doubted.items():
            scenario, load, _ = place
            second = self.again.get(place)
            then = f"; then {_said(second)}" if self.second is not None else ""
            yield f"  {scenario}, {load.words}, {row.measure.title}: {_said(row)}{then}"

    def _why(self) -> str:
        silent = (self.second or self.first).silent
        if self.exit_code == UNJUDGED and silent:
            where = ", ".join(f"{one.scenario}, {one.load.words}" for one in silent)
            return f"nothing is red, but there is no word at all on {where}"
        if self.second is None:
            return "no word at all" if self.exit_code == UNJUDGED else "nothing is slower"
        return {
            RED: "slower in both looks, the second one on fresh seeds",
            UNJUDGED: "slower in the first look, and the second could not judge it",
            GREEN: "what the first look called slower, the second one, on fresh seeds, did not",
        }[self.exit_code]


def _place(level: LevelRows, row: Row) -> Place:
    return level.scenario, level.load, row.measure.name


def _said(row: Row | None) -> str:
    if row is None or row.effect is None:
        return "no figure"
    return f"{row.word or 'no word'} ({100 * row.effect.change:+.1f} %)"
