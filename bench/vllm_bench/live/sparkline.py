"""Values as a row of little bars, a character each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"


def sparkline(
    values: Sequence[float | None], width: int, *, blocks: str = BLOCKS, top: float | None = None
) -> str:
    """Return the last `width` values, the newest at the right; a blank where there is none.

    The lowest bar is 0, the highest is `top`, or the greatest value shown: bars from the least
    value up would make noise look like news.
    """
    shown = values[-width:] if width > 0 else ()
    greatest = max((v for v in shown if v is not None), default=0.0)
    scale = greatest if top is None else max(top, greatest)
    last = len(blocks) - 1
    per_bar = len(blocks) / scale if scale > 0 else 0.0
    return "".join(" " if v is None else blocks[min(last, int(v * per_bar))] for v in shown)
