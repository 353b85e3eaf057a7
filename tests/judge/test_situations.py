"""The list of cases: enough, half of them healthy, each with settings that are taken."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sim.faults import read_faults
from vllm_bench.planted.inputs import ALIKE, FEW, GROWING, MANY, write_inputs
from vllm_bench.planted.play import DEFAULTS, MEASURED
from vllm_bench.planted.situation import Setup, Situation
from vllm_bench.planted.situations import SITUATIONS
from vllm_bench.prompts.own.files import read_prompt_file
from vllm_bench.scenario.scenario import Scenario
from vllm_bench.traces.rows import read_rows

ROOT = Path(__file__).resolve().parents[2]
METHOD = (ROOT / "docs" / "METHOD.md").read_text(encoding="utf-8")
NAMES = [situation.name for situation in SITUATIONS]


def test_there_are_thirty_and_half_of_them_are_healthy() -> None:
    healthy = sum(situation.healthy for situation in SITUATIONS)
    assert len(set(NAMES)) == len(NAMES) >= 30
    assert 0.4 <= healthy / len(NAMES) <= 0.6


@pytest.mark.parametrize("situation", SITUATIONS, ids=NAMES)
def test_its_scenarios_are_taken_and_its_faults_exist(situation: Situation) -> None:
    for setup in filter(None, (situation.setup, situation.meant)):
        Scenario.model_validate({"name": "x", **DEFAULTS, **setup.scenario})
        read_faults(faults_of(setup))


def faults_of(setup: Setup) -> str:
    return setup.server.partition("--faults ")[2].partition(" --")[0]


@pytest.mark.parametrize("situation", SITUATIONS, ids=NAMES)
def test_its_figures_are_known_and_its_truth_is_named(situation: Situation) -> None:
    assert set(situation.figures) <= {*MEASURED, "tokens/s"}
    assert (situation.meant is None) == (
        situation.truth == Situation("", "", situation.setup).truth
    )


def test_the_page_has_a_row_for_each_and_each_is_right() -> None:
    table = METHOD.split("<!-- planted: ")[1].split("<!-- /planted -->")[0]
    rows = re.findall(r"^\| (.+?) \| .+ \| (yes|\*\*no\*\*) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == NAMES
    assert {right for _, right in rows} == {"yes"}


def test_inputs_are_what_their_names_say(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    texts = {
        name: [prompt.text.split() for prompt in read_prompt_file(tmp_path / name).prompts]
        for name in (MANY, FEW, ALIKE)
    }
    assert len(set(map(tuple, texts[MANY]))) == len(texts[MANY]) >= 1000
    assert len(texts[FEW]) == 16
    same = sum(len(set(column)) == 1 for column in zip(*texts[ALIKE], strict=True))
    assert 0.93 <= same / len(texts[ALIKE][0]) <= 0.95
    kind, rows = read_rows(tmp_path / GROWING)
    sizes = [row.prompt_tokens or 0 for row in rows]
    assert kind == "azure"
    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(3 * sizes[0], rel=0.02)


@pytest.mark.process
def test_the_flags_of_each_server_are_the_simulators() -> None:
    listed = subprocess.run(
        [sys.executable, str(ROOT / "server" / "simulator.py"), "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    known = set(re.findall(r"--[a-z-]+", listed))
    for situation in SITUATIONS:
        assert set(re.findall(r"--[a-z-]+", situation.setup.server)) <= known
