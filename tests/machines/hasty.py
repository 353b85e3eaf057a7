"""bench.py or sender.py, for whom 5 s of silence are enough: `hasty.py sender.py HOST:PORT`."""

from __future__ import annotations

import importlib
import sys

from vllm_bench.crew import worker
from vllm_bench.script import run

worker.FROZEN_S = 5.0  # before anybody takes it from there

if __name__ == "__main__":
    sys.argv.pop(0)
    sys.exit(run(importlib.import_module(sys.argv[0].removesuffix(".py")).main, aside=True))
