"""examples/machines: what can be run of them without a cluster is run, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from vllm_bench.simulator import simulator

from tests.support.beside.waiting import LIMIT_S
from tests.support.frames import read_frame

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "machines"
LOAD = "--model simulated --dataset sample --concurrency 4 --num-requests 20 --max-new-tokens 4"
ENDED = (0, 4)  # whatever the verdict on twenty requests is
# What Slurm's does with its standard input: each task gets all of it.
SRUN = """\
import subprocess, sys
words, given = sys.argv[1:], sys.stdin.buffer.read()
[count] = [int(w.partition("=")[2]) for w in words if w.startswith("--ntasks=")]
command = words[next(n for n, w in enumerate(words) if not w.startswith("--")):]
tasks = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
for task in tasks:
    task.stdin.write(given)
    task.stdin.close()
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[list[str]]:
    with simulator("--exact", "--ttft-ms", "5", "--itl-ms", "5") as (url, _):
        yield ["--base-url", url, *LOAD.split()]


def sent_by(folder: Path) -> list[int]:
    """Return how many requests each machine sent, in a run that has all of them."""
    [path] = folder.glob("*.csv")
    rows = read_frame(path)
    assert sorted(rows["request_index"]) == list(range(20))
    return sorted(Counter(rows["machine"]).values())


def test_the_script_for_slurm_starts_all_machines_by_one_command(
    server: list[str], tmp_path: Path
) -> None:
    fake = tmp_path / "srun"
    fake.write_text(f"#!{sys.executable}\n{SRUN}")
    fake.chmod(0o755)
    environ = {"SLURM_NNODES": "2", "SLURM_CPUS_ON_NODE": "2"}
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm.sh", *server, "--results-dir", tmp_path / "results"],
        cwd=ROOT,
        env={**os.environ, **environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode in ENDED, done.stderr
    assert sent_by(tmp_path / "results") == [10, 10]


def test_the_jobs_commands_meet_by_the_key_of_the_secret(server: list[str], tmp_path: Path) -> None:
    """The commands as they stand, but for what the cluster makes true: paths, the head's name."""
    (tmp_path / "key").write_text("4d" * 32 + "\n")
    objects = yaml.safe_load_all((EXAMPLES / "indexed_job.yaml").read_text())
    head, sender = (
        one["spec"]["template"]["spec"]["containers"][0] for one in objects if one["kind"] == "Job"
    )
    places = {
        "--machines=4": "--machines=2",
        "--key-file=/key/key": f"--key-file={tmp_path / 'key'}",
        "--results-dir=/results": f"--results-dir={tmp_path / 'results'}",
        "--listen=[$(POD_IP)]:7799": "--listen=127.0.0.1",
    }
    words = [places.get(word, word) for word in head["args"] if "--scenarios" not in word]
    process = subprocess.Popen(
        [sys.executable, *words, *server, "--plain"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    told = next(line for line in process.stderr if line.startswith("waiting for 2 machines"))
    command = [*sender["command"]]
    command[-1] = (
        command[-1]
        .replace("vllm-bench-head:7799", told.split()[-1])
        .replace("/key/key", str(tmp_path / "key"))
        .replace("/kept/rows", str(tmp_path / "kept"))
        .replace("python", sys.executable)
    )
    senders = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    process.communicate(timeout=LIMIT_S)
    assert process.returncode in ENDED
    assert [one.wait(LIMIT_S) for one in senders] == [0, 0]
    assert sent_by(tmp_path / "results") == [10, 10]
