"""How to run a report's scenarios again: settings as a file, and the lines to paste."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ..records.run_info import RunInfo
from ..records.text import printable
from ..scenario.scenario import scenario_yaml
from ..scenario.secrets import MASK
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
    text = scenario_yaml(run.info.scenario)
    return Again(file, text, tuple(_commands(run.scenario, run.info, file)), MASK in text)


def _commands(scenario: str, info: RunInfo, file: str) -> list[str]:
    commit = info.client.get("git_commit")
    checkout = [["git", "checkout", str(commit)]] if commit else []
    telemetry = ["--telemetry"] if info.observed.get("gpu") else []
    bench = ["python", "bench/bench.py", "--scenarios", file, "--name", scenario, *telemetry]
    lines = [*checkout, bench, ["python", "bench/report.py"]]
    return [printable(shlex.join(line), 2000) for line in lines]
