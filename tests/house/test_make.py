"""The make verbs and the environment they make, on a copy, with fakes for python and mamba."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.beside.waiting import LIMIT_S
from tests.support.reading import one_line

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
VERBS = {
    "help",
    "install",
    "install-ray",
    "init-env",
    "server",
    "server-cpu",
    "bench",
    "summarize",
    "plots",
    "report",
    "runs",
    "compare",
    "ab",
    "capacity",
    "tune",
    "all",
    "test",
    "test-fast",
    "fuzz",
    "chaos",
    "soak",
    "scale",
    "test-vllm",
    "check",
    "clean",
    "sim",
    "demo",
    "calibrate",
    "peers",
    "judge",
}
# All that the fakes' PATH has: neither a mamba nor a python of the machine's own.
TOOLS = ("sh", "make", "awk", "cat", "chmod", "cksum", "cp", "dirname", "mkdir", "rm", "find")
# Answers what environment.sh asks an interpreter, makes copies of itself as venvs, records calls.
PYTHON = """#!/bin/sh
echo "python $*" >>"$CALLS"
case "$*" in
    --version) echo "Python $FAKE_VERSION" ;;
    *version_info*) [ "$FAKE_VERSION" != 3.9.2 ] ;;
    *'-m venv --clear'*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *'-m pip'*) [ -z "${FAKE_PIP_FAILS:-}" ] ;;
    *bench/bench.py*)
        [ -z "${FAKE_RUN:-}" ] || { mkdir -p "${FAKE_RUN%/*}" && echo >"$FAKE_RUN"; }
        exit "${FAKE_BENCH_EXIT:-0}" ;;
esac
"""
MAMBA = """#!/bin/sh
echo "mamba $*" >>"$CALLS"
case "$1" in
    run)
        [ -x "$FAKE_MAMBA/bin/python" ] || { echo 'no such environment' >&2; exit 1; }
        echo "$FAKE_MAMBA/bin/python" ;;
    create) mkdir -p "$FAKE_MAMBA/bin" && cp "$FAKE_PYTHON" "$FAKE_MAMBA/bin/python" ;;
