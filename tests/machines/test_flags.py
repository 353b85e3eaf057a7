"""What asks for several machines is never taken for nothing."""

from __future__ import annotations

import sys

import pytest

import bench


@pytest.mark.parametrize("given", ["0", "-1", "two", "", "1.5"])
def test_a_number_of_machines_is_one_or_more(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "--senders", "x", "--machines", given])
    with pytest.raises(SystemExit) as ended:
        bench._parse()
    assert ended.value.code == 2
