"""docs/TUNING.md and docs/jobs/SETTINGS.md: what they give to paste can be pasted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from vllm_bench.env_file import parse_env
from vllm_bench.launcher import problem_with
from vllm_bench.scenario.scenario import load_scenarios
from vllm_bench.scenario.yaml_file import parse_yaml
from vllm_bench.tuning.configurations import configurations, experiments_of, read_raw

ROOT = Path(__file__).resolve().parents[2]
TUNING = (ROOT / "docs" / "TUNING.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "jobs" / "SETTINGS.md").read_text(encoding="utf-8")
KNOBS = dict(
    re.findall(r"^### `?(.+?)`?\n(.*?)(?=^##)", TUNING.split("## What to turn")[1], re.M | re.S)
)
BLOCKS = re.findall(r"```yaml\n(.*?)```", TUNING + SETTINGS, re.DOTALL)
SCENARIOS = load_scenarios(ROOT / "bench" / "scenarios.yaml")


def last_block(text: str) -> list[str]:
    found = re.search(r"```bash\n(.*)\n```\s*$", text, re.DOTALL)
    assert found, text[-200:]
    return found[1].splitlines()


def words_after(flag: str, words: list[str]) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == flag]


def test_each_flag_of_the_table_has_its_section() -> None:
    flags = {*re.findall(r"^\| `[A-Z_]+` \| `(--[\w-]+)`", TUNING, re.M)}
    assert len(flags) == 10
    assert flags - {*KNOBS} == {"--no-enable-prefix-caching"}


@pytest.mark.parametrize("knob", KNOBS)
def test_each_section_ends_with_two_lines_that_measure_it(knob: str) -> None:
    tune, ab = last_block(KNOBS[knob])
    make = dict(word.split("=", 1) for word in shlex.split(tune) if "=" in word)
    assert tune.startswith("make tune ")
    assert make["NAME"] in SCENARIOS
    axes = {}
    for axis in words_after("--axis", shlex.split(make["ARGS"])):
        name, _, values = axis.partition("=")
        axes[name] = values.split(",")
    found = configurations(experiments_of({"scenario": "s", "axes": axes}, "page"))
    assert len(found) > 1
    (echoed,) = re.findall(r"echo '(.*?)'\) > b\.env; make ab A=\.env B=b\.env NAME=(\w+)$", ab)
    assert echoed[1] == make["NAME"]
    ((variable, value),) = parse_env(echoed[0]).items()
    assert variable in axes
    assert value in axes[variable]
    assert problem_with(variable, value) is None


@pytest.mark.parametrize("text", [text for text in BLOCKS if "scenario:" in text])
def test_an_example_of_experiments_can_be_pasted(text: str) -> None:
    asked = experiments_of(parse_yaml(text), "page")
    for one in configurations(asked):
        for name, value in one.settings.items():
            assert not value or problem_with(name, value) is None


def test_the_example_in_the_repository_is_whole() -> None:
    asked = experiments_of(read_raw(ROOT / "examples" / "tune.yaml"), "example")
    assert len(configurations(asked)) == 4
    assert asked.scenarios is not None
    assert asked.scenario in load_scenarios(ROOT / "examples" / asked.scenarios)
