"""What the documents name exists, and what exists is named: verbs, flags, keys, columns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic_core import PydanticUndefinedType
from vllm_bench.scenario.scenario import KNOWN_KEYS, Scenario, load_scenarios

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FILES = (ROOT / "docs" / "FILES.md").read_text()
SCENARIOS = (ROOT / "docs" / "SCENARIOS.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
}
VERBS = set(re.findall(r"^([a-z][a-z-]*):.*##", MAKEFILE, re.MULTILINE))
SCRIPTS = {
    "bench/bench.py",
    "bench/summarize.py",
    "bench/plot.py",
    "bench/report.py",
    "bench/runs.py",
    "bench/compare.py",
    "bench/ab.py",
    "bench/capacity.py",
    "bench/calibrate.py",
    "bench/observe_gpu.py",
    "bench/load_real_prompts.py",
    "inspect_prompts.py",
}


def flags_of(script: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=True
    )
    listed = done.stdout.partition("options:")[2]
    return set(re.findall(r"--[a-z][a-z-]*", listed)) - {"--help"}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 180


def test_every_verb_is_named_and_every_named_verb_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", README))
    assert named <= VERBS | {"help"}
    assert named >= VERBS - {"help"}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_verb_of_every_page_exists(page: str) -> None:
    named = set(re.findall(r"`make ([a-z][a-z-]*)", PAGES[page]))
    assert named <= VERBS | {"help"}


ROWS = re.findall(r"^\| `([a-z_]+)` \| (.+?) \| .+ \| `(.+)` \|$", SCENARIOS, re.MULTILINE)
OF_SESSIONS: dict[str, object] = {"trace": "sessions", "concurrencies": [1]}
# What an example needs beside itself to be a whole scenario.
BESIDE: dict[str, dict[str, object]] = {
    "arrival": {"request_rates": [2], "num_requests": 1},
    "cv": {"request_rates": [2], "num_requests": 1, "arrival": "gamma"},
    "burst_size": {"request_rates": [2], "num_requests": 1, "arrival": "bursts"},
    "ramp_s": {"request_rates": [2], "num_requests": 1},
    "duration_s": {"concurrencies": [2]},
    "max_in_flight": {"request_rates": [2], "num_requests": 1},
    "request_rates": {"num_requests": 1},
    "trace": {},
    "prefix": {"concurrencies": [1], "num_requests": 1, "prefill_tokens": 2560},
    "classes": {"request_rates": [2], "num_requests": 9},
    "quality": {"concurrencies": [2]},
    "speed": {"trace": "azure.csv"},
    **dict.fromkeys(("history", "max_gap_s", "depth", "length_divisor"), OF_SESSIONS),
    "tool_choice": {
        **{"concurrencies": [1], "num_requests": 1},
        "tools": [{"type": "function", "function": {"name": "look_up"}}],
    },
}
CLOSED: dict[str, object] = {"concurrencies": [1], "num_requests": 1}


def test_every_scenario_key_has_one_row_and_every_row_a_key() -> None:
    assert sorted(key for key, _, _ in ROWS) == sorted(KNOWN_KEYS)


@pytest.mark.parametrize(("key", "default", "example"), ROWS, ids=[row[0] for row in ROWS])
def test_an_example_is_taken_and_a_default_is_the_models(
    key: str, default: str, example: str
) -> None:
    given = yaml.safe_load(example)
    assert list(given) == [key]
    whole = {"model": "m", "max_new_tokens": 8, **BESIDE.get(key, CLOSED), **given}
    scenario = Scenario.model_validate({"name": "x", **whole})
    field = Scenario.model_fields[key]
    assert getattr(scenario, key) != field.get_default(call_default_factory=True)
    if field.is_required():
        assert default == "required"
    elif field.default and not isinstance(field.default, PydanticUndefinedType):
        assert yaml.safe_load(default.strip("`")) == field.default


def test_every_variable_of_the_template_is_named_and_the_reverse() -> None:
    template = (ROOT / ".env.example").read_text()
    known = set(re.findall(r"^#?([A-Z][A-Z_]+)=", template, re.MULTILINE))
    table = README.split("## Start the server")[1].split("## ")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", table))
    assert named == known


@pytest.mark.process
@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_flag_that_a_page_gives_a_script_exists(script: str) -> None:
    known = flags_of(script)
    name = re.escape(script)
    for page, text in PAGES.items():
        for line in re.findall(rf"python {name}([^\n`]*)", text):
            assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line)) <= known, (page, line)


@pytest.mark.process
@pytest.mark.parametrize("script", ["bench/bench.py"])
def test_every_flag_of_the_main_script_is_in_the_readme(script: str) -> None:
    assert {flag for flag in flags_of(script) if f"`{flag}" not in README} == set()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", PAGES[page])
    for target in (a or b for a, b in links):
        path, _, place = target.partition("#")
        if path.startswith("http"):
            continue
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        assert not place or place in places(there.read_text()), target


def places(text: str) -> set[str]:
    """The names by which a page's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.process
def test_every_column_is_explained_and_every_explained_column_exists() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "summarize.py"), "--columns"],
        capture_output=True,
        text=True,
        check=True,
    )
    of_runs = FILES.partition("\n## `summary.json`")[0]  # the files after it have their own tables
    explained = re.findall(r"^\| `([a-z0-9_.]+)` \| (.*) \|$", of_runs, re.MULTILINE)
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    known = [tuple(re.split(r"\s{2,}", line, maxsplit=1)) for line in lines]
    names = {name for name, _ in known}
    assert [row for row in explained if not behind_another(row[0], names)] == [
        row for row in known if not behind_another(row[0], names)
    ]


def behind_another(column: str, names: set[str]) -> bool:
    """Whether it is one of three that a page explains once, for all figures of a level."""
    figure, _, what = column.rpartition("_")
    assert all(f"| `…_{suffix}` |" in FILES for suffix in ("low", "high", "runs"))
    return what in ("low", "high", "runs") and figure in names


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_script_is_named(script: str) -> None:
    assert script in README


def test_no_page_names_a_machine_or_a_registry() -> None:
    for name, text in PAGES.items():
        assert not re.search(r"(?<![\w./])/(work|root|tmp)/", text), name
        assert not re.search(r"pypi\.org|npmjs", text), name


EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGES["docs/LOAD.md"], re.DOTALL)


@pytest.mark.parametrize("example", [text for text in EXAMPLES if text.startswith("scenarios:")])
def test_an_example_of_a_load_can_be_pasted(tmp_path: Path, example: str) -> None:
    path = tmp_path / "load.yaml"
    path.write_text(example, encoding="utf-8")
    assert load_scenarios(path, {"model": "m", "dataset": "sample"})
