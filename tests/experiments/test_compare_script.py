"""compare.py as a person runs it: sides, refusals, files, exit codes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from vllm_bench.compare.measures import MEASURES
from vllm_bench.records.run_info import read_run_info, write_run_info

from tests.compare.written import write_side
from tests.support.beside.waiting import LIMIT_S
from tests.support.reading import one_line
from tests.support.running import ROOT, run_script

pytestmark = pytest.mark.process
REAL_VLLM = ROOT / "tests" / "data" / "vllm_bench_serve.json"
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sides: base and again alike, slow 10 % slower, few of three runs, nights of twelve days."""
    folder = tmp_path_factory.mktemp("made")
    write_side(folder / "results", "base")
    write_side(folder / "results", "again", at_s=100)
    write_side(folder / "results", "slow", 1.1, at_s=200)
    write_side(folder / "results", "few", repeats=3, at_s=300)
    for night in range(12):
        write_side(folder / "nights", "nightly", repeats=1, at_s=night * DAY_S)
    return folder


@pytest.fixture
def compare(made: Path) -> Any:
    """Run compare.py in the folder of the sides."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return run_script("bench/compare.py", "--results-dir", "results", *words, cwd=made)

    return call


@pytest.mark.parametrize(
    ("sides", "code", "said"),
    [
        (("base", "again"), 0, "are equivalent"),
        (("base", "slow"), 3, "B (slow) is slower than A (base): output tokens/s -9"),
        (("slow", "base"), 0, "B (base) is faster than A (slow): output tokens/s +"),
        (("base", "few"), 4, "No answer: 3 pairs"),
        (("made-base-*", "made-slow-*.csv"), 3, "is slower"),
    ],
)
def test_the_exit_code_and_the_first_line_are_the_answer(
    compare: Any, sides: tuple[str, str], code: int, said: str
) -> None:
    done = compare(*sides)
    assert (done.returncode, done.stderr) == (code, "")
    assert said in done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "two sides"),
        (("base",), "two sides"),
        (("base", "slow", "few"), "two sides"),
        (("base", "slwo"), "did you mean slow?"),
        (("base", "base"), "the same runs"),
        (("results", "slow"), "several labels"),
        (("base", "slow", "--margin", "ttft_ms.p98=5"), "did you mean ttft_p9"),
        (("base", "slow", "--margin", "ttft_p99_ms=200"), "below 100"),
        (("base", "slow", "--margin", "ttft_p99_ms"), "MEASURE=PERCENT"),
        (("base", "slow", "--out", "x.txt"), ".md, .json, .png"),
        (("base", "slow", "--out", "results"), "is a folder"),
        (("base", "slow", "--format", "jsno"), "did you mean json?"),
        (("base", "slow", "--margins", "x=1"), "did you mean --margin?"),
        (("base", "slow", "--history", "nights"), "one candidate"),
        (("slow", "--history", "nowhere"), "nowhere"),
    ],
)
def test_wrong_usage_is_one_line_and_2(compare: Any, words: tuple[str, ...], said: str) -> None:
    done = compare(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in one_line(done.stderr)


def test_the_manual_has_every_measure_with_its_margin(compare: Any) -> None:
    manual = " ".join(compare("--help").stdout.split())
    for measure in MEASURES:
        assert f"{measure.name} {100 * measure.margin:g}" in manual


def test_a_wider_margin_makes_a_word_of_it(compare: Any) -> None:
    wide = [word for name in ("output_tokens_per_s", "requests_per_s", "ttft_ms.p50", "tpot_ms_p50")
            for word in ("--margin", f"{name}=30%")]  # fmt: skip
    done = compare("base", "slow", "--format", "json", *wide)
    words = {
        row["measure"]["name"]: row["word"] for row in json.loads(done.stdout)["levels"][0]["rows"]
    }
    assert {words["output_tokens_per_s"], words["ttft_p50_ms"], words["tpot_p50_ms"]} == {
        "equivalent"
    }
    assert words["ttft_p95_ms"] == "slower"


def test_json_keeps_to_the_schema_that_is_printed(compare: Any) -> None:
    schema = json.loads(compare("--schema").stdout)
    done = compare("base", "slow", "--format", "json")
    assert done.returncode == 3
    jsonschema.validate(json.loads(done.stdout), schema)


def test_what_is_written_is_what_its_ending_says(compare: Any, tmp_path: Path) -> None:
    printed = compare("base", "slow", "--format", "markdown").stdout
    for name in ("x.md", "x.json", "x.png"):
        done = compare("base", "slow", "--out", tmp_path / "new" / name)
        assert done.returncode == 3
        assert name in one_line(done.stderr)
    assert (tmp_path / "new" / "x.md").read_text() == printed
    assert json.loads((tmp_path / "new" / "x.json").read_text())["exit_code"] == 3
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_nothing_is_told(compare: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(REAL_VLLM.read_text()), "max_concurrency": 99}))
    done = compare(REAL_VLLM, other, "--out", tmp_path / "x.png")
    assert (done.returncode, (tmp_path / "x.png").exists()) == (4, False)
    assert "no x.png" in one_line(done.stderr)
    assert "(A: 4 streams; B: 99 streams)" in done.stdout


def test_nothing_is_written_without_being_asked(compare: Any, made: Path) -> None:
    compare("base", "slow")
    there = {
        path.name for path in (made / "results").iterdir() if not path.name.startswith("made-")
    }
    assert there <= {"cache"}


def test_a_place_that_can_not_be_written_is_1(compare: Any) -> None:
    done = compare("base", "slow", "--out", "/proc/x.md")
    assert done.returncode == 1
    assert "/proc/x.md" in one_line(done.stderr)


def test_a_run_that_can_not_be_read_is_named_and_the_rest_compared(
    compare: Any, made: Path, tmp_path: Path
) -> None:
    for path in (made / "results").glob("made-slow-*"):
        shutil.copy(path, tmp_path)
    broken = tmp_path / "made-slow-cc4-r1-200.csv"
    broken.write_text("nonsense\n")
    done = compare("base", tmp_path)
    assert done.returncode == 1
    assert broken.name in one_line(done.stderr)
    assert "No answer: 3 pairs" in done.stdout


def test_what_is_shown_of_a_run_is_escaped(compare: Any, made: Path, tmp_path: Path) -> None:
    for path in (made / "results").glob("made-slow-*"):
        shutil.copy(path, tmp_path)
    for path in tmp_path.glob("*.json"):
        info = read_run_info(path)
        odd = {**info.server, "version": "\x1b[2Jodd", "settings": {"hf_token": "sesame"}}
        write_run_info(path, dataclasses.replace(info, server=odd))
    for form in ((), ("--format", "markdown"), ("--format", "json")):
        done = compare("base", tmp_path, *form)
        assert done.returncode == 3
        assert "odd" in done.stdout
        assert "sesame" not in done.stdout
        assert "\x1b" not in done.stdout


def test_what_vllm_wrote_has_no_word(compare: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(REAL_VLLM.read_text()), "output_throughput": 795.0}))
    done = compare(REAL_VLLM, other)
    assert (done.returncode, done.stderr) == (4, "")
    assert "-50" in next(line for line in done.stdout.splitlines() if "output tokens/s" in line)
    done = compare(REAL_VLLM, "made-base-cc4-r1-0", "--format", "json")
    assert done.returncode == 4
    rows = json.loads(done.stdout)["levels"][0]["rows"]
    assert {row["word"] for row in rows} == {None}
    assert all(row["effect"] for row in rows if row["a"] and row["b"])


@pytest.mark.parametrize(
    ("candidate", "code"), [("made-base-cc4-r1-0", 0), ("made-slow-cc4-r1-200", 3)]
)
def test_a_candidate_is_held_against_stored_nights(compare: Any, candidate: str, code: int) -> None:
    done = compare("--history", "nights", candidate)
    assert (done.returncode, done.stderr) == (code, "")
    assert "12 nights" in done.stdout
    assert "could show" in done.stdout


def test_too_few_nights_judge_nothing(compare: Any) -> None:
    done = compare("--history", "made-again-*", "made-base-cc4-r1-0")
    assert done.returncode == 4
    assert "10" in done.stdout.splitlines()[0]


def test_make_passes_sides_on_as_they_are(made: Path) -> None:
    words = ["A=made-base-*", "B=made-slow-*", f"ARGS=--results-dir {made / 'results'}"]
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", "compare", *words],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert "Error 3" in done.stderr
    assert "is slower" in done.stdout
