"""bench.py on a kernel that stamps nothing: each process, the sending ones too, uses its own clock.

A sending process begins by running the main module again, as `__mp_main__`, and so comes past here.
"""

from __future__ import annotations

import sys

from vllm_bench.script import run
from vllm_bench.wire import clock

clock.SO_TIMESTAMPNS = -1  # no option of any kernel's

if __name__ == "__main__":
    import bench

    sys.exit(run(bench.main))
