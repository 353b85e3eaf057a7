"""Ray (an optional extra) places foremen, one a node; it carries no request, order or row.

This file alone imports it, and is a program: a process beside bench.py (ray_engine.py starts it)
which attaches to a cluster, or makes one of its own, places an actor (at_node.py) on each node with
the resource `sender`, and ends when its standard input does: with bench.py, however that ends.
Senders that have lost bench.py end by themselves; for some seconds the actors are left to them,
then they are killed. Ray's threads, its signal handlers, and all that it prints stay out of
bench.py.

What is open to whom: whoever reaches a Ray cluster's ports can run any program on all its nodes, as
the user who started it, unless it asks for a token (RAY_AUTH_MODE=token), and nothing of it is
encrypted unless it is told to (RAY_USE_TLS=1). Our code goes through Ray, and so does the session's
key, in a call of an actor: never in a command, an environment or a runtime environment. Prompts,
API keys and rows never do: they take bench.py's own connections (door.py). A cluster of one's own
(`local:N`) listens on 127.0.0.1 alone, and asks for a token that only its processes have; its files
are in a folder that goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ...errors import BenchError, UsageError
from ...interrupts import set_handlers
from ...records.text import printable
from .at_node import SENDER, Overseer
from .engine import MachinesError
from .orphans import adopt_orphans, end_descendants, take_note

RESOURCE = "sender"
# Of what a sender imports, in the end; a node has them already, Ray brings only our own code.
NEEDED = ("httptools", "jsonschema", "numpy", "orjson", "pydantic", "uvloop", "yaml")
PLACE_LIMIT_S = 60.0  # for actors to be there: our code travels first
LET_END_S = 5.0  # for senders to end by themselves
END_LIMIT_S = 10.0  # for processes of ours to end
LOOK_S = 0.2
SMALLEST_STORE = 80 << 20  # bytes of shared memory, which nothing here uses; Ray wants 75 MB
Tell = Callable[..., None]


class Ears:
    """Hears what bench.py says on standard input, and when it is gone."""

    def __init__(self, leave: Callable[[], None]) -> None:
        """`leave`: what to do where it goes before anybody asks for its `next` word."""
        self._lines: SimpleQueue[list[str] | None] = SimpleQueue()  # None: no more will come
        self._leave: Callable[[], None] | None = leave
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        for line in sys.stdin:
            self._lines.put(json.loads(line))
        self._lines.put(None)
        if self._leave is not None:
            self._leave()

    def next(self, limit_s: float) -> list[str] | None:
        """Return the next word, an empty one where none comes in time; None: it is gone."""
        self._leave = None
        try:
            return self._lines.get(timeout=limit_s) if limit_s else self._lines.get_nowait()
        except Empty:
            return []


def tend(asked: Mapping[str, Any]) -> None:
    """Place actors as asked, say so on standard output, and keep them until the input ends."""
    tell = _only_our_words()
    address, folder = asked["address"], asked["folder"]
    ears = Ears(lambda: _leave(folder))
    import ray

    try:
        _attach(address, folder)
        with _placed(_nodes(asked["machines"])) as overseers:
            tell(count=len(overseers), host=ray.util.get_node_ip_address())
            _watch(overseers, ears, tell)
        ray.shutdown()
    except BenchError as e:
        tell(problem=str(e), usage=isinstance(e, UsageError))
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as e:
        tell(problem=_in_a_line(e))
    finally:
        _leave(folder)


def _leave(folder: str) -> None:
    """End this process, and with it a cluster of its own."""
    end_descendants(END_LIMIT_S)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # Ray's own end would wait for what is gone by now


def _only_our_words() -> Tell:
    """Leave standard output to us: Ray and its agents print there, whatever they are told."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)

    def tell(**what: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # bench.py is gone: so will we be
            print(json.dumps(what), file=ours, flush=True)

    return tell


def _in_a_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return printable(" ".join(lines) or type(problem).__name__, 300)


def _attach(address: str, folder: str) -> None:
    import ray

    if address.startswith("local:"):
        address = _own_cluster(int(address.removeprefix("local:")))
    ours = {"working_dir": _our_code(Path(folder, "code"))}
    ray.init(address, log_to_driver=False, logging_level="ERROR", runtime_env=ours)
    set_handlers(lambda *_: None)  # Ray has set its own; the end of the input is our only end


def _own_cluster(nodes: int) -> str:
    """Start nodes on this machine's loopback, the first with the cluster's head; return where."""
    from ray.cluster_utils import Cluster

    adopt_orphans()
    node = {
        "node_ip_address": "127.0.0.1",
        "num_cpus": 0,  # no worker before one is asked for
        "resources": {RESOURCE: 1},
        "object_store_memory": SMALLEST_STORE,
        "include_log_monitor": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(wait=False, **node)
    cluster.wait_for_nodes(PLACE_LIMIT_S)
    return str(cluster.address)


def _our_code(folder: Path) -> str:
    """Put there what a sender needs of this project, and nothing that lies beside it."""
    package = SENDER.parent / "vllm_bench"
    shutil.copytree(package, folder / package.name, ignore=_all_but_python)
    shutil.copy(SENDER, folder)
    return str(folder)


def _all_but_python(folder: str, names: Sequence[str]) -> list[str]:
    return [
        name
        for name in names
        if name == "__pycache__" or not (name.endswith(".py") or Path(folder, name).is_dir())
    ]


def _nodes(machines: int | None) -> dict[str, str]:
    """Return the nodes that are to send: a name for people, by id. Raises MachinesError."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    names = {n["NodeID"]: f"{n['NodeManagerHostname']} ({n['NodeManagerAddress']})" for n in alive}
    ours = sorted(n["NodeID"] for n in alive if n["Resources"].get(RESOURCE))
    how = "start those that are to send with ray start --resources='{\"sender\": 1}'"
    if not ours:
        there = ", ".join(sorted(names.values()))
        raise MachinesError(f"no node has the resource {RESOURCE}; nodes: {there}; {how}")
    if machines and machines > len(ours):
        raise UsageError(f"--machines {machines}: {len(ours)} nodes have {RESOURCE}; {how}")
    return {node: printable(names[node], 100) for node in ours[:machines]}


@contextlib.contextmanager
def _placed(nodes: Mapping[str, str]) -> Iterator[dict[Any, str]]:
    """Yield an actor on each node, found to be fit, with its node's name. Raises MachinesError."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    made = ray.remote(Overseer)
    overseers = {
        made.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            num_cpus=0,
            max_restarts=0,
        ).remote(): name
        for node, name in nodes.items()
    }
    try:
        lacking = {overseer.lacks.remote(NEEDED): name for overseer, name in overseers.items()}
        ray.wait(list(lacking), num_returns=len(lacking), timeout=PLACE_LIMIT_S)
        for ref, name in lacking.items():
            _check(name, ref)
        yield overseers
    finally:
        for overseer in overseers:
            ray.kill(overseer)


def _check(name: str, ref: Any) -> None:
    import ray

    try:
        lacking = ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError as e:
        busy = "it is busy? Ray starts at nice 15, unless ray start had RAY_worker_niceness=0"
        raise MachinesError(f"{name}: no actor within {PLACE_LIMIT_S:g} s; {busy}") from e
    except ray.exceptions.RayError as e:
        raise MachinesError(f"{name}: {_in_a_line(e)}") from e
    if lacking:
        raise MachinesError(f"{name} lacks {', '.join(lacking)}: give it the environment of here")


def _watch(overseers: Mapping[Any, str], ears: Ears, tell: Tell) -> None:
    """Do what bench.py says, and tell which foremen and actors have ended, until it is gone.

    It says [address, key], once, for foremen to be started.
    """
    import ray

    left = dict[Any, str]()
    while (line := ears.next(0 if left else LOOK_S)) is not None:
        take_note()
        if line:
            for number, (actor, name) in enumerate(overseers.items()):
                left[actor.serve.remote(f"{line[0]}/{number}", bytes.fromhex(line[1]))] = name
        for ref in ray.wait(list(left), timeout=LOOK_S)[0] if left else ():
            tell(problem=f"{left.pop(ref)}: {_how_it_ended(ref)}")
    if left:
        ray.wait(list(left), num_returns=len(left), timeout=LET_END_S)


def _how_it_ended(ref: Any) -> str:
    import ray

    try:
        code, words = ray.get(ref)
    except ray.exceptions.RayError as e:  # it, or its node; the first lines are ids
        detail = str(e).rpartition("Worker exit detail:")[2].strip()
        return f"Ray's actor there ended: {printable(' '.join(detail.split()), 300)}"
    return f"sender.py ended with exit code {code}: {printable(words, 300) or 'no word'}"


if __name__ == "__main__":
    tend(json.loads(sys.argv[1]))
