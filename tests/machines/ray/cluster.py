"""Somebody's Ray cluster, as a program: three nodes to send from, one of them its head.

Says on standard output where it is, and ends with its standard input, with all that it started.
Ray is in here alone, so the tests themselves need no filter for its warnings.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))

from ray.cluster_utils import Cluster
from vllm_bench.machines.engines.orphans import adopt_orphans, end_descendants, take_note

NODE = {
    "node_ip_address": "127.0.0.1",
    "num_cpus": 0,
    "object_store_memory": 80 << 20,
    "include_log_monitor": False,
    "resources": {"sender": 1},
}


def main() -> None:
    adopt_orphans()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(wait=False, **NODE)
    cluster.wait_for_nodes(60)
    print(cluster.address, file=said, flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        take_note()
    end_descendants(10)
    os._exit(0)


if __name__ == "__main__":
    main()
