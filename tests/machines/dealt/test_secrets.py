"""Keys that the head reads are in machines' memory alone: in no file, command or variable there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.machines.running import foremen, load, over, said, started
from tests.sim.simulated import Simulated
from tests.support.beside.waiting import wait_until
from tools.hostile.processes import senders_of

KEYS = {
    "MY_SERVER": "a-key-of-the-scenarios-own",
    "VLLM_API_KEY": "a-key-of-vllm-in-the-variable",
    "HF_TOKEN": "hf_a-token-of-the-hub",
}
HEADER = "a-word-in-a-header"
SECRETS = (*KEYS.values(), HEADER)
SLOW = ("--exact", "--ttft-ms", "5", "--itl-ms", "50", "--api-key", KEYS["MY_SERVER"])


def with_secrets(paths: list[Path]) -> list[Path]:
    """Return those of these files that have one of them."""
    return [path for path in paths if any(s.encode() in path.read_bytes() for s in SECRETS)]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def manned(bench: int) -> dict[int, list[int]]:
    """Return a bench.py's foremen that have sending processes, with these."""
    return {one: theirs for one in foremen(bench) if (theirs := senders_of(one))}


@pytest.mark.process
def test_no_key_is_in_a_file_a_command_or_a_variable_of_a_machine(tmp_path: Path) -> None:
    asked = ("--set", "api_key_env=MY_SERVER", "--set", f"headers={{X-Tenant: {HEADER}}}")
    with Simulated(*SLOW) as server:
        words = load(tmp_path, server.url, "--concurrency", 4, "--num-requests", 4000, *over(2))
        with started([*words, *asked], tmp_path, **KEYS) as bench:
            wait_until(lambda: bench.poll() is not None or len(manned(bench.pid)) == 2)
            assert bench.poll() is None, said(bench)
            machines = manned(bench.pid)
            kept = wait_until(lambda: len(found := files(tmp_path / "state")) == 2 and found)
            assert with_secrets(kept) == []
            for pid in (*machines, *(sender for some in machines.values() for sender in some)):
                proc = Path("/proc", str(pid))
                assert with_secrets([proc / "cmdline", proc / "environ"]) == []
            bench.send_signal(signal.SIGINT)
            code, text = said(bench)
    assert code == 130, text
    assert not any(secret in text for secret in SECRETS)
    assert with_secrets(files(tmp_path)) == []
    assert len(list((tmp_path / "results").glob("*.csv"))) == 1
