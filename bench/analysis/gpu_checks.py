"""Doubts about the GPUs beside a run: watched throughout, and at full speed?"""

from __future__ import annotations

from collections import Counter
from typing import Any

from . import thresholds
from .facts import Facts
from .finding import Finding, Severity
from .gpu_rows import slowed_by
from .observed import observed


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
        f"no readings for over {thresholds.GPU_GAP_S:g} s of GPU {', '.join(gpus)} "
        f"({', '.join(codes)})",
        "leave GPU figures and energy of this run out; look into the driver's log (dmesg, Xid) "
        "where a GPU was lost",
    )


def gpu_throttled(facts: Facts) -> Finding | None:
    """A GPU's clocks were held down inside the window."""
    rows = facts.gpu_rows
    if rows is None or facts.window is None:
        return None
    inside = rows[rows["t_s"].between(facts.window.start_s, facts.window.end_s)]
    held: Counter[str] = Counter()
    gpus = set()
    for index, reasons in zip(inside["gpu_index"], inside["throttle_reasons"], strict=True):
        names = slowed_by(reasons)
        held.update(names)
        gpus |= {int(index)} if names else set()
    if not held:
        return None
    told = ", ".join(f"{name} in {count} of {len(inside)} rows" for name, count in held.items())
    return Finding(
        "gpu_throttled",
        Severity.SUSPECT,
        f"clocks of GPU {', '.join(map(str, sorted(gpus)))} were held down: {told}",
        "look at temperature and power limit (nvidia-smi -q -d PERFORMANCE); figures hold for "
        "this cooling and this limit alone",
    )


def _matters(gap: dict[str, Any]) -> bool:
    begin, end = gap.get("from_s"), gap.get("to_s")
    if not isinstance(begin, int | float) or not isinstance(end, int | float):
        return True  # it never came, or never came back
    return end - begin > thresholds.GPU_GAP_S
