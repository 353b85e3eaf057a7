"""A server's /metrics, page after page: all that it says of itself, and what of it has changed.

Most lines of a page are those of the page before, with another number or the same. So a line is
read as text once; later its head, all but the number, is looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..records.beside.families import BEGINNINGS, SPELLINGS, STARTED, plain
from ..records.beside.labels import LABELS, labels_text
from .page import NAME, PageError, Sample, ServerPage, known, page_of, sample_of

MOST_SERIES = 100_000  # of one page, and in all; an engine has about three hundred


@dataclass(frozen=True, slots=True)
class Name:
    """What a series is called."""

    engine: str | None
    name: str
    labels: str  # without `engine`


@dataclass(frozen=True, slots=True)
class Reading:
    """What a page says, and the values that aren't those of the page before; None: gone."""

    page: ServerPage
    changes: dict[int, float | None]  # by the series' place in `PageReader.names`


class PageReader:
    """Reads the pages of one address in turn."""

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        """Prepare; `mask` takes secrets out of labels."""
        self.names: list[Name] = []
        self._mask = mask
        self._known: list[tuple[int, str, dict[str, str]]] = []  # series that are views' too
        self._by_head: dict[str, int] = {}
        self._by_key: dict[tuple[str, frozenset[tuple[str, str]]], int] = {}
        self._texts: list[str] = []
        self._values: list[float] = []
        self._turns: list[int] = []  # the last page that had the series
        self._turn = 0
        self._changes: dict[int, float | None] = {}  # since the last reading that was one

    def read(self, text: str) -> Reading:
        """Return what a page says. Raises PageError where it isn't a page of vLLM's metrics."""
        odd: list[str] = []
        self._take(text, odd)
        turns, turn = self._turns, self._turn
        there = [(n, of, self._values[i]) for i, n, of in self._known if turns[i] == turn]
        if odd and turn not in turns:
            raise PageError(f"not a page of Prometheus metrics: {odd[0]}")
        page = page_of(known((Sample(*one) for one in there), text, odd), odd)
        if not page.engines:
            raise PageError("it has none of vLLM's metrics")
        changes, self._changes = self._changes, {}
        return Reading(page, changes)

    def _take(self, text: str, odd: list[str]) -> None:
        self._turn += 1
        turn, by_head, texts, turns = self._turn, self._by_head, self._texts, self._turns
        for line in text.split("\n"):
            head, _, tail = line.rpartition(" ")
            place = by_head.get(head)
            if place is None:
                place, tail = self._found(line, odd)
                if place is None:
                    continue
            if turns[place] == turn:
                odd.append(line[:120])  # a second value
            elif texts[place] == tail and turns[place] == turn - 1:
                turns[place] = turn
            else:
                self._change(place, tail, line, odd)
        gone = [place for place, last in enumerate(turns) if last == turn - 1]
        self._changes.update(dict.fromkeys(gone))

    def _change(self, place: int, tail: str, line: str, odd: list[str]) -> None:
        try:
            value = float(tail)
        except ValueError:
            odd.append(line[:120])
            return
        # Compared as texts, since NaN isn't itself.
        same = repr(value) == repr(self._values[place]) and self._turns[place] == self._turn - 1
        self._texts[place], self._turns[place] = tail, self._turn
        if not same:
            self._values[place] = self._changes[place] = value

    def _found(self, line: str, odd: list[str]) -> tuple[int | None, str]:
        """Return the series on a line that isn't like an earlier one, and its value; else None."""
        begin = NAME.match(line) if line.startswith(BEGINNINGS) else None
        if begin is None or (begin.group().startswith(STARTED) and begin.group() != STARTED):
            return None, ""
        sample = sample_of(begin.group(), line, begin.end())
        place = self._place(sample) if sample else None
        if sample is None or place is None:
            odd.append(line[:120])
            return None, ""
        head, _, tail = line.rpartition(" ")
        labels = LABELS.match(line, begin.end())
        if len(head) != (labels or begin).end():  # a time or an exemplar is behind the value
            return place, repr(sample.value)
        if len(self._by_head) < 2 * MOST_SERIES:
            self._by_head[head] = place
        return place, tail

    def _place(self, sample: Sample) -> int | None:
        """Return the series' place in the list of all, where it may be put first; None: full."""
        name = plain(sample.name)
        key = (name, frozenset(sample.labels.items()))
        place = self._by_key.get(key)
        if place is None and len(self.names) < MOST_SERIES:
            place = self._by_key[key] = len(self.names)
            shown = {key: self._mask(value) for key, value in sample.labels.items()}
            engine = shown.pop("engine", None)
            self.names.append(Name(engine, sample.name, labels_text(shown)))
            self._texts.append("")
            self._values.append(0.0)
            self._turns.append(-1)
            if name in SPELLINGS:
                self._known.append((place, name, dict(sample.labels)))
        return place
