"""All planted cases, in the table's order."""

from __future__ import annotations

from .healthy import HEALTHY
from .situation import Situation
from .wrong import WRONG

SITUATIONS: tuple[Situation, ...] = (*HEALTHY, *WRONG)
