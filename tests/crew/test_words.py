"""What broke a sending process, in words: as it is for whoever foresaw it, else with its kind."""

from __future__ import annotations

import pytest
from vllm_bench.crew.worker import RunError
from vllm_bench.send.outbox import in_words

FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (RunError("sending process 0 died\nbefore the start"), "sending process 0 died before"),
        (FULL, "No space left on device"),
        (OSError(28, "No space left on device", "/kept/file"), "/kept/file: No space left"),
        (OSError("as it is"), "OSError: as it is"),
        (KeyError("name"), "KeyError: 'name'"),
    ],
)
def test_a_problem_in_words(problem: BaseException, words: str) -> None:
    assert in_words(problem).startswith(words)
    assert "\n" not in in_words(problem)
