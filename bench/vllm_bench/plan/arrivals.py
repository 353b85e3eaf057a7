"""When each request of an open loop is meant to go. Pure: no clock, no sleep, no file.

A schedule is drawn in requests, not in seconds: its gaps have a mean of one request, and the
rate turns them into seconds. A ramp is then a change of the time's scale alone, and one more
request or one more second never changes those that came before.

Only `Random.random()` is used (see prompt_order), and every gap is an inverse distribution
function of one such number. The last bit of a logarithm depends on the C library: two machines may
differ in it, and the schedule's hash shows that.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence

from ..scenario.load_keys import Arrivals, ArrivalShape

GAMMA_CHUNK = 4096  # gaps drawn at once: the quantile costs far less in an array


def arrival_times(
    arrivals: Arrivals, *, seed: int, count: int | None = None, duration_s: float | None = None
) -> array[float]:
    """Return the times of `count` requests, or of those before `duration_s`, ascending.

    Seconds from the start, as drawn: not rescaled to the exact rate. Exactly one of the two
    limits must be given. Raises ValueError.
    """
    times = map(arrivals.seconds, _PLACES[arrivals.shape](arrivals, random.Random(seed).random))
    if count is not None and duration_s is None and count >= 0:
        return array("d", itertools.islice(times, count))
    if duration_s is not None and count is None and 0 < duration_s < math.inf:
        return array("d", itertools.takewhile(lambda time: time < duration_s, times))
    raise ValueError(
        f"exactly one of count (0 or more) and duration_s (above 0) must be given, not"
        f" count={count} and duration_s={duration_s}"
    )


# Each yields, endlessly, places on a line on which requests are one apart on average.
Random = Callable[[], float]


def _constant(_arrivals: Arrivals, _random: Random) -> Iterator[float]:
    return map(float, itertools.count())  # counted, not summed: no rounding adds up


def _bursts(arrivals: Arrivals, _random: Random) -> Iterator[float]:
    size = arrivals.burst_size or 1
    return (float(number - number % size) for number in itertools.count())


def _poisson(_arrivals: Arrivals, random: Random) -> Iterator[float]:
    log1p = math.log1p
    return itertools.accumulate(-log1p(-random()) for _ in itertools.repeat(None))


def _gamma(arrivals: Arrivals, random: Random) -> Iterator[float]:
    return itertools.accumulate(_gamma_gaps(arrivals.cv or 1.0, random))


def _gamma_gaps(cv: float, random: Random) -> Iterator[float]:
    """Yield gaps of mean 1: of shape 1/cv² and scale cv²."""
    # The function behind scipy.stats.gamma.ppf; importing scipy.stats takes a second.
    from scipy.special import gammaincinv

    shape = 1 / cv**2
    while True:
        drawn = [random() for _ in range(GAMMA_CHUNK)]
        yield from (gammaincinv(shape, drawn) / shape).tolist()


_PLACES: dict[ArrivalShape, Callable[[Arrivals, Random], Iterator[float]]] = {
    "constant": _constant,
    "poisson": _poisson,
    "gamma": _gamma,
    "bursts": _bursts,
}


def realised(times: Sequence[float]) -> tuple[float | None, float | None]:
    """Return a schedule's real rate and the real coefficient of variation of its gaps.

    The rate, in requests per second, is the number of requests before the last instant / the time
    to it: 1 / the mean gap, except that a burst at the end isn't counted, since its pause is
    missing. Both are None where there is no gap, or where all requests go at once.
    """
    import numpy as np

    ordered = np.asarray(times, dtype=float)
    gaps = np.diff(ordered)
    mean = float(gaps.mean()) if len(gaps) else 0.0
    if mean <= 0:
        return None, None
    before = int(np.searchsorted(ordered, ordered[-1]))
    return before / float(ordered[-1] - ordered[0]), float(gaps.std()) / mean


def schedule_sha256(times: Sequence[float]) -> str:
    """Return the sha256 over the times' doubles, big-endian: equal schedules have equal hashes."""
    doubles = array("d", times)
    if sys.byteorder == "little":
        doubles.byteswap()
    return hashlib.sha256(doubles).hexdigest()
