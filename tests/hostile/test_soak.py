"""The bars of `make soak`: each can be missed."""

from __future__ import annotations

import random

import pytest

from tools.hostile.left import LeftRun, Row
from tools.hostile.processes import Size
from tools.soak import LEDGER, Bar, Reading, growth_bars, run_bars, slope_of

MB, RATE, REQUESTS = 1_000_000, 100.0, 5


def readings(bench_mb_min: float = 0.0, sender_mb_min: float = 0.0, **more: int) -> list[Reading]:
    """Looks of ten minutes, two a minute, with a noise of a tenth of a MB."""
    rng = random.Random(3)

    def size(mb_min: float, minute: float, descriptors: int = 20, threads: int = 3) -> Size:
        return Size(round((70 + mb_min * minute + rng.random() / 10) * MB), descriptors, threads)

    grown = {"descriptors": 20, "threads": 3, "late": 0, **more}
    made = []
    for i in range(20):
        last = i > 15
        sizes = {
            "bench": size(bench_mb_min, i / 2),
            "sender 0": size(
                sender_mb_min,
                i / 2,
                grown["descriptors"] if last else 20,
                grown["threads"] if last else 3,
            ),
        }
        made.append(Reading(i * 30.0, 1000 * i, 1000 * i + (grown["late"] if last else 0), sizes))
    return made


def missed(bars: list[Bar]) -> set[str]:
    return {bar.name for bar in bars if not bar.met}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (readings(), set()),
        (readings(bench_mb_min=0.45), set()),  # 40 bytes for each of 6,000 requests a minute
        (readings(bench_mb_min=0.7), {"memory of bench"}),
        (readings(sender_mb_min=0.5), {"memory of sender 0"}),
        (readings(descriptors=60), {"descriptors of sender 0"}),
        (readings(threads=4), {"threads of sender 0"}),
        (readings(late=7), {"rows in time"}),
    ],
)
def test_what_grows_or_comes_late_misses_its_bar(given: list[Reading], found: set[str]) -> None:
    assert missed(list(growth_bars(given, RATE))) == found


def test_no_looks_are_no_pass() -> None:
    assert missed(list(growth_bars([], RATE))) == {"rows in time"}


def test_a_line_through_the_points() -> None:
    assert slope_of([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope_of([(0, 1), (1, 3)]) == 0


def soaked(**counters: float) -> LeftRun:
    after = dict(zip(LEDGER, (17.0, 340.0, 136.0), strict=True)) | counters
    before = dict(zip(LEDGER, (10.0, 200.0, 80.0), strict=True))
    info = {
        "status": "complete",
        "num_requests": REQUESTS,
        "unmeasured": {
            "warmup": 1,
            "tail": 2,
            "failed": 1,
            "prompt_tokens": 40,
            "completion_tokens": 16,
        },
        "server_counters": {
            "before": {f"vllm:{name}": value for name, value in before.items()},
            "after": {f"vllm:{name}": value for name, value in after.items()},
        },
    }
    rows = [Row(f"a-{i}", i, 1.0, "", 20, 8) for i in range(REQUESTS)]
    return LeftRun("a", rows, info=info)


def test_the_ledger_agrees_to_the_last_token() -> None:
    assert missed(list(run_bars(soaked()))) == set()
    for name in LEDGER:
        assert missed(list(run_bars(soaked(**{name: 341.0})))) == {f"ledger, {name}"}


def test_rows_that_are_missing_or_failed_miss_their_bars() -> None:
    short = soaked()
    del short.rows[3]
    assert "rows" in missed(list(run_bars(short)))
    failed = soaked()
    failed.rows[3] = Row("a-3", 3, 1.0, "truncated", None, None)
    assert {"failures", f"ledger, {LEDGER[0]}"} <= missed(list(run_bars(failed)))
    assert {"rows", f"ledger, {LEDGER[0]}"} <= missed(list(run_bars(LeftRun("a"))))
