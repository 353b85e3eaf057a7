"""Flags for several machines that can't be meant are refused before anything else is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.errors import UsageError
from vllm_bench.machines.asked import Asked, check, say_dry
from vllm_bench.machines.engines import ray_engine

from tests.support.beside.waiting import LIMIT_S
from tests.support.running import BENCH

KEY = b"sixteen bytes or more of a key"
START = sys.executable  # any program that is there


def refused(**flags: Any) -> str:
    with pytest.raises(UsageError) as e:
        check(Asked(**flags), pytest.fail)
    return str(e.value)


@pytest.fixture(autouse=True)
def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda _: sys.__spec__ or pytest.__spec__)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"senders": [START], "ray": "auto"}, ("--senders", "--ray")),
        ({"senders": [START] * 3, "machines": 2}, ("--machines 2", "3 --senders")),
        ({"senders": [START], "listen": "0"}, ("--listen",)),
        ({"senders": [START], "listen": ""}, ("--listen",)),
        ({"senders": [START], "key_file": Path("/no/such/file")}, ("--key-file",)),
        ({"ray": "local:2", "machines": 3}, ("--ray local:2", "--machines 3")),
        ({"machines": 2}, ("--listen", "--key-file")),
        ({"machines": 2, "listen": "127.0.0.1:7799"}, ("--key-file",)),
        ({"listen": "127.0.0.1"}, ("--listen",)),
        ({"listen": ""}, ("--listen",)),
        ({"key_file": Path("key")}, ("--key-file",)),
        ({"keep_rows_remote": True}, ("--keep-rows-remote",)),
    ],
)
def test_what_excludes_or_lacks_something_is_wrong_usage(
    flags: dict[str, Any], named: tuple[str, ...]
) -> None:
    said = refused(**flags)
    assert [word for word in named if word not in said] == []


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"senders": [START] * 2, "machines": 2},
        {"senders": [START], "machines": 5},  # one srun
        {"ray": "local:3", "machines": 2},
        {"ray": "10.0.0.1:6379", "machines": 500},
        {"senders": [START], "listen": "[::1]:7799"},
    ],
)
def test_what_fits_together_is_not_complained_about(flags: dict[str, Any]) -> None:
    check(Asked(**flags), pytest.fail)


@pytest.mark.parametrize(("mode", "notes"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_a_key_that_everybody_may_read_is_said(tmp_path: Path, mode: int, notes: int) -> None:
    key, said = tmp_path / "key", list[str]()
    key.write_bytes(KEY)
    key.chmod(mode)
    check(Asked(senders=[START], key_file=key), said.append)
    assert len([line for line in said if str(key) in line]) == notes
    assert KEY.decode() not in "".join(said)


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ({"senders": [START]}, "1 machine,"),
        ({"ray": "local:3"}, "3 machines,"),
        ({"ray": "auto", "machines": 4}, "4 machines,"),
    ],
)
def test_a_dry_run_says_how_many_send(flags: dict[str, Any], count: str) -> None:
    said = list[str]()
    say_dry(Asked(**flags), said.append)
    assert [count in line for line in said] == [True]


@pytest.mark.process
@pytest.mark.parametrize("script", ["bench", "capacity", "tune", "ab"])
def test_each_script_looks_at_them_first(script: str, tmp_path: Path) -> None:
    path = BENCH.with_name(f"{script}.py")
    words = ("--senders", "no-such-program", "--results-dir", str(tmp_path / "results"))
    named = ("--name", "short_chat", *(["a.env", "b.env"] if script == "ab" else []))
    done = subprocess.run(
        [sys.executable, path, *named, *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "no-such-program" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
