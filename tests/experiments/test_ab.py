"""ab.py as a person runs it, with simulators in the place of vLLM: answers, endings, refusals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.experiments.state import State, experiments
from vllm_bench.launch.left_behind import left_of
from vllm_bench.records.run_info import read_run_info
from vllm_bench.simulator import simulator

from tests.support.beside.ports import free_port
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.running import ROOT, environment, run_script

pytestmark = pytest.mark.process

AB = ROOT / "bench" / "ab.py"
PROFILE = "gpt-oss-20b-h100"
KEY = "sk-planted-4711-planted"
LOAD = {
    "model": "gpt-oss-20",
    "dataset": "sample",
    "prefill_tokens": 32,
    "max_new_tokens": 12,
    "ignore_eos": True,
    "concurrencies": [16],
    "num_requests": 64,
}


@pytest.fixture
def port() -> int:
    return free_port()


class Ab:
    """A folder with a scenario and env files, and ab.py in it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.results = folder / "results"
        self.load(LOAD)

    def load(self, load: dict[str, object]) -> None:
        (self.folder / "scenarios.yaml").write_text(json.dumps({"scenarios": {"one": load}}))

    def env(self, name: str, **values: object) -> str:
        """Write an env file of a simulator."""
        whole = {"SIMULATOR": PROFILE, "HOST": "127.0.0.1", "PORT": self.port, **values}
        lines = [f"{key}={value}\n" for key, value in whole.items()]
        (self.folder / f"{name}.env").write_text("".join(lines))
        return f"{name}.env"

    def build(self, *flags: str, name: str = "vllm") -> Path:
        """Write the `vllm` of a build: a simulator whose own flags win."""
        path = self.folder / name
        words = f"{sys.executable} {ROOT / 'server' / 'simulator.py'}"
        lines = ("#!/bin/sh", "shift; model=$1; shift", f'exec {words} --model "$model" "$@"')
        path.write_text("\n".join(lines) + " " + " ".join(flags) + "\n")
        path.chmod(0o755)
        return path

    def words(self, *words: str) -> list[str]:
        own = ["--scenarios", "scenarios.yaml", "--results-dir", "results", "--plain"]
        return [sys.executable, str(AB), *words, *own]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words),
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=4 * LIMIT_S,
        )

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start it, for the block to do something to it."""
        with (self.folder / "said").open("w") as said:
            process = subprocess.Popen(
                self.words(*words),
                cwd=self.folder,
                env=environment(self.folder),
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def compare(self, a: str, b: str) -> tuple[int, dict[str, str | None]]:
        """Return compare.py's exit code on two labels, and the word on each measure."""
        words = (a, b, "--results-dir", self.results, "--format", "json")
        done = run_script("bench/compare.py", *words)
        rows = [row for level in json.loads(done.stdout)["levels"] for row in level["rows"]]
        return done.returncode, {row["measure"]["name"]: row["word"] for row in rows}

    @property
    def state(self) -> State:
        """The newest experiment."""
        return next(experiments(self.results))

    def infos(self) -> list[Any]:
        runs = [path.with_suffix(".json") for path in self.results.glob("one-*.csv")]
        return [read_run_info(path) for path in sorted(runs)]

    def invalid(self, done: subprocess.CompletedProcess[str]) -> bool:
        """Whether a busy machine spoilt a run: its pair is thrown away, by right."""
        return "INVALID" in done.stdout + done.stderr

    def nobody_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def everything_written(self) -> bytes:
        return b"".join(p.read_bytes() for p in self.results.rglob("*") if p.is_file())


@pytest.fixture
def ab(tmp_path: Path, port: int) -> Ab:
    return Ab(tmp_path, port)


@pytest.fixture
def for_a_while(ab: Ab) -> None:
    """Let its runs be long enough for an answer, or for something to happen in them."""
    ab.load({**LOAD, "num_requests": None, "duration_s": 1.5})


