"""Which clock the stamps of a run are of, where its processes may differ."""

from __future__ import annotations

import pytest
from vllm_bench.crew.health import clock_facts
from vllm_bench.wire.clock import ClockFacts

S = 1_000_000_000
START_NS = 100 * S
KERNEL = ClockFacts(None, "", 200)
STEPPED = ClockFacts(START_NS + 12_340_000_000, "step", 90)
LATER = ClockFacts(START_NS + 50 * S, "step", 300)
NEVER = ClockFacts(START_NS - S, "no stamp", 100)


@pytest.mark.parametrize(
    ("clocks", "word", "error_ms"),
    [
        ([KERNEL, KERNEL], "kernel", 0.0002),
        ([KERNEL, LATER, STEPPED], "kernel until a step at 12.3 s", 0.0003),
        ([KERNEL, NEVER], "process", None),
        ([STEPPED, NEVER], "process", None),
        ([], "process", None),  # all of them died
    ],
)
def test_a_run_is_as_exact_as_the_worst_of_its_processes(
    clocks: list[ClockFacts], word: str, error_ms: float | None
) -> None:
    assert clock_facts(clocks, START_NS) == {"clock": word, "clock_error_ms": error_ms}
