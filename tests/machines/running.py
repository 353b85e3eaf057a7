"""A load from several machines that are all this one: bench.py, and sender.py for each of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.beside.waiting import LIMIT_S
from tests.support.running import BENCH, ROOT, environment, write_prompts
from tools.hostile.processes import children

SENDER = ROOT / "bench" / "sender.py"
ONE = f"{sys.executable} {SENDER}"  # a command for --senders
HASTY = ROOT / "tests" / "machines" / "hasty.py"  # bench.py or sender.py with less patience
KEY = b"sixteen bytes or more of a key"


def load(folder: Path, url: str, *words: object, script: Path = BENCH) -> list[str]:
    """Return a call of bench.py: 8 streams of 20 tokens, unless `words` say something else."""
    prompts = folder / "prompts.txt"
    if not prompts.exists():
        write_prompts(folder)
    return [
        *(sys.executable, str(script), "--base-url", f"{url}/v1", "--model", "simulated"),
        *("--dataset", f"file:{prompts}", "--max-new-tokens", "20", "--plain"),
        *("--set", "warmup_requests=0", "--results-dir", str(folder / "results")),
        *map(str, words),
    ]


def over(count: int, command: str = ONE) -> list[str]:
    """Return the flags for so many machines, each started by this command."""
    return [word for _ in range(count) for word in ("--senders", command)]


def run_load(
    folder: Path, url: str, *words: object, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        load(folder, url, *words),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(folder, PYTHONWARNINGS="error", **env),
    )


@contextmanager
def started(
    words: Sequence[str], folder: Path, stdin: bytes = b"", **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a script of ours, in a session of its own; at the block's end it is gone."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(folder, **env),
        start_new_session=True,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it ended before it read
        process.stdin.write(stdin)
        process.stdin.close()
    process.stdin = None  # or communicate() closes it again
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def said(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for its end; return the exit code, and all that it said."""
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, (out + err).decode()


def foremen(bench: int) -> list[int]:
    """Return the foremen that a bench.py started by --senders."""
    return children(bench, "sender.py")