def line_of(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the one line that says what is wrong."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


# ---- answers ----


@pytest.mark.usefixtures("for_a_while")
def test_a_server_with_fewer_requests_at_a_time_is_slower(ab: Ab) -> None:
    many, few = ab.env("many", MAX_NUM_SEQS=32, VLLM_API_KEY=KEY), ab.env("few", MAX_NUM_SEQS=2)
    done = ab.run(many, few)
    assert done.returncode == 3 or ab.invalid(done), done.stderr
    code, words = ab.compare("many", "few")
    assert code == done.returncode
    if code == 3:
        assert words["output_tokens_per_s"] == "slower"
        # Each user reads more slowly where more are served, so that way isn't better in all.
        assert ab.compare("few", "many")[1]["output_tokens_per_s"] == "faster"
    state = ab.state
    visits = len(state.whole)
    assert visits == 8 or (visits > 8 and ab.invalid(done))  # more for what was thrown away
    assert sorted(state.whole) == list(range(1, visits + 1))
    sides = [a.side for a in state.attempts if a.status == "whole"]
    assert sides == list("abba" * visits)[:visits]
    assert state.server is None
    assert ab.nobody_listens()
    infos = ab.infos()
    assert len(infos) == visits  # what was broken off isn't among them
    pairs = [(i.experiment["pair"], i.experiment["side"], i.plan["sha256"]) for i in infos]
    assert len({plan for _, _, plan in pairs}) == visits // 2
    for pair in range(1, visits // 2 + 1):
        both = [(side, plan) for number, side, plan in pairs if number == pair]
        assert {side for side, _ in both} == {"many", "few"}
        assert len({plan for _, plan in both}) == 1
    assert {i.server["settings"]["max_num_seqs"] for i in infos} == {32, 2}
    assert all(i.experiment["restarted"] and i.experiment["ready_s"] > 0 for i in infos)
    assert KEY.encode() not in ab.everything_written()
    assert KEY not in done.stdout + done.stderr


@pytest.mark.usefixtures("for_a_while")
def test_a_faster_build_is_faster(ab: Ab) -> None:
    own = {"SIMULATOR": "", "MODEL": "gpt-oss-20"}
    old = ab.build("--exact", "--ttft-ms", "40", "--itl-ms", "10", name="old")
    new = ab.build("--exact", "--ttft-ms", "20", "--itl-ms", "5", name="new")
    done = ab.run(ab.env("a", VLLM_COMMAND=old, **own), ab.env("b", VLLM_COMMAND=new, **own))
    assert done.returncode == 0 or ab.invalid(done), done.stdout
    if done.returncode == 0:
        assert ab.compare("b", "a")[0] == 3


@pytest.mark.usefixtures("for_a_while")
def test_equal_servers_pass_the_gate(ab: Ab) -> None:
    done = ab.run(ab.env("one", MAX_NUM_SEQS=32), ab.env("other", MAX_NUM_SEQS=32), "--check")
    assert done.returncode == 0 or (done.returncode == 4 and ab.invalid(done)), done.stdout
    assert "gate: " in done.stdout


@pytest.mark.usefixtures("for_a_while")
def test_a_slower_server_is_red_in_both_looks_which_have_seeds_of_their_own(ab: Ab) -> None:
    done = ab.run(ab.env("many", MAX_NUM_SEQS=32), ab.env("few", MAX_NUM_SEQS=2), "--check")
    assert done.returncode == 3 or ab.invalid(done), done.stdout
    if done.returncode == 3:
        second, first = experiments(ab.results)
        assert (first.turn, second.turn, second.repeats) == (1, 2, first.id)
        seeds = [{a.seed for a in state.attempts} for state in (first, second)]
        assert not seeds[0] & seeds[1]
        assert min(map(len, seeds)) >= 4


def test_fewer_than_four_pairs_give_figures_and_no_word(ab: Ab) -> None:
    done = ab.run(ab.env("a"), ab.env("b"), "--visits", "2")
    assert done.returncode == 4
    assert "--visits 8" in done.stderr or ab.invalid(done)
    assert sorted(ab.state.whole) == [1, 2]


def test_servers_that_stand_are_taken_by_turns(ab: Ab) -> None:
    flags = ("--model", "gpt-oss-20", "--profile", PROFILE)
    with simulator(*flags) as (one, _), simulator(*flags) as (other, _):
        urls = ("--base-url-a", one, "--base-url-b", other)
        done = ab.run("--no-restart", *urls, "--visits", "2", "--label-a", "x", "--label-b", "y")
    assert done.returncode == 4, done.stderr
    assert not ab.state.restarted
    assert [i.experiment["restarted"] for i in ab.infos()] == [False, False]
    assert "processes" in done.stdout or ab.invalid(done)  # that it is about these


# ---- endings ----


@pytest.mark.parametrize(("output", "code"), [("closed", 4), ("/dev/full", 1)])
def test_an_answer_that_nobody_reads_has_its_code_and_a_full_disk_is_told(
    ab: Ab, output: str, code: int
) -> None:
    ends = os.pipe() if output == "closed" else (None, os.open(output, os.O_WRONLY))
    if ends[0] is not None:
        os.close(ends[0])
    done = subprocess.run(
        ab.words(ab.env("a"), ab.env("b"), "--visits", "2"),
        cwd=ab.folder,
        env=environment(ab.folder),
        stdout=ends[1],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    os.close(ends[1])
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert code == 4 or "the output" in done.stderr.splitlines()[-1]
    assert sorted(ab.state.whole) == [1, 2]


@pytest.mark.usefixtures("for_a_while")
@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_takes_the_server_down_and_what_is_whole_is_gone_on_with(
    ab: Ab, signals: int
) -> None:
    words = (ab.env("a"), ab.env("b"), "--visits", "2")
    with ab.running(*words) as process:
        wait_until(lambda: len(list(ab.results.glob("one-b-*.csv"))) == 1)  # in visit 2
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
    assert ab.nobody_listens()
    assert (sorted(ab.state.whole), ab.state.server) == ([1], None)
    assert ab.state.attempts[-1].status == "broken off"
    done = ab.run(*words, "--resume")
    assert done.returncode == 4, done.stderr
    assert len(list(experiments(ab.results))) == 1
    assert sorted(ab.state.whole) == [1, 2]
    counted = {*ab.state.counted("a"), *ab.state.counted("b")}
    again = {i.run_id for i in ab.infos() if i.experiment.get("made_again")}
    assert again.isdisjoint(counted)
    assert again | counted == {i.run_id for i in ab.infos()}
    assert ab.compare("a", "b")[0] == 4  # one pair, no more


def test_more_visits_go_on_with_an_experiment_that_is_whole(ab: Ab) -> None:
    words = (ab.env("a"), ab.env("b"))
    ab.run(*words, "--visits", "2")
    ab.run(*words, "--visits", "4", "--resume")
    (state,) = experiments(ab.results)
    assert [(a.visit, a.side) for a in state.attempts] == [(1, "a"), (2, "b"), (3, "b"), (4, "a")]
    assert len(ab.infos()) == 4


def test_other_settings_are_another_experiment(ab: Ab) -> None:
    ab.run(ab.env("a"), ab.env("b"), "--visits", "2")
    ab.run(ab.env("a"), ab.env("b", MAX_NUM_SEQS=7), "--visits", "2", "--resume")
    assert len(list(experiments(ab.results))) == 2


def test_a_server_that_does_not_start_is_an_answer(ab: Ab) -> None:
    bad = ab.env("b", EXTRA_ARGS="--no-such-flag")
    done = ab.run(ab.env("a"), bad)
    assert "--no-such-flag" in line_of(done, 1)
    state = ab.state
    assert [(a.visit, a.status) for a in state.attempts] == [
        (1, "whole"),
        (2, "failed"),
        (2, "failed"),
    ]
    assert any("--no-such-flag" in line for line in state.attempts[-1].log)
    assert len(ab.infos()) == 1  # A's figures stay
    assert ab.nobody_listens()


@pytest.mark.usefixtures("for_a_while")
def test_a_server_that_is_killed_in_its_runs_is_started_once_more(ab: Ab) -> None:
    with ab.running(ab.env("a"), ab.env("b"), "--visits", "2") as process:
        wait_until(lambda: len(list(ab.results.glob("one-a-*.csv"))) == 1)
        server = ab.state.server
        assert server is not None
        os.killpg(server.pid, signal.SIGKILL)
        assert process.wait(LIMIT_S) == 4
    assert [a.status for a in ab.state.attempts] == ["failed", "whole", "whole"]


def test_a_server_that_is_not_what_was_asked_ends_it(ab: Ab) -> None:
    own = {"SIMULATOR": "", "VLLM_COMMAND": ab.build("--max-num-seqs", "3"), "MODEL": "gpt-oss-20"}
    done = ab.run(ab.env("a", MAX_NUM_SEQS=64, **own), ab.env("b", MAX_NUM_SEQS=3, **own))
    line = line_of(done, 1)
    assert all(word in line for word in ("max_num_seqs", "64", "3"))
    assert [a.status for a in ab.state.attempts] == ["failed"]
    assert ab.nobody_listens()


def test_a_build_that_changed_meanwhile_is_not_gone_on_with(ab: Ab) -> None:
    own = {"SIMULATOR": "", "VLLM_COMMAND": ab.build(), "MODEL": "gpt-oss-20"}
    words = (ab.env("a", **own), ab.env("b", STREAM_INTERVAL=2, **own))
    assert ab.run(*words, "--visits", "2").returncode == 4
    ab.build("--max-num-seqs", "8")
    line = line_of(ab.run(*words, "--visits", "4", "--resume"), 1)
    assert "system_fingerprint" in line
    assert sorted(ab.state.whole) == [1, 2]


@pytest.mark.usefixtures("for_a_while")
def test_the_server_of_a_killed_script_is_ended_by_the_next_one(ab: Ab) -> None:
    words = (ab.env("a"), ab.env("b"), "--visits", "2")
    with ab.running(*words) as process:
        wait_until(lambda: len(list(ab.results.glob("one-a-*.csv"))) == 1)
        process.kill()
        process.wait()
    assert not ab.nobody_listens()  # it was left behind
    left = ab.state
    assert left.server is not None
    assert left_of(left.server)
    done = ab.run(*words, "--resume")
    assert done.returncode == 4, done.stderr
    assert [a.status for a in ab.state.attempts] == ["broken off", "whole", "whole"]
    assert ab.state.id == left.id
    assert ab.nobody_listens()


def test_a_port_that_another_holds_is_told_before_anything_is_started(ab: Ab) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ab.port))
        other.listen()
        line = line_of(ab.run(ab.env("a", PORT=free_port()), ab.env("b")), 2)
    assert str(ab.port) in line
    assert str(os.getpid()) in line  # by whom
    assert not list(ab.results.glob("*"))


# ---- refusals ----


def test_what_is_wrong_is_told_before_anything_is_started(ab: Ab) -> None:
    good, other = ab.env("a"), ab.env("b")
    ab.env("typo", MAX_NUM_SEQ=64)
    for words, told in (
        ([good, "typo.env"], "MAX_NUM_SEQS"),
        ([good], "two env files"),
        ([good, other, "--visits", "3"], "even"),
        ([good, other, "--set", "label=x"], "--label-a"),
        (["--no-restart", "--base-url-a", "http://x/v1"], "--base-url-b"),
    ):
        line = line_of(ab.run(*words), 2)
        assert told in line, words
    assert not ab.results.exists()


def test_one_file_twice_and_files_of_one_name_get_labels_of_their_own(ab: Ab) -> None:
    (ab.folder / "there").mkdir()
    one = ab.env("a")
    other = ab.env("there/a", MAX_NUM_SEQS=7)
    ab.run(one, one, "--visits", "2")
    assert {i.experiment["side"] for i in ab.infos()} == {"a-a", "a-b"}
    ab.run(one, other, "--visits", "2", "--label-a", "here")
    assert {i.experiment["side"] for i in ab.infos()} >= {"here", "a"}
