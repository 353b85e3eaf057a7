"""The Dockerfile of the client: pinned, no user's root, and nothing in it that shouldn't be."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PINNED = dict(re.findall(r"^([a-z0-9][a-z0-9-]*)==(\S+)$", CONSTRAINTS, re.MULTILINE))
ASKED = [path for path in sorted(ROOT.glob("requirements*.txt")) if "-dev" not in path.name]


def instructions(text: str) -> list[tuple[str, str]]:
    """Return each instruction and its words, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, words) for name, _, words in split]


def requirements(path: Path) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


# --- what is installed ------------------------------------------------------------------------


def test_the_base_is_pinned_to_the_bit() -> None:
    bases = [words for name, words in instructions(DOCKERFILE) if name == "FROM"]
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim@sha256:[0-9a-f]{64}", bases[0])


def test_every_package_that_is_asked_for_is_pinned_within_its_range() -> None:
    for path in ASKED:
        for asked in requirements(path):
            pinned = PINNED.get(canonicalize_name(asked.name))
            assert pinned, f"{path.name}: {asked.name} isn't in constraints.txt"
            assert asked.specifier.contains(pinned), f"{path.name}: {asked} and {pinned}"


def test_every_line_of_the_constraints_pins_one_package() -> None:
    lines = [line for line in CONSTRAINTS.splitlines() if not line.startswith("#")]
    assert len(lines) == len(PINNED)
    assert list(PINNED) == sorted(PINNED)


def test_nothing_is_installed_past_the_constraints() -> None:
    installs = re.findall(r"pip install[^&]*", DOCKERFILE.replace("\\\n", " "))
    assert installs
    for install in installs:
        assert {"-c", "constraints.txt", "--no-cache-dir"} <= set(install.split())


def test_the_folder_that_is_thinned_and_compiled_is_that_of_the_bases_python() -> None:
    [base] = re.findall(r"FROM python:(3\.\d+)\.", DOCKERFILE)
    assert set(re.findall(r"/usr/local/lib/python(3\.\d+)", DOCKERFILE)) == {base}


# --- who runs it ------------------------------------------------------------------------------


def test_it_runs_as_a_user_whose_number_kubernetes_can_read() -> None:
    users = [words for name, words in instructions(DOCKERFILE) if name == "USER"]
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_no_secret_has_a_place_in_it() -> None:
    named = [words for name, words in instructions(DOCKERFILE) if name in ("ARG", "ENV")]
    assert not re.search(r"TOKEN|KEY|SECRET|PASSWORD", " ".join(named))
    assert not [words for name, words in instructions(DOCKERFILE) if name == "ADD"]


def test_its_words_go_to_python_as_in_every_page() -> None:
    found = dict(instructions(DOCKERFILE))
    assert found["ENTRYPOINT"] == '["python"]'
    assert (ROOT / found["CMD"].split('"')[1]).is_file()


# --- what goes in -----------------------------------------------------------------------------


def patterns() -> list[tuple[bool, re.Pattern[str]]]:
    """Return the lines of .dockerignore: whether it takes back, and what it is about.

    `**/` is any number of folders, `*` anything within a name; a folder is meant with all in it.
    """
    found = []
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        back, word = line.startswith("!"), re.escape(line.removeprefix("!"))
        word = word.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        found.append((back, re.compile(rf"{word}(?:/.*)?")))
    return found


def goes_in(path: str) -> bool:
    """Whether Docker would copy a path: the last line about it says so."""
    lines = [back for back, about in patterns() if about.fullmatch(path)]
    return not lines or lines[-1]


@pytest.mark.parametrize(
    "path",
    [
        *(".env", "server/.env", "bench/.env", "examples/.env.gpu7", ".env.example"),
        *("results/a.csv", "bench/results/a.csv", "server/results", "candidate.env", "key"),
        *(".git/config", ".venv/bin/python", ".venv-vllm/x", ".hypothesis/x", ".ci/run"),
        *("tests/conftest.py", "tools/soak.py", "docs/load.png", "requirements", "nights/a.csv"),
        *("bench/__pycache__/a.pyc", "bench/vllm_bench/send/__pycache__/a.pyc"),
        *("bench/.netrc", "examples/machines/.ssh/id_rsa", "id_rsa", "Dockerfile"),
    ],
)
def test_what_is_nobody_elses_business_stays_out(path: str) -> None:
    assert not goes_in(path)


@pytest.mark.process
def test_what_it_runs_goes_in() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = [PurePosixPath(line) for line in done.stdout.splitlines()]
    code = [p for p in tracked if p.parts[0] in ("bench", "server") and p.suffix == ".py"]
    assert code
    for path in [*code, PurePosixPath("bench/scenarios.yaml"), PurePosixPath("constraints.txt")]:
        assert goes_in(str(path)), path
    data = [p for p in tracked if p.parts[:2] == ("bench", "data")]
    assert data
    assert all(goes_in(str(path)) for path in data)


# --- the linter -------------------------------------------------------------------------------


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    found = Path(sys.executable).with_name("hadolint")
    program = str(found) if found.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("no hadolint (requirements-dev.txt has it where there is a wheel)")
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)


@pytest.mark.process
def test_the_linter_has_nothing_to_say() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.process
@pytest.mark.parametrize(
    ("was", "becomes", "code"),
    [
        (r"FROM .*", "FROM python:latest", "DL3007"),
        ("--no-cache-dir ", "", "DL3042"),
        ("USER 1000:1000", "USER root", "DL3002"),
    ],
)
def test_the_linter_would_find_what_is_wrong(was: str, becomes: str, code: str) -> None:
    done = hadolint(re.sub(was, becomes, DOCKERFILE))
    assert done.returncode != 0
    assert code in done.stdout


def test_make_check_runs_the_linter() -> None:
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert re.search(r'hadolint" Dockerfile', check)