esac
"""


class Clone:
    """A copy of the files that make needs, and a PATH of fakes that write down their calls."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone with blanks"
        self.bin = folder / "bin"
        self.calls_path = folder / "calls"
        (self.root / "tools").mkdir(parents=True)
        self.bin.mkdir()
        needed = [f"requirements{kind}.txt" for kind in ("", "-dev", "-ray")]
        for name in ("Makefile", *needed, ".env.example"):
            shutil.copy(ROOT / name, self.root / name)
        for name in ("environment.sh", "init_env.sh"):
            shutil.copy(ROOT / "tools" / name, self.root / "tools" / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool} here"))
        self.fake("python3", PYTHON)
        self.environ = {
            "PATH": str(self.bin),
            "CALLS": str(self.calls_path),
            "FAKE_VERSION": "3.12.1",
            "FAKE_PYTHON": str(self.bin / "python3"),
            "FAKE_MAMBA": str(folder / "mamba" / "envs" / "vllm-bench"),
        }

    def fake(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def environment(self, kind: str = "run", **environ: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "tools/environment.sh", kind, **environ)

    def calls(self, word: str) -> list[str]:
        """Return the calls that hold the word, and forget all calls so far."""
        lines = self.calls_path.read_text().splitlines() if self.calls_path.exists() else []
        self.calls_path.unlink(missing_ok=True)
        return [line for line in lines if word in line]


def call(script: str, *words: str) -> str:
    """Return what is written down of a call of a script."""
    return " ".join(("python", f"bench/{script}", *words))


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_make_alone_prints_every_verb_with_its_meaning(clone: Clone) -> None:
    done = clone.run("make")
    assert done.returncode == 0
    told = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert set(told) == VERBS
    assert clone.calls("") == []  # help makes no environment


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_is_one_that_make_knows_whatever_files_lie_there(clone: Clone, verb: str) -> None:
    (clone.root / verb).mkdir(exist_ok=True)
    done = clone.run("make", "--dry-run", verb)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not done.stdout.startswith("make:")  # that there is nothing to do


def test_install_makes_an_environment_once_and_then_leaves_it_alone(clone: Clone) -> None:
    done = clone.run("make", "install")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    calls = clone.calls("")
    assert sum("-m venv" in c for c in calls) == 1
    assert sum("pip install" in c and "-r requirements.txt" in c for c in calls) == 1
    again = clone.run("make", "install")
    assert (again.returncode, again.stderr) == (0, "")
    assert [c for c in clone.calls("") if "pip" in c or "venv" in c] == []


def test_the_interpreter_alone_is_printed(clone: Clone) -> None:
    done = clone.environment()
    assert done.stdout == f"{clone.root}/.venv/bin/python\n"


def test_ray_is_an_extra_that_leaves_the_others_up_to_date(clone: Clone) -> None:
    clone.environment("run")
    clone.calls("pip install")
    assert clone.run("make", "install-ray").returncode == 0
    assert any("-r requirements-ray.txt" in c for c in clone.calls("pip install"))
    assert clone.run("make", "install").returncode == 0
    assert clone.run("make", "install-ray").returncode == 0
    assert not clone.calls("pip install")


def test_changed_requirements_are_installed(clone: Clone) -> None:
    clone.environment()
    clone.calls("")
    with (clone.root / "requirements.txt").open("a") as requirements:
        requirements.write("another>=1\n")
    clone.environment()
    assert len(clone.calls("pip install")) == 1


def test_tests_and_checks_get_their_own_requirements_too(clone: Clone) -> None:
    clone.environment("run")
    clone.calls("")
    assert clone.environment("dev").returncode == 0
    assert any("-r requirements-dev.txt" in c for c in clone.calls("pip install"))


def test_an_install_that_failed_is_tried_again(clone: Clone) -> None:
    done = clone.environment(FAKE_PIP_FAILS="1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "requirements.txt" in done.stderr
    clone.calls("")
    assert clone.environment().returncode == 0
    assert len(clone.calls("pip install")) == 1


def test_an_environment_whose_interpreter_is_gone_is_made_anew(clone: Clone) -> None:
    clone.environment()
    (clone.root / ".venv/bin/python").unlink()
    (clone.root / ".venv/bin/python").symlink_to("/nowhere/python3")
    clone.calls("")
    assert clone.environment().returncode == 0
    assert len(clone.calls("venv --clear")) == 1


def test_too_old_a_python_is_refused_in_one_line(clone: Clone) -> None:
    done = clone.environment(FAKE_VERSION="3.9.2")
    assert done.returncode == 1
    assert done.stdout == ""
    line = one_line(done.stderr)
    assert line.startswith("environment.sh: ")
    assert all(word in line for word in ("3.9.2", "3.10", "PYTHON="))
    assert not (clone.root / ".venv").exists()


def test_no_python_at_all_is_told_in_one_line(clone: Clone) -> None:
    (clone.bin / "python3").unlink()
    done = clone.environment()
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith("environment.sh: ")
    assert all(word in line for word in ("python3", "PATH", "3.10"))


@pytest.mark.parametrize("words", [["make", "install"], ["make", "install", "PYTHON=other-python"]])
def test_python_names_the_interpreter_to_use(clone: Clone, words: list[str]) -> None:
    (clone.bin / "python3").rename(clone.bin / "other-python")
    environ = {} if len(words) == 3 else {"PYTHON": "other-python"}
    done = clone.run(*words, **environ)
    assert done.returncode == 0, done.stderr
    assert (clone.root / ".venv/bin/python").exists()


def test_python_names_the_interpreter_of_the_environment_not_of_the_scripts(clone: Clone) -> None:
    done = clone.run("make", "bench", "PYTHON=python3")
    assert done.returncode == 0, done.stderr
    assert (clone.root / ".venv/bin/python").exists()


def test_another_kind_of_environment_is_refused(clone: Clone) -> None:
    done = clone.environment("prod")
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith("environment.sh: ")
    assert {"prod", "run", "dev", "ray"} <= set(re.findall(r"\w+", line))


def test_mamba_makes_vllm_bench_with_python_3_10_once(clone: Clone) -> None:
    clone.fake("mamba", MAMBA)
    done = clone.environment()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{clone.environ['FAKE_MAMBA']}/bin/python\n"
    calls = clone.calls("")
    creates = [c for c in calls if c.startswith("mamba create")]
    assert len(creates) == 1
    assert {"-n", "vllm-bench", "python=3.10", "-y"} <= set(creates[0].split())
    assert sum("pip install" in c for c in calls) == 1
    again = clone.environment()
    assert again.stdout == done.stdout
    assert [c for c in clone.calls("") if "create" in c or "pip" in c] == []
    assert not (clone.root / ".venv").exists()


def test_a_mamba_that_fails_is_told(clone: Clone) -> None:
    clone.fake("mamba", "#!/bin/sh\nexit 1\n")
    done = clone.environment()
    assert done.returncode == 1
    assert "vllm-bench" in done.stderr


def test_names_and_arguments_reach_the_script(clone: Clone) -> None:
    clone.run("make", "bench", "NAME=rag demo", "ARGS=--telemetry --wait-s 5")
    words = "--name rag --name demo --telemetry --wait-s 5"
    assert clone.calls("bench.py") == [call("bench.py", words)]
    clone.run("make", "summarize", "ARGS=a.csv b.csv")
    assert clone.calls("summarize.py") == [call("summarize.py", "a.csv b.csv")]
    clone.run("make", "report", "ARGS=--out a.html a.csv")
    assert clone.calls("report.py") == [call("report.py", "--out a.html", "a.csv")]


def test_two_env_files_reach_the_script_whatever_their_names(clone: Clone) -> None:
    clone.run("make", "ab", "A=a.env", "B=my b's.env", "NAME=rag", "ARGS=--check --visits 16")
    words = ("a.env", "my b's.env", "--name rag", "--check --visits 16")
    assert clone.calls("ab.py") == [call("ab.py", *words)]


def test_a_name_may_stand_before_make_but_the_machines_own_is_not_meant(clone: Clone) -> None:
    clone.fake("uname", "#!/bin/sh\necho a-machine\n")
    clone.run("make", "bench", NAME="rag")
    assert clone.calls("bench.py") == [call("bench.py", "--name rag")]
    clone.run("make", "bench", NAME="a-machine")
    assert clone.calls("bench.py") == [call("bench.py")]
    clone.run("make", "bench", "NAME=rag", NAME="a-machine")
    assert clone.calls("bench.py") == [call("bench.py", "--name rag")]


@pytest.mark.parametrize("status", [0, 1, 4, 130])
@pytest.mark.parametrize("jobs", ["-j1", "-j3"])
def test_all_tells_and_draws_what_came_of_the_bench_and_fails_if_it_did(
    clone: Clone, status: int, jobs: str
) -> None:
    (clone.root / "results").mkdir()
    (clone.root / "results" / "older.csv").touch()
    measured = {"FAKE_BENCH_EXIT": str(status), "FAKE_RUN": "results/run.csv"}
    done = clone.run("make", jobs, "all", "NAME=demo", "ARGS=--telemetry", **measured)
    assert (done.returncode != 0) is (status != 0)
    scripts = clone.calls("bench/")
    assert scripts[0] == call("bench.py", "--name demo", "--telemetry")
    # The bench's arguments are none that the others know.
    others = ["plot.py", "report.py", "summarize.py"]
    assert sorted(scripts[1:]) == [call(other, "--last") for other in others]


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_all_ends_with_the_bench_where_nothing_was_measured(clone: Clone, status: int) -> None:
    (clone.root / "results").mkdir()
    for older in ("run.csv", "summary.csv"):
        (clone.root / "results" / older).touch()
    done = clone.run("make", "all", "NAME=dem", FAKE_BENCH_EXIT=str(status))
    assert (done.returncode != 0) is (status != 0)
    assert clone.calls("bench/") == [call("bench.py", "--name dem")]


@pytest.mark.parametrize("given", ["--results-dir there", "--results-dir=there"])
def test_all_looks_for_the_runs_where_bench_was_told_to_write_them(
    clone: Clone, given: str
) -> None:
    clone.run("make", "all", f"ARGS=--plain {given} --no-tokens", FAKE_RUN="there/run.csv")
    scripts = clone.calls("bench/")
    assert scripts[0] == call("bench.py", "--plain", given, "--no-tokens")
    others = ["plot.py", "report.py", "summarize.py"]
    assert sorted(scripts[1:]) == [call(other, "--last --results-dir there") for other in others]


def test_all_finds_a_folder_in_ones_home(clone: Clone, tmp_path: Path) -> None:
    measured = {"HOME": str(tmp_path), "FAKE_RUN": str(tmp_path / "there" / "run.csv")}
    clone.run("make", "all", "ARGS=--results-dir ~/there", **measured)
    words = ("--last", "--results-dir", str(tmp_path / "there"))
    assert sorted(clone.calls("bench/"))[-1] == call("summarize.py", *words)


def test_clean_leaves_results_and_settings(clone: Clone) -> None:
    for kept in ("results/run.csv", ".env", "bench/bench.py"):
        (clone.root / kept).parent.mkdir(exist_ok=True)
        (clone.root / kept).write_text("kept")
    for folder in (".venv", ".mypy_cache", "bench/__pycache__", "server", "tests"):
        (clone.root / folder).mkdir()
    assert clone.run("make", "clean").returncode == 0
    left = {str(p.relative_to(clone.root)) for p in clone.root.rglob("*")}
    assert {"results/run.csv", ".env", "bench/bench.py"} <= left
    assert not {".venv", ".mypy_cache", "bench/__pycache__"} & left


def test_clean_leaves_folders_that_no_verb_made(clone: Clone, tmp_path: Path) -> None:
    theirs, elsewhere = clone.root / ".venv", tmp_path / "elsewhere"
    for folder in (theirs / "an empty one", clone.root / ".venv-vllm", elsewhere):
        folder.mkdir(parents=True)
    for folder in ("bench", "server", "tests"):
        (clone.root / folder).mkdir()
    (theirs / "thesis.txt").write_text("kept")
    (clone.root / ".venv-vllm" / "pyvenv.cfg").touch()
    (elsewhere / "pyvenv.cfg").touch()
    (clone.root / ".peers").symlink_to(elsewhere)
    done = clone.run("make", "clean")
    assert (done.returncode, done.stdout.split()[0]) == (0, ".venv")
    assert (theirs / "thesis.txt").read_text() == "kept"
    assert not (clone.root / ".venv-vllm").exists()
    assert not (clone.root / ".peers").is_symlink()
    assert (elsewhere / "pyvenv.cfg").exists()


@pytest.mark.parametrize("kind", ["run", "dev", "how"])
def test_a_folder_that_is_no_environment_is_never_emptied(clone: Clone, kind: str) -> None:
    theirs = clone.root / ".venv" / ".hidden"
    theirs.parent.mkdir()
    theirs.write_text("kept")
    done = clone.environment(kind)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{clone.root}/.venv" in one_line(done.stderr)
    assert theirs.read_text() == "kept"
    assert clone.calls("venv") == []
    theirs.unlink()
    assert clone.environment(kind).returncode == 0


def test_an_environment_behind_a_link_is_never_emptied(clone: Clone, tmp_path: Path) -> None:
    """It is another clone's, which may be making it anew at this moment."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("kept")
    (clone.root / ".venv").symlink_to(theirs)
    done = clone.environment("run")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{clone.root}/.venv" in one_line(done.stderr)
    assert (theirs / "pyvenv.cfg").read_text() == "kept"
    assert clone.calls("venv") == []


@pytest.mark.parametrize("name", ["thesis.txt", ".hidden", "pyvenv.cfg"])
def test_vllm_is_installed_into_no_folder_of_somebody_elses(
    clone: Clone, tmp_path: Path, name: str
) -> None:
    shutil.copy(ROOT / "tools" / "vllm_cpu.sh", clone.root / "tools")
    theirs = tmp_path / "my work" / name
    theirs.parent.mkdir()
    theirs.write_text("kept")
    for given in (theirs.parent, theirs):
        done = clone.run("sh", "tools/vllm_cpu.sh", "--install-only", VLLM_CPU_ENV=str(given))
        assert done.returncode == 1
        assert all(word in one_line(done.stderr) for word in (str(given), "VLLM_CPU_ENV"))
    assert theirs.read_text() == "kept"
    assert clone.calls("") == []


@pytest.mark.parametrize("before", [None, "empty", ".installed-0.31.0", ".vllm-bench-cpu"])
def test_vllm_is_installed_into_a_folder_that_is_new_empty_or_its_own(
    clone: Clone, tmp_path: Path, before: str | None
) -> None:
    shutil.copy(ROOT / "tools" / "vllm_cpu.sh", clone.root / "tools")
    folder = tmp_path / "vllm"
    if before is not None:
        folder.mkdir()
    if before not in (None, "empty"):
        (folder / before).touch()
    done = clone.run("sh", "tools/vllm_cpu.sh", "--install-only", VLLM_CPU_ENV=str(folder))
    assert done.returncode  # the fake makes no environment there
    assert [str(folder) in call for call in clone.calls("-m venv")] == [True]


def test_init_env_writes_a_file_that_its_owner_alone_can_read(clone: Clone) -> None:
    done = clone.run("make", "init-env")
    assert done.returncode == 0
    made = clone.root / ".env"
    assert made.read_text() == (ROOT / ".env.example").read_text()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_init_env_never_writes_over_a_file(clone: Clone) -> None:
    (clone.root / ".env").write_text("HF_TOKEN=precious\n")
    done = clone.run("make", "init-env")
    assert done.returncode == 0
    assert ".env" in one_line(done.stdout)
    assert (clone.root / ".env").read_text() == "HF_TOKEN=precious\n"


def test_init_env_works_from_any_folder(clone: Clone, tmp_path: Path) -> None:
    script = os.path.relpath(clone.root / "tools/init_env.sh", tmp_path)
    environ = {**clone.environ}
    done = subprocess.run(["sh", script], cwd=tmp_path, env=environ, check=False)
    assert done.returncode == 0
    assert (clone.root / ".env").exists()
