"""What bench.py says before and after its runs: what is wrong or whole, and how to read on."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.scripts.conftest import Bench, Scenarios
from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import TinyVllm
from tests.support.reading import numbers, one_line
from tests.support.running import assert_ran, command, environment, run_bench, start_bench

pytestmark = pytest.mark.process


@pytest.mark.parametrize("levels", [[2], [1, 2, 3, 4, 5]])
def test_the_commands_to_read_on_work_when_pasted(
    tmp_path: Path, scenarios: Scenarios, levels: list[int]
) -> None:
    folder = tmp_path / "my results"
    done = run_bench(tmp_path, scenarios(concurrencies=levels), "--results-dir", str(folder))
    assert_ran(done)
    told = re.findall(r"python (\S+/bench/\w+\.py .*)", done.stdout)
    assert [Path(words.split()[0]).name for words in told] == [
        *("summarize.py", "plot.py", "report.py")
    ]
    pasted = subprocess.run(
        [sys.executable, *shlex.split(told[0])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (pasted.returncode, pasted.stderr) == (0, "")
    assert len((folder / "summary.csv").read_text().splitlines()) == 1 + len(levels)
    assert len(told[0]) < len(str(folder)) + 120


def test_runs_of_one_call_are_of_one_session_and_resume_goes_on_with_it(
    tmp_path: Path, scenarios: Scenarios
) -> None:
    def sessions() -> list[str | None]:
        infos = map(read_run_info, (tmp_path / "results").glob("*.json"))
        return [i.session for i in sorted(infos, key=lambda i: i.clock_start.wall_s)]

    assert_ran(run_bench(tmp_path, scenarios(concurrencies=[1, 2])))
    first, second = sessions()
    assert first == second
    assert first
    assert_ran(run_bench(tmp_path, scenarios(concurrencies=[1, 2, 3]), "--resume"))
    assert sessions() == [first] * 3
    assert_ran(run_bench(tmp_path, scenarios(concurrencies=[2])))
    assert len(set(sessions())) == 2


def test_what_a_scenario_lacks_belongs_to_the_session_of_its_own_runs(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    def file_with(streams: list[int]) -> Path:
        one = {"base_url": tiny_vllm.base_url, "model": "tiny", "dataset": "sample"}
        size = {"max_new_tokens": 4, "num_requests": 12}
        both = {"a": {"concurrencies": streams}, "b": {"concurrencies": [1]}}
        every = {name: {**one, **size, **own} for name, own in both.items()}
        path = tmp_path / "two.yaml"
        path.write_text(json.dumps({"scenarios": every}), encoding="utf-8")
        return path

    for name in ("a", "b"):  # two sessions, of which b's is the newer one
        assert_ran(run_bench(tmp_path, file_with([1]), "--name", name))
    assert_ran(run_bench(tmp_path, file_with([1, 2]), "--resume"))
    infos = map(read_run_info, (tmp_path / "results").glob("*.json"))
    found = {(i.scenario["name"], i.concurrency): i.session for i in infos}
    assert found["a", 1] == found["a", 2] != found["b", 1]


def test_a_dry_run_that_resumes_says_what_is_complete(tmp_path: Path, scenarios: Scenarios) -> None:
    assert_ran(run_bench(tmp_path, scenarios(concurrencies=[1])))
    (rows,) = (tmp_path / "results").glob("*.csv")
    both = scenarios(concurrencies=[1, 2])
    done = run_bench(tmp_path, both, "--dry-run", "--resume")
    assert numbers(done.stdout.partition("\n")[0]) == [1, 12, 1]  # to run, requests, complete
    assert re.findall(r"(\S+) is complete", done.stdout) == [rows.stem]
    anew = run_bench(tmp_path, both, "--dry-run")
    assert numbers(anew.stdout.partition("\n")[0]) == [2, 24]
    assert "complete" not in anew.stdout
    away = scenarios(concurrencies=[1], base_url="http://127.0.0.1:9/v1")
    alone = run_bench(tmp_path, away, "--dry-run", "--resume")
    assert "complete" in one_line(alone.stderr)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": "file:gone.txt"}, "one: dataset: gone.txt: "),
        (
            {"trace": "gone.csv", "concurrencies": [], "num_requests": None},
            "one: trace: gone.csv: ",
        ),
    ],
)
def test_a_file_that_a_scenario_names_and_that_is_missing_is_wrong_usage(
    tmp_path: Path, scenarios: Scenarios, changes: dict[str, object], named: str
) -> None:
    # Told before anybody waits for a server that isn't there.
    path = scenarios(base_url="http://127.0.0.1:9/v1", **changes)
    for words in ((), ("--dry-run",)):
        done = run_bench(tmp_path, path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert named in one_line(done.stderr)


def test_prompts_that_cannot_be_had_name_the_scenario_and_the_data_set(
    tmp_path: Path, scenarios: Scenarios
) -> None:
    (tmp_path / "talks.jsonl").write_text('{"turns": ["Hello."]}\n')
    talks = {"dataset": "file:talks.jsonl", "conversations": {"turns": 4}}
    done = run_bench(tmp_path, scenarios(**talks), "--dry-run")
    assert done.returncode == 1
    named = set(one_line(done.stderr).split())
    assert {"one:", "file:talks.jsonl:", "conversations:"} <= named
    (tmp_path / "empty.txt").write_text("")
    done = run_bench(tmp_path, scenarios(dataset="file:empty.txt"), "--dry-run")
    assert {"one:", "file:empty.txt:"} <= set(one_line(done.stderr).split())


def test_a_label_names_the_runs_and_makes_them_others(
    tmp_path: Path, scenarios: Scenarios, bench: Bench
) -> None:
    path = scenarios(label="eight")
    bench(path)
    bench(path, "--label", "nine")
    names = sorted(path.name for path in (tmp_path / "results").glob("*.csv"))
    assert [name.split("-cc3-")[0] for name in names] == ["one-eight", "one-nine"]
    assert bench(path, "--label", "nine", "--resume").stderr.count("is complete") == 1
    refused = bench(path, "--label", "a/b")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_two_benches_that_start_in_one_second_have_a_name_each(
    tmp_path: Path, scenarios: Scenarios
) -> None:
    path = scenarios()
    both = [start_bench(tmp_path, path) for _ in range(2)]
    ended = [(process.communicate(timeout=LIMIT_S), process.returncode) for process in both]
    assert all(code in (0, 4) for _, code in ended), ended
    assert len(list((tmp_path / "results").glob("*.csv"))) == 2


@pytest.mark.parametrize("imported", ["argparse", "vllm_bench.errors", "yaml", "pydantic"])
def test_ctrl_c_while_it_still_imports_is_exit_130_without_a_traceback(
    tmp_path: Path, scenarios: Scenarios, imported: str
) -> None:
    words = command(tmp_path, scenarios(base_url="http://127.0.0.1:9/v1"))
    env = environment(tmp_path, PYTHONPROFILEIMPORTTIME="1")  # a line per module, as it comes
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    for line in process.stderr:
        if line.split("|")[-1].strip() == imported:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_a_start_that_is_refused_leaves_no_folder_and_takes_none_away(
    tmp_path: Path, scenarios: Scenarios
) -> None:
    (tmp_path / "mine").mkdir()
    for folder in ("new/results", "mine"):
        done = run_bench(
            tmp_path, scenarios(model="another"), "--results-dir", str(tmp_path / folder)
        )
        assert done.returncode == 2, done.stderr
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize(
    ("content", "asks", "code"),
    [
        ("when,prompt\n1,2\n", lambda path: {"trace": path, "concurrencies": []}, 2),
        ('{"turns": 3}\n', lambda path: {"trace": path}, 2),
        ("", lambda path: {"dataset": f"file:{path}"}, 1),
    ],
)
def test_nobody_waits_for_a_server_to_hear_of_a_mistake_in_a_file(
    tmp_path: Path,
    bench: Bench,
    scenarios: Scenarios,
    content: str,
    asks: Callable[[str], dict[str, object]],
    code: int,
) -> None:
    path = tmp_path / "given.txt"
    path.write_text(content)
    nobody = {"base_url": "http://127.0.0.1:9/v1", **asks(str(path))}
    done = bench(scenarios(**nobody), "--wait-s", "600")
    assert done.returncode == code, done.stderr
    assert str(path) in done.stderr.splitlines()[-1]


def test_wrong_usage_is_one_line_and_exit_2_before_any_request(
    bench: Bench, scenarios: Scenarios, tiny_vllm: TinyVllm
) -> None:
    path = scenarios()
    for words, hint in (
        (["--name", "onee"], "did you mean one"),
        (["--model", "tinny"], "it serves tiny"),
        (["--base-url", "ftp://x"], "must be http"),
        (["--dataset", "doly"], "did you mean dolly"),
        (["--scenarios", "nowhere.yaml"], "nowhere.yaml: can't be read"),
    ):
        done = bench(path, *words)
        assert done.returncode == 2, words
        (line,) = done.stderr.splitlines()
        assert hint in line
        assert not [r for r in tiny_vllm.requests if r.path == "/v1/chat/completions"]


def test_a_key_that_is_not_set_is_named_and_never_its_value(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.api_key = "s3cret-value"
    path = scenarios(api_key_env="MY_KEY")
    missing = bench(path)
    assert missing.returncode == 2
    assert "MY_KEY" in missing.stderr
    done = bench(path, MY_KEY="s3cret-value")
    assert_ran(done)
    written = b"".join(p.read_bytes() for p in (tmp_path / "results").rglob("*.*"))
    assert b"s3cret-value" not in written
    assert "s3cret-value" not in done.stdout + done.stderr


def test_no_server_is_one_line_and_exit_1(bench: Bench, scenarios: Scenarios) -> None:
    done = bench(scenarios(base_url="http://127.0.0.1:9/v1"), "--wait-s", "0")
    assert done.returncode == 1
    assert "make server" in done.stderr.splitlines()[-1]


def test_a_folder_that_cannot_be_written_is_found_before_the_first_request(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "results"
    done = bench(scenarios(), "--results-dir", str(folder))
    assert done.returncode == 1
    assert f"{folder}: " in one_line(done.stderr)
    assert not tiny_vllm.requests


def test_a_dry_run_shows_and_sends_nothing(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    done = bench(scenarios(), "--dry-run")
    assert done.returncode == 0, done.stderr
    (level,) = (line for line in done.stdout.splitlines() if "3 streams" in line)
    assert numbers(level)[:2] == [3, 12]
    assert "sha256 " in done.stdout
    assert "by server: " in done.stdout
    assert not [r for r in tiny_vllm.requests if r.path == "/v1/chat/completions"]
    assert not (tmp_path / "results").exists()


def test_a_dry_run_needs_no_server(bench: Bench, scenarios: Scenarios) -> None:
    done = bench(scenarios(base_url="http://127.0.0.1:9/v1"), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "by estimate: " in done.stdout


def test_prompts_over_the_context_are_told_before_they_are_sent(
    bench: Bench, scenarios: Scenarios, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.max_model_len = 90
    done = bench(scenarios(max_new_tokens=20))
    assert "max_model_len of 90" in done.stderr
