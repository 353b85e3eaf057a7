"""Columns of summary.csv about what was sampled beside a run: server, GPUs, energy, cost.

Names and meanings come from the types that hold the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..figures.absent import docs_of, joined
from ..serverside.energy import Cost, Energy
from ..serverside.gpu import GpuSide
from ..serverside.server import ServerSide
from ..summary.summary import RunSummary
from .summary_column import SummaryColumn


class Part(Protocol):
    """A group of figures of a summary, and why some of them are missing."""

    @property
    def absent(self) -> Mapping[str, str]:
        """Why each figure that is None is."""


def _columns(
    part: Callable[[RunSummary], Part], kind: type[Any], prefix: str, *more: SummaryColumn
) -> list[SummaryColumn]:
    """Return a column for each figure of a part, `more`, and one for why some are missing."""
    return [
        *(
            SummaryColumn(_named(prefix, name), doc, lambda s, n=name: getattr(part(s), n))  # type: ignore[misc]
            for name, doc in docs_of(kind)
        ),
        *more,
        SummaryColumn(
            f"{prefix}_absent",
            "why any of these figures is missing",
            lambda s: joined(part(s).absent.values()) or None,
        ),
    ]


def _named(prefix: str, figure: str) -> str:
    """Return a column's name: what begins with its part's name, or the client's, keeps it."""
    return figure if figure.startswith((prefix, "client", "output")) else f"{prefix}_{figure}"


BESIDE_COLUMNS: tuple[SummaryColumn, ...] = (
    *_columns(lambda s: s.server_side, ServerSide, "server"),
    *_columns(
        lambda s: s.gpu_side,
        GpuSide,
        "gpu",
        SummaryColumn(
            "gpu_throttled_by",
            "what held the clocks down, and of which GPUs",
            lambda s: s.gpu_side.throttled_by,
        ),
    ),
    *_columns(lambda s: s.energy, Energy, "energy"),
    *_columns(lambda s: s.cost, Cost, "cost"),
)
