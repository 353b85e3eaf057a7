"""What the documents name exists, and what exists is named: verbs, flags, keys, columns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_bench.scenario.scenario import KNOWN_KEYS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FILES = (ROOT / "docs" / "FILES.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PAGES = {p.name: p.read_text() for p in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
VERBS = set(re.findall(r"^([a-z][a-z-]*):.*##", MAKEFILE, re.MULTILINE))
SCRIPTS = {
    "bench/bench.py",
    "bench/summarize.py",
    "bench/plot.py",
    "bench/report.py",
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
    assert len(README.splitlines()) <= 250


def test_every_verb_is_named_and_every_named_verb_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", README))
    assert named <= VERBS | {"help"}
    assert named >= VERBS - {"help"}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_verb_of_every_page_exists(page: str) -> None:
    named = set(re.findall(r"`make ([a-z][a-z-]*)", PAGES[page]))
    assert named <= VERBS | {"help"}


def test_every_scenario_key_is_named_and_every_named_key_exists() -> None:
    table = README.split("## Scenarios")[1].split("## ")[0]
    named = {
        key
        for line in table.splitlines()
        if line.startswith("| `")
        for key in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    assert named == set(KNOWN_KEYS)


def test_every_variable_of_the_template_is_named_and_the_reverse() -> None:
    template = (ROOT / ".env.example").read_text()
    known = set(re.findall(r"^#?([A-Z][A-Z_]+)=", template, re.MULTILINE))
    table = README.split("## Start the server")[1].split("## ")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", table))
    assert named == known


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_flag_that_a_page_gives_a_script_exists(script: str) -> None:
    known = flags_of(script)
    name = re.escape(script)
    for page, text in PAGES.items():
        for line in re.findall(rf"python {name}([^\n`]*)", text):
            assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line)) <= known, (page, line)


@pytest.mark.parametrize("script", ["bench/bench.py"])
def test_every_flag_of_the_main_script_is_in_the_readme(script: str) -> None:
    assert {flag for flag in flags_of(script) if f"`{flag}" not in README} == set()


def test_every_link_to_a_file_leads_somewhere() -> None:
    for name, text in PAGES.items():
        folder = ROOT / "docs" if (ROOT / "docs" / name).exists() else ROOT
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (folder / target).exists(), (name, target)


def test_every_column_is_explained_and_every_explained_column_exists() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "summarize.py"), "--columns"],
        capture_output=True,
        text=True,
        check=True,
    )
    explained = re.findall(r"^\| `([a-z0-9_.]+)` \| (.*) \|$", FILES, re.MULTILINE)
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    known = [tuple(re.split(r"\s{2,}", line, maxsplit=1)) for line in lines]
    assert explained == known


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_script_is_named(script: str) -> None:
    assert script in README


def test_no_page_names_a_machine_or_a_registry() -> None:
    for name, text in PAGES.items():
        assert not re.search(r"(?<![\w./])/(work|root|tmp)/", text), name
        assert not re.search(r"pypi\.org|npmjs", text), name
