"""Which requests of an open loop waited because as many as allowed were in flight already.

The rows don't say so; the rest of them does. A request waited for the cap when it was late, and
the cap was reached at some moment between when it was meant to go and when it went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .in_flight import SEND_LAG_FLOOR_MS, in_flight

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def waited_for_cap(frame: pd.DataFrame, cap: int, processes: int) -> NDArray[np.bool_]:
    """Return, a row each, whether a request waited for the cap by more than a client's usual lag.

    Sending processes share the cap evenly, as `loadgen.crew` deals it out, and number their
    connections in turns: a request can wait for its own process' share while others have room.
    """
    due = frame["t_scheduled_s"].to_numpy(dtype="float64")
    gone = frame["t_sent_s"].fillna(frame["t_end_s"]).to_numpy(dtype="float64")
    process = frame["stream_index"].to_numpy(dtype="int64") % processes
    waited: NDArray[np.bool_] = 1000 * (gone - due) > SEND_LAG_FLOOR_MS
    for number in range(processes):
        mine = process == number
        share = len(range(number, cap, processes))
        flight = in_flight(frame.loc[mine])
        begins, ends = flight.stretches(share) if flight else (np.array([]), np.array([]))
        # The first stretch at the cap that ends after a request was due: it must begin before
        # the request went.
        place = np.searchsorted(ends, due[mine], side="right")
        begin = np.append(begins, np.inf)[place]
        waited[mine] &= begin < gone[mine]
    return waited
