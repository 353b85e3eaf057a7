"""The parent's side of a run: what a sending process leaves in its pipe when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from typing import Any

import pytest
from vllm_bench.live.progress import Progress
from vllm_bench.run.client_health import WorkerHealth
from vllm_bench.run.crew import Worker
from vllm_bench.run.runner import _Run
from vllm_bench.send.tickets import Tickets

from tests.support.made_plans import made_plan


@pytest.mark.parametrize("torn", [0, 2, 4, 40])
def test_a_message_that_a_kill_tore_is_the_end_of_a_sending_process_and_not_of_the_run(
    torn: int,
) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    orders, _ = multiprocessing.Pipe(duplex=False)
    nobody: Any = None
    tickets = Tickets(1)
    worker = Worker(nobody, orders, ours, tickets, WorkerHealth(0, None, 1))
    progress = Progress(planned=1, started_s=0.0)
    run = _Run(made_plan(1), [worker], progress, nobody)
    whole = pickle.dumps(b"x" * 100)
    os.write(theirs.fileno(), (struct.pack("!i", len(whole)) + whole)[:torn])
    theirs.close()
    run._take_batch(worker)
    assert worker.health.lost
    assert run._working == {}
    tickets.close()
    ours.close()
    orders.close()
