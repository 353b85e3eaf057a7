"""What the samplers of a run noted of themselves: `observed` in its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vllm_bench.records.run_info import RunInfo

from ..records.text import printable
from .absent import Why

Sampler = Literal["gpu", "server_metrics"]


@dataclass(frozen=True, slots=True)
class Observed:
    """One sampler's account of itself. Damaged parts of it are left out."""

    noted: dict[str, Any]

    def parts(self, key: str) -> list[dict[str, Any]]:
        """Return a list of mappings, as `problems`, `gaps` and `gpus` are."""
        found = self.noted.get(key)
        return [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []

    def problem(self, *codes: str) -> str | None:
        """Return the text of the first problem with one of these codes; without any, the last."""
        found = [p for p in self.parts("problems") if not codes or p.get("code") in codes]
        return printable(found[0 if codes else -1].get("text")) if found else None

    @property
    def sampled(self) -> bool:
        """Whether the sampler ran at all."""
        return "source" in self.noted or "rows" in self.noted


def observed(info: RunInfo | None, sampler: Sampler) -> Observed:
    """Return what a sampler of a run noted; nothing where it didn't run."""
    found = info.observed.get(sampler) if info and isinstance(info.observed, dict) else None
    return Observed(found if isinstance(found, dict) else {})


def why_no_rows(info: RunInfo | None, sampler: Sampler, what: str) -> Why:
    """Return why a run has no rows of a sampler; `what` names them, as `GPUs`."""
    found = observed(info, sampler)
    if found.sampled and found.noted.get("rows"):
        return Why(f"{printable(found.noted.get('file', 'their file'))} is not beside the rows")
    return Why(found.problem() or f"{what} were not sampled in this run")
