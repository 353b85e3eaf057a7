"""Flags that can't be followed are refused in a line, before anything is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines.running import KEY, SENDER, over
from tests.support.beside.waiting import LIMIT_S
from tests.support.running import ROOT

pytestmark = pytest.mark.process


def said(script: Path, *words: object, stdin: bytes = b"") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        input=stdin,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def test_a_search_needs_rows_as_they_come(tmp_path: Path) -> None:
    words = ("--name", "short_chat", *over(2), "--keep-rows-remote", "--results-dir", tmp_path)
    code, text = said(ROOT / "bench" / "capacity.py", *words)
    assert code == 2
    assert "--keep-rows-remote" in text
    assert list(tmp_path.iterdir()) == []


def test_without_machines_no_row_can_stay_elsewhere(tmp_path: Path) -> None:
    words = ("--concurrency", 2, "--keep-rows-remote", "--results-dir", tmp_path / "results")
    code, text = said(ROOT / "bench" / "bench.py", *words)
    assert code == 2
    assert "--keep-rows-remote" in text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    code, text = said(SENDER, "127.0.0.1:9", "--keep-in", tmp_path, "--wait-s", 0, stdin=KEY)
    assert code == 2
    assert str(tmp_path) in text
    assert "Traceback" not in text
