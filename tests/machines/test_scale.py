"""What makes a head cheap says the same as what it stands for; and the tool that measures it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew.judged import Judged
from vllm_bench.live.last_seconds import token_gaps_ms
from vllm_bench.records.row import replaced

from tests.support.beside.waiting import LIMIT_S
from tests.support.made_runs import made_record

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    *("row_us", "token_us", "token_without_file_us", "token_shown_us", "machine_us_a_second"),
    *("closing_row_us", "closing_token_us", "row_bytes", "token_bytes", "machine_bytes"),
    *("head_mb", "late_ms", "stay_us_a_second", "fetched_row_us", "fetched_rows_per_s"),
}


def judged(events: Sequence[int]) -> Judged:
    stamps = array("q", range(100, 100 + len(events)))
    return Judged("measured", made_record(7), (stamps, array("H", events), array("H", events)))


@given(st.lists(st.integers(1, 4), max_size=20))
def test_each_event_has_the_stamp_of_its_read(events: list[int]) -> None:
    one = judged(events)
    assert list(one.stamps) == [100 + n for n, count in enumerate(events) for _ in range(count)]


def test_a_row_crosses_as_it_is_and_is_changed_as_any_dataclass_is() -> None:
    one = judged([1, 2, 1])
    assert pickle.loads(pickle.dumps(one)) == one
    row = one.record
    assert replaced(row) == row
    changed = replaced(row, t_end_s=5.0, machine="b")
    assert changed == dataclasses.replace(row, t_end_s=5.0, machine="b")
    assert row == made_record(7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.t_end_s = 6.0  # type: ignore[misc]


def plain_gaps_ms(stamps: Sequence[int], tokens: int) -> list[float]:
    """The same by its definition: a read shares its wait among its events."""
    reads = [(stamp, len([*group])) for stamp, group in itertools.groupby(stamps)]
    per_event = max(1.0, tokens / len(stamps)) if stamps else 1.0
    return [
        (stamp - before) / 1e6 / (events * per_event)
        for (before, _), (stamp, events) in itertools.pairwise(reads)
        for _ in range(events)
    ]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 90))
def test_gaps_between_tokens_are_those_of_their_reads(steps: list[int], tokens: int) -> None:
    stamps = [*itertools.accumulate(step * 7_000_000 for step in steps)]
    wanted = pytest.approx(plain_gaps_ms(stamps, tokens))
    assert [*token_gaps_ms(stamps, tokens)] == wanted
    assert [*token_gaps_ms(array("q", stamps), tokens)] == wanted


@pytest.mark.process
def test_the_tool_measures_a_head(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    small = ("--seconds", "0.3", "--repeats", "1", "--rate", "100", "--tokens", "3")
    command = [sys.executable, "-m", "tools.scale", *small, "--machines", "1", "2", "--no-search"]
    command += ["--json", str(file)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["costs"].keys() == KEYS
    assert found["steps_3"]["bytes"] > found["steps_0"]["bytes"] > 0
    assert all(f"| {key} |" in done.stdout for key in KEYS)
