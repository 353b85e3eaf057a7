"""Doubts about the GPUs beside a run: watched throughout, and at full speed?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..figures.absent import observed
from ..figures.facts import Facts
from ..records.samples import slowed_by
from ..serverside.over_time import GPU_GAP_S
from .finding import Finding, Severity


def gpu_gap(facts: Facts) -> Finding | None:
    """A GPU wasn't read for a while, so means, peaks and energy lack a piece."""
    gaps = [gap for gap in observed(facts.info, "gpu").parts("gaps") if _matters(gap)]
    if not gaps:
        return None
    gpus = sorted({str(gap.get("gpu_index")) for gap in gaps})
    codes = sorted({str(gap.get("code")) for gap in gaps})
    return Finding(
        "gpu_gap",
        Severity.SUSPECT,
        f"no readings for over {GPU_GAP_S:g} s of GPU {', '.join(gpus)} ({', '.join(codes)})",
        "leave GPU figures and energy of this run out; look into the driver's log (dmesg, Xid) "
        "where a GPU was lost",
    )


def gpu_throttled(facts: Facts) -> Finding | None:
    """A GPU's clocks were held down inside the window."""
    rows = facts.gpu_rows
    if rows is None or facts.window is None:
        return None
    inside = rows[rows["t_s"].between(facts.window.start_s, facts.window.end_s)]
    told = [
        f"GPU {index} by {', '.join(f'{r} in {n}' for r, n in held.items())} of {len(own)} readings"
        for index, own in inside.groupby("gpu_index")
        if (held := _held(own["throttle_reasons"]))
    ]
    if not told:
        return None
    return Finding(
        "gpu_throttled",
        Severity.SUSPECT,
        f"clocks were held down: {'; '.join(told)}",
        "look at temperature and power limit (nvidia-smi -q -d PERFORMANCE); figures hold for "
        "this cooling and this limit alone",
    )


def _held(cells: Iterable[object]) -> Counter[str]:
    """Return in how many readings each reason slowed the GPU, the reasons in alphabetical order."""
    return Counter(sorted(reason for cell in cells for reason in slowed_by(cell)))


def _matters(gap: dict[str, Any]) -> bool:
    begin, end = gap.get("from_s"), gap.get("to_s")
    if not isinstance(begin, int | float) or not isinstance(end, int | float):
        return True  # it never came, or never came back
    return end - begin > GPU_GAP_S
