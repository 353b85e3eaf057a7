"""How to run a report's scenarios again: settings as a file, and the lines to paste."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..records.run_info import RunInfo
from ..records.same_run import as_given
from ..records.text import printable
from ..scenario.scenario import KNOWN_KEYS
from ..scenario.secrets import MASK
from ..scenario.yaml_file import write_yaml
from .levels import Series
from .series_names import slug


@dataclass(frozen=True, slots=True)
class Again:
    """A scenario file's name and text, the commands, and the masked values to put in by hand."""

    file: str
    text: str
    commands: tuple[str, ...]
    masked: bool


def again(series: Series, name: str) -> Again | None:
    """Return how to repeat a named series' runs; None where its settings were not kept."""
    run = next((r for r in series.runs if r.info is not None), None)
    if run is None or run.info is None:
        return None
    file = f"{slug(name)}.yaml"
    text = scenario_yaml(run.plan("whole") or run.info.scenario)
    return Again(file, text, tuple(_commands(run.scenario, run.info, file)), MASK in text)


def _commands(scenario: str, info: RunInfo, file: str) -> list[str]:
    commit = info.client.get("git_commit")
    checkout = [["git", "checkout", str(commit)]] if commit else []
    telemetry = ["--telemetry"] if info.observed.get("gpu") else []
    alone = ["--alone"] if info.plan.get("alone") else []
    flags = ["--scenarios", file, "--name", scenario]
    bench = ["python", "bench/bench.py", *flags, *telemetry, *alone]
    lines = [*checkout, bench, ["python", "bench/report.py"]]
    return [printable(shlex.join(line), 2000) for line in lines]


def scenario_yaml(settings: Mapping[str, Any]) -> str:
    """Return a run's settings, secrets masked, as a scenario file; keys not set are left out."""
    kept = {key: as_given(settings.get(key)) for key in KNOWN_KEYS}
    body = {key: value for key, value in kept.items() if value not in (None, {}, [], "")}
    whole = {"scenarios": {str(settings.get("name", "scenario")): body}}
    return write_yaml(whole)
