"""What is no ordinary file in a results folder holds nobody up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scripts.conftest import Bench, Scenarios, bench, scenarios  # noqa: F401
from tests.support.running import assert_ran

pytestmark = pytest.mark.process


def test_pipes_folders_and_devices_named_as_runs_hold_up_no_run(
    bench: Bench,  # noqa: F811
    scenarios: Scenarios,  # noqa: F811
    tmp_path: Path,
) -> None:
    results = tmp_path / "results"
    (results / "folder.json").mkdir(parents=True)
    (results / "folder.csv").mkdir()
    for name in ("pipe", "half"):
        os.mkfifo(results / f"{name}.json")
    os.mkfifo(results / "pipe.csv")
    (results / "half.csv").write_text("run_id\n", encoding="utf-8")
    (results / "device.json").symlink_to("/dev/zero")
    (results / "device.csv").symlink_to("/dev/zero")
    done = bench(scenarios(), "--resume")
    assert_ran(done)
    assert len(list(results.glob("one-*.csv"))) == 1
