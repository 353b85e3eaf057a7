"""inspect_prompts.py as a person would run it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vllm_bench.plan.drawing.texts import scenario_counter, scenario_prompts
from vllm_bench.prompts.listing import histogram, length_summary
from vllm_bench.prompts.source import load_source
from vllm_bench.records.text import escaped
from vllm_bench.scenario.scenario import load_scenarios
from vllm_bench.vllm.server import Server

from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import TinyVllm
from tests.support.reading import numbers, one_line

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "inspect_prompts.py")


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)],
        env=environment(folder), cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "VLLM_BENCH_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONUTF8": "1",
    }


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    lines = [f"Question {i:03d}: " + "what about it, then? " * (i % 40) for i in range(200)]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    return "file:mine.txt"


def scenario_file(folder: Path, **keys: object) -> Path:
    settings = {
        "model": "tiny", "dataset": f"file:{folder}/mine.txt", "max_new_tokens": 8,
        "concurrencies": [1], "num_requests": 12, "prefill_tokens": 60, "seed": 5, **keys,
    }  # fmt: skip
    path = folder / "scenarios.yaml"
    path.write_text(json.dumps({"scenarios": {"mine": settings}}))
    return path


def test_it_says_how_many_fit_how_long_they_are_and_shows_some(
    tmp_path: Path, prompts: str
) -> None:
    done = run(tmp_path, "--dataset", prompts, "--show", 3, "--min-tokens", 50)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    # A question of 10 repeats or more has 223 characters, 50 tokens: 30 of each 40 have.
    assert lines[0].startswith("file:mine.txt: ")
    assert numbers(lines[0]) == [150, 150, 200]  # prompts, different ones, in the set
    assert "by estimate: " in lines[2]
    assert numbers(lines[2])[0] == 50  # the shortest
    assert sum(line.startswith("--- ") for line in lines) == 3
    bins = [line.split() for line in lines if line.startswith("  ")]
    assert sum(int(words[-1]) for words in bins) == 150
    estimated, left_out = (line for line in lines if line.startswith("Note: "))
    assert numbers(left_out) == [200, 50, 50]  # looked at, left out, the shortest that is wanted
    assert "estimated" in estimated


def test_a_file_of_ones_own_is_shown_whole_unless_lengths_are_asked_for(
    tmp_path: Path, prompts: str
) -> None:
    long = tmp_path / "long.txt"
    long.write_text("Hi\n" + "word " * 3000 + "\nBye\n")
    for words, found in (((), 3), (("--min-tokens", 2), 1), (("--max-tokens", 500), 2)):
        done = run(tmp_path, "--dataset", "file:long.txt", *words)
        assert numbers(done.stdout.partition("\n")[0])[0] == found, words
    assert numbers(run(tmp_path, "--dataset", prompts).stdout.partition("\n")[0])[0] == 200


def test_each_prompt_stands_once_in_both_files_and_the_saved_ones_can_be_sent(
    tmp_path: Path, prompts: str
) -> None:
    done = run(
        tmp_path, "--dataset", prompts, "--min-tokens", 100, "--save-text", "new/folder/a.txt",
        "--save-jsonl", "b.jsonl", "--show", 0,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.endswith(" b.jsonl\n")
    rows = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert all(100 <= row["tokens"] <= 500 for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) > 50
    text = (tmp_path / "new" / "folder" / "a.txt").read_text()
    assert [line.split()[2].rstrip(",") for line in text.splitlines() if line[:4] == "--- "] == [
        row["id"] for row in rows
    ]
    again = load_source(f"file:{tmp_path}/b.jsonl", cache_dir=tmp_path)
    assert [p.text for p in again.prompts] == [row["prompt"] for row in rows]


def test_a_seed_gives_the_same_prompts_again_and_another_gives_others(
    tmp_path: Path, prompts: str
) -> None:
    first, again, other = (
        run(tmp_path, "--dataset", prompts, "--seed", seed).stdout for seed in (1, 1, 2)
    )
    assert first == again != other


def test_no_more_than_500_prompts_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"{i} " + "word " * 50 for i in range(700)))
    done = run(tmp_path, "--dataset", "file:many.txt")
    assert numbers(done.stdout.partition("\n")[0]) == [500, 500, 700]


def test_control_characters_are_spelled_out_on_the_terminal_and_kept_in_jsonl(
    tmp_path: Path,
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07 \u202etxt\r \x9b31m " + "word " * 60
    (tmp_path / "evil.jsonl").write_text(json.dumps({"prompt": evil}))
    done = run(
        tmp_path, "--dataset", "file:evil.jsonl", "--save-text", "t.txt", "--save-jsonl", "j.jsonl"
    )
    spelled_out = "\\x1b[2J\\x1b]0;owned\\x07 \\u202etxt\\r \\x9b31m "
    for text in (done.stdout, (tmp_path / "t.txt").read_text()):
        assert spelled_out in text
        assert not set(text) & set("\x1b\x07\r\x9b\u202e")
    assert json.loads((tmp_path / "j.jsonl").read_text())["prompt"] == evil


def test_a_scenario_is_shown_as_it_would_be_sent(tmp_path: Path, prompts: str) -> None:
    path = scenario_file(tmp_path)
    scenario = load_scenarios(path)["mine"]
    source = load_source(scenario.dataset, cache_dir=tmp_path)
    expected = scenario_prompts(scenario, source, scenario_counter(scenario, None, tmp_path))
    done = run(tmp_path, "--scenarios", path, "--scenario", "mine", "--show", 99)
    assert f"sha256 {expected.sha256}\n" in done.stdout
    shown = [line.split()[2].rstrip(",") for line in done.stdout.splitlines() if line[:4] == "--- "]
    assert shown == [prompt.id for prompt in expected.prompts]
    assert "--base-url" in done.stdout.partition("\n")[0]  # with it the server would count


def test_a_scenario_of_conversations_shows_their_turns(tmp_path: Path) -> None:
    talks = tmp_path / "talks.jsonl"
    first, second = "Who are you?", "And who am I?"
    talks.write_text(json.dumps({"turns": [first, second]}) + "\n")
    path = scenario_file(
        tmp_path,
        dataset=f"file:{talks}",
        prefill_tokens=None,
        conversations={"turns": 2},
        num_requests=2,
    )
    done = run(tmp_path, "--scenarios", path, "--scenario", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index(f"#1\n{first}") < done.stdout.index(f"#2\n{second}")


def test_a_scenario_by_the_clock_shows_as_many_prompts_as_it_sends(
    tmp_path: Path, prompts: str
) -> None:
    path = scenario_file(
        tmp_path,
        dataset=prompts,
        concurrencies=[],
        num_requests=None,
        request_rates=[2],
        arrival="constant",
        duration_s=4,
    )
    done = run(tmp_path, "--scenarios", path, "--scenario", "mine")
    assert ": 8 prompts, " in done.stdout, done.stdout + done.stderr


def test_with_its_server_a_scenario_shows_the_runs_very_prompts(
    tmp_path: Path, prompts: str, tiny_vllm: TinyVllm
) -> None:
    path = scenario_file(
        tmp_path, base_url=tiny_vllm.base_url, model=tiny_vllm.model, system_prompt="Be brief."
    )
    scenario = load_scenarios(path)["mine"]
    server = Server(scenario.base_url, None, {})
    source = load_source(scenario.dataset, cache_dir=tmp_path)
    expected = scenario_prompts(scenario, source, scenario_counter(scenario, server, tmp_path))
    server.close()
    assert expected.counted_by == "server"
    done = run(
        tmp_path, "--scenarios", path, "--scenario", "mine", "--base-url", tiny_vllm.base_url
    )
    assert done.stderr == ""
    assert f"sha256 {expected.sha256}\n" in done.stdout
    assert "by server: " in done.stdout
    assert "--base-url" not in done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--scenario", "mine", "--seed", "0"], "--seed --scenario"),
        (["--scenario", "mine", "--dataset", "sample"], "--dataset --scenario"),
        (["--scenario", "mine", "--min-tokens", "1"], "--min-tokens --scenario"),
        (["--scenarios", "f.yaml"], "--scenarios --scenario"),
        (["--base-url", "http://localhost/v1"], "--base-url --scenario"),
        (["--min-tokens", "600"], "--min-tokens 600 --max-tokens 500"),
        (["--dataset", "dolli"], "--dataset dolli: dolly? file:PATH;"),
        (["--dataset", "file:"], "--dataset file:: file:PATH"),
        (["--dataset", "file:no.txt"], "--dataset file:no.txt: file"),
        (["--dataset", "file:mine.txt", "--save-jsonl", "./mine.txt"], "mine.txt: prompts file:"),
        (["--save-jsonl", "/dev/null"], "--save-jsonl /dev/null:"),
        (["--save-text", "/dev/stdout"], "--save-text /dev/stdout:"),
        (["--show", "-1"], "--show: -1:"),
        (["--save-text", "a", "--save-jsonl", "a"], "--save-text --save-jsonl"),
        (["--scenario", "mini"], "--scenario mini: scenarios.yaml mine?"),
        (["--save-text", "."], "--save-text .:"),
        (["--save-jsonl", "/"], "--save-jsonl /:"),
        (["--scenario", "mine", "--scenarios", "no.yaml"], "no.yaml:"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, prompts: str, words: list[str], named: str
) -> None:
    scenario_file(tmp_path)
    extra = ["--scenarios", "scenarios.yaml"] if words == ["--scenario", "mini"] else []
    done = run(tmp_path, *words, *extra)
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert all(word in line for word in named.split())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--dataset", "file:empty.txt"], "file:empty.txt: "),
        (["--dataset", "file:mine.txt", "--min-tokens", "499"], "499"),
        ([], "databricks/databricks-dolly-15k"),
        (["--dataset", "file:mine.txt", "--save-text", "mine.txt/a"], "mine.txt/a: "),
    ],
)
def test_what_cannot_be_had_ends_in_one_line(
    tmp_path: Path, prompts: str, words: list[str], named: str
) -> None:
    (tmp_path / "empty.txt").touch()
    done = run(tmp_path, *words)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith("inspect_prompts.py: ")
    assert named in line


@pytest.mark.parametrize("words", ["--show 500 | head -n 1", "--show 0 | (exec 0<&-; echo -)"])
def test_a_closed_pipe_ends_it_quietly(tmp_path: Path, prompts: str, words: str) -> None:
    command = f"{sys.executable} {SCRIPT} --dataset {prompts} {words}"
    done = subprocess.run(
        ["bash", "-c", command + "; echo ${PIPESTATUS[0]}"],
        env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] == "0"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_it_was_told_to_write_is_whole_though_nobody_reads_on(
    tmp_path: Path, prompts: str, unbuffered: str
) -> None:
    words = f"--dataset {prompts} --show 500 --save-jsonl j.jsonl --save-text t.txt"
    whole = run(tmp_path, *words.split())
    assert whole.stdout.splitlines()[-2:] == [f"Wrote 200 prompts to {n}" for n in (
        "t.txt", "j.jsonl")]  # fmt: skip
    kept = [(tmp_path / name).read_bytes() for name in ("j.jsonl", "t.txt")]
    script = f"{sys.executable} {SCRIPT} {words}"
    for reader in ("head -n 1", "(exec 0<&-; echo -)"):
        for name in ("j.jsonl", "t.txt"):
            (tmp_path / name).unlink()
        done = subprocess.run(
            ["bash", "-c", f"{script} | {reader}; echo ${{PIPESTATUS[0]}}"],
            env={**environment(tmp_path), "PYTHONUNBUFFERED": unbuffered}, cwd=tmp_path,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "0")
        assert [(tmp_path / name).read_bytes() for name in ("j.jsonl", "t.txt")] == kept


def memory_of(pid: int) -> int:
    """Return the bytes that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    lines = "".join(f"{i} " + "please tell me more " * 20 + "\n" for i in range(200_000))
    (tmp_path / "slow.txt").write_text(lines)
    running = subprocess.Popen(
        [sys.executable, SCRIPT, "--dataset", "file:slow.txt"],
        env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    with running.stderr as said:
        while memory_of(running.pid) < len(lines):  # until it has read the file
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        assert (running.wait(LIMIT_S), said.read()) == (130, "")


@pytest.mark.parametrize("script", ["bench/inspect_prompts.py", "bench/load_real_prompts.py"])
def test_help_answers_at_once(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=True
    )
    assert "usage:" in done.stdout
    heavy = "datasets tokenizers numpy rich pydantic httpx huggingface_hub"
    program = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"sys.path.insert(0, {str((ROOT / script).parent)!r})\n"
        f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        f"except SystemExit: print('HEAVY', set({heavy!r}.split()) & set(sys.modules))"
    )
    imported = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert imported.stdout.endswith("HEAVY set()\n")


# Listing


def test_escaping_keeps_what_people_read() -> None:
    assert escaped("naïve🙂\n\t数据\r\n") == "naïve🙂\n    数据\n"


def test_a_histogram_has_at_most_ten_bins_that_hold_every_length() -> None:
    for lengths in ([5], [5, 5], [1, 2, 3], list(range(1000)), [1, 5000]):
        lines = list(histogram(lengths))
        assert len(lines) <= 10
        assert sum(int(line.split()[-1]) for line in lines) == len(lengths)


def test_lengths_are_summed_up() -> None:
    assert numbers(length_summary([1, 2, 6])) == [1, 2, 3, 6]  # min, median, mean, max
