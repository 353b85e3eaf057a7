"""What went wrong with a sampler, and from when to when nothing was read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should know of the samples: a code, and one line that says it."""

    code: str
    text: str
    gpu_index: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without readings of one GPU or server, from the last to the next one."""

    key: object  # the GPU's index
    from_s: float | None  # None: there was no reading before
    to_s: float | None  # None: it never came back
    code: str

    def facts(self, zero_s: float) -> dict[str, object]:
        """Return the gap on the clock of the run, for its JSON."""
        ends = {"from_s": self.from_s, "to_s": self.to_s}
        placed = {k: None if t_s is None else round(t_s - zero_s, 6) for k, t_s in ends.items()}
        return {**placed, "code": self.code}


class GapLog:
    """Notes readings as they come, and finds the gaps between them."""

    def __init__(self, limit_s: float) -> None:
        """Call it a gap where two readings are more than `limit_s` apart, whatever the cause."""
        self.limit_s = limit_s
        self._last: dict[object, float] = {}
        self._missing: dict[object, str] = {}  # why there is none just now
        self._gaps: list[Gap] = []

    def seen(self, key: object, t_s: float) -> None:
        """Note a reading."""
        code = self._missing.pop(key, None)
        last_s = self._last.get(key)
        if code or (last_s is not None and t_s - last_s > self.limit_s):
            self._gaps.append(Gap(key, last_s, t_s, code or "late"))
        self._last[key] = t_s

    def missed(self, key: object, code: str) -> None:
        """Note that there is no reading, and why; the first cause stands."""
        self._missing.setdefault(key, code)

    def until(self, t_s: float) -> list[Gap]:
        """Return all gaps up to the end of the sampling, those that are still open included."""
        late = {k: "late" for k, last_s in self._last.items() if t_s - last_s > self.limit_s}
        still = {**late, **self._missing}
        return [*self._gaps, *(Gap(k, self._last.get(k), None, code) for k, code in still.items())]
