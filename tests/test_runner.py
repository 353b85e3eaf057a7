"""The parent's side of a run: what a sending process leaves in its pipe when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from loadgen.crew import Worker
from loadgen.runner import _Run


@pytest.mark.parametrize("torn", [0, 2, 4, 40])
def test_a_message_that_a_kill_tore_is_the_end_of_a_sending_process_and_not_of_the_run(
    torn: int,
) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    orders, _ = multiprocessing.Pipe(duplex=False)
    nobody: Any = None
    worker = Worker(0, nobody, None, orders, ours, 1)
    plan: Any = SimpleNamespace(measured=1)
    run = _Run(plan, [worker])
    whole = pickle.dumps(b"x" * 100)
    os.write(theirs.fileno(), (struct.pack("!i", len(whole)) + whole)[:torn])
    theirs.close()
    run._take_batch(worker)
    assert worker.lost
    assert run._working == {}
    ours.close()
    orders.close()
