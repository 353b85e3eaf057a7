"""What is asked of a run's JSON again and again, where there is one."""

from __future__ import annotations

from typing import Any

from .run_info import RunInfo


class OfRun:
    """What the JSON of a run says; None where it isn't known."""

    __slots__ = ()
    info: RunInfo | None

    def setting(self, key: str) -> Any:
        return self.info.scenario.get(key) if self.info else None

    def server(self, key: str) -> Any:
        return self.info.server.get(key) if self.info else None

    def plan(self, key: str) -> Any:
        return self.info.plan.get(key) if self.info else None

    def plan_number(self, key: str) -> float | None:
        value = self.plan(key)
        return None if value is None else float(value)

    @property
    def simulated(self) -> bool:
        return bool(self.server("simulator"))
