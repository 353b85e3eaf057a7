"""Stamps that were taken every few seconds, and the requests that came in between.

Mooncake's conversation trace has 1,180 stamps, three seconds apart, for 12,031 requests. Sent by
them, up to 28 requests would come at one instant, and never did. Each is put at a drawn time of its
step; the draw is the same in every run.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Sequence

from ..prompts.order import derive_seed
from .rows import Row

FEWEST_STAMPS = 20  # from which on a habit can be told from chance
CROWD = 2  # requests a stamp, on average: of independent users nearly all have a stamp alone
SHORTEST_NS = 10**9  # of a step


def spread(rows: Sequence[Row]) -> tuple[list[Row], str | None]:
    """Return rows that are sorted by time, spread over their steps, and a note; None: no steps."""
    stamps = sorted({row.at_ns for row in rows})
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    if len(stamps) < FEWEST_STAMPS or len(rows) < CROWD * len(stamps):
        return list(rows), None
    step = statistics.median_low(gaps)
    if step < SHORTEST_NS:
        return list(rows), None
    length = dict(zip(stamps, [*(min(gap, step) for gap in gaps), step], strict=True))
    draw = random.Random(derive_seed(0, "steps of a trace"))
    made = [row._replace(at_ns=row.at_ns + int(draw.random() * length[row.at_ns])) for row in rows]
    made.sort(key=lambda row: row.at_ns)
    return made, (
        f"{len(stamps):,} stamps for {len(rows):,} requests: each is sent at a drawn time within "
        f"its step of {step / 1e9:.3g} s"
    )
