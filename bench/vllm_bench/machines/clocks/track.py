"""How a machine's clock has gone against ours, ping after ping. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from .line import EVERY_NS, WINDOW, Line, Ping, nearest, through


class _Stretch:
    """A time in which neither clock was set: one line, which bends slowly."""

    def __init__(self, first: Ping) -> None:
        self.since_ns = first.theirs_ns
        self.fresh = first  # which tells most about now
        self.line = nearest([first], first.at_ns)
        self._points = [first]  # the fastest of each ten seconds
        self._begun_ns = first.at_ns  # the last ten
        self._old: dict[int, Line] = {}

    def error_ns(self, at_ns: int, *further: Ping) -> float:
        """Return how wrong the line can be at an instant."""
        return min(
            self.line.miss_ns(one) + one.bound_ns(at_ns) for one in (*self._known(), *further)
        )

    def broken_by(self, now: Ping) -> bool:
        """Whether a ping can't be true if the line is: a clock was set, or stood still."""
        return self.line.miss_ns(now) > now.half_ns + self.error_ns(now.at_ns)

    def add(self, now: Ping) -> None:
        if now.half_ns <= self.fresh.bound_ns(now.at_ns):
            self.fresh = now
        if self._is_point(now):
            self.line = through(self._points[-WINDOW:], now.at_ns)
        if self.line.drift is None:
            self.line = nearest(self._known(), now.at_ns)

    def _is_point(self, now: Ping) -> bool:
        """Keep a ping that is the fastest of its ten seconds so far."""
        if now.at_ns - self._begun_ns >= EVERY_NS:
            self._begun_ns = now.at_ns
            self._points.append(now)
        elif now.half_ns < self._points[-1].half_ns:
            self._points[-1] = now
        else:
            return False
        return True

    def _known(self) -> list[Ping]:
        return [*self._points[-WINDOW:], self.fresh]

    def line_at(self, theirs_ns: int) -> Line:
        """Return the line near an instant of their clock."""
        place = bisect_right(self._points, theirs_ns, key=lambda point: point.theirs_ns)
        if place + WINDOW // 2 >= len(self._points):
            drifts = self.line.drift is not None
            return self.line if drifts else nearest(self._known(), self.line.ours(theirs_ns))
        if place not in self._old:
            begin = max(0, place - WINDOW // 2)
            around = self._points[begin : begin + WINDOW]
            self._old[place] = through(around, self.line.ours(theirs_ns))
        return self._old[place]


class Track:
    """A machine's clock: fed with pings, asked for instants."""

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self._worst_ns = 0.0

    @property
    def known(self) -> bool:
        """Whether any ping was answered: before that, nothing can be asked."""
        return bool(self._stretches)

    @property
    def line(self) -> Line:
        """The newest line."""
        return self._stretches[-1].line

    def add(self, now: Ping) -> None:
        """Take a ping, in the order of their times."""
        last = self._stretches[-1] if self._stretches else None
        if last is None or last.broken_by(now):
            error_ns: float = now.half_ns + (last.line.miss_ns(now) if last else 0)
            self._stretches.append(_Stretch(now))
        else:
            error_ns = last.error_ns(now.at_ns, now)  # of the line that was used until now
            last.add(now)
        self._worst_ns = max(self._worst_ns, error_ns)

    def begin(self, now_ns: int) -> None:
        """Forget how wrong it was until now."""
        self._worst_ns = self._stretches[-1].error_ns(now_ns)

    def error_ns(self, now_ns: int) -> float:
        """Return the most that an instant since `begin` can be wrong by."""
        return max(self._worst_ns, self._stretches[-1].error_ns(now_ns))

    def theirs(self, ours_ns: int) -> int:
        """Return an instant of our clock, near now, by theirs."""
        last = self._stretches[-1]
        return ours_ns + last.line_at(ours_ns + last.line.offset_at(ours_ns)).offset_at(ours_ns)

    def ours(self, theirs_ns: int) -> int:
        """Return an instant of their clock by ours."""
        return self._of(theirs_ns).line_at(theirs_ns).ours(theirs_ns)

    def stretch(self, theirs_ns: int) -> int:
        """Return when the stretch of an instant of their clock began, by that clock."""
        return self._of(theirs_ns).since_ns

    def _of(self, theirs_ns: int) -> _Stretch:
        """Return the last stretch that had begun by an instant of their clock."""
        stretches: Iterable[_Stretch] = reversed(self._stretches)
        return next((s for s in stretches if s.since_ns <= theirs_ns), self._stretches[0])
