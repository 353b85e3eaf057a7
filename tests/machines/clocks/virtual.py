"""A machine whose clock is known, and a way to it with queues: all of it by calculation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vllm_bench.machines.clocks.line import Ping, ping

S = 1_000_000_000
US = 1_000


@dataclass(frozen=True)
class Way:
    """How long a message takes in each direction: a least time, and queues now and then."""

    out_ns: int = 20 * US
    back_ns: int = 20 * US
    queue_ns: int = 0  # on average, where there is one
    queued: float = 0.0  # the share of messages that meet one
    one_sided: bool = False  # on the way back alone
    lost: float = 0.0  # the share of pings without an answer

    def trip(self, chance: random.Random) -> tuple[int, int]:
        out_ns = self.out_ns + (0 if self.one_sided else self._waits(chance))
        return out_ns, self.back_ns + self._waits(chance)

    def _waits(self, chance: random.Random) -> int:
        if not self.queue_ns or chance.random() >= self.queued:
            return 0
        return round(chance.expovariate(1 / self.queue_ns))


def pings(
    theirs: Callable[[int], int],
    way: Way,
    seed: int,
    seconds: float,
    begin_ns: int = 5_000 * S,
    every_ns: int = 300_000_000,
) -> Iterator[Ping]:
    """Yield the answers to regular pings; `theirs` tells that clock at an instant of ours."""
    chance, now_ns = random.Random(seed), begin_ns
    while now_ns < begin_ns + seconds * S:
        out_ns, back_ns = way.trip(chance)
        if chance.random() >= way.lost:
            yield ping(now_ns, theirs(now_ns + out_ns), now_ns + out_ns + back_ns)
        now_ns += max(every_ns, out_ns + back_ns)


def crystal(offset_ns: int, ppm: float, since_ns: int = 5_000 * S) -> Callable[[int], int]:
    """Return a clock that was ahead by so much, and gains so much since then."""
    return lambda ours_ns: ours_ns + offset_ns + round((ours_ns - since_ns) * ppm / 1e6)
