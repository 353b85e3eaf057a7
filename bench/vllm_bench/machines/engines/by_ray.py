"""Ray (an optional extra) places foremen: one a node; it carries no request, order or row.

Run as a program this file is a process beside bench.py, which alone has Ray in it: its threads,
its signal handlers and all that it prints stay out of a run. It attaches to a cluster (or makes
one of its own), places an actor (at_node.py) on each node with the resource `sender`, and ends when
its standard input does: with bench.py, however that ends. Senders that have lost bench.py end by
themselves; for some seconds the actors are left to them, then killed.

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
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ...errors import BenchError, UsageError
from ...interrupts import set_handlers
from ...records.text import printable
from .at_node import SENDER, Keeper, NodeFacts
from .engine import MachinesError, Reached
from .orphans import adopt_orphans, end_descendants

RESOURCE = "sender"
# Of what a sender imports, in the end; a node has them already, Ray brings only our own code.
NEEDED = ("httptools", "jsonschema", "numpy", "orjson", "pydantic", "uvloop", "yaml")
PROBE_S = 5.0  # for a cluster's head to take a connection
PLACE_LIMIT_S = 60.0  # for actors to be there: our code travels first
ATTACH_LIMIT_S = 120.0  # for all of it
LET_END_S = 5.0  # for senders to end by themselves
END_LIMIT_S = 20.0  # for the process with Ray to end
LOOK_S = 0.2
SMALLEST_STORE = 80 << 20  # bytes of shared memory, which nothing here uses; Ray wants 75 MB
LONGEST_FOLDER = 40  # characters: Ray's sockets are in it, and a socket's path has 107 at most
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
OURS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray puts another address for 127.0.0.1
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",
}
Tell = Callable[..., None]


class ByRay:
    """Foremen on the nodes of a Ray cluster, through a process that has Ray in it."""

    def __init__(self, address: str, machines: int | None, environ: Mapping[str, str]) -> None:
        """`address`: HOST:PORT, auto, or local:N. Raises UsageError."""
        if (spec := find_spec("ray")) is None or spec.origin is None:
            raise UsageError("--ray: Ray is not installed here: make install-ray")
        if address == "auto" and environ.get("RAY_ADDRESS", "").startswith("ray://"):
            raise UsageError("--ray auto: RAY_ADDRESS is ray://…, through which nodes can't dial")
        self._address, self._machines, self._environ = address, machines, environ
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None  # of a cluster of one's own
        self._told: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._ended: str | None = None

    def attach(self) -> Reached:
        """Find the nodes and place an actor on each. Raises MachinesError, UsageError."""
        own, environ = self._address.startswith("local:"), {**self._environ, **QUIET}
        environ.pop("PYTHONSAFEPATH", None)  # it would hide our package from `-m`
        if own:
            self._folder = _short_folder()
            environ |= {**OURS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            environ["RAY_TMPDIR"] = self._folder
        if self._address != "auto":
            environ.pop("RAY_ADDRESS", None)
        asked = {"address": self._address, "machines": self._machines, "folder": self._folder}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(asked)],
            cwd=SENDER.parent,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is for the head alone
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        told = self._next(ATTACH_LIMIT_S)
        if told is None:
            raise MachinesError(f"--ray {self._address}: no node within {ATTACH_LIMIT_S:g} s")
        if "count" not in told:
            problem: type[BenchError] = UsageError if told.get("usage") else MachinesError
            raise problem(f"--ray {self._address}: {told['problem']}")
        return Reached(told["count"], told["host"])

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            self._told.put(json.loads(line))
        last = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        why = printable(last[0], 300) if last else "it was killed"
        self._told.put({"problem": f"the process with Ray ended: {why}"})

    def _next(self, limit_s: float) -> dict[str, Any] | None:
        try:
            return self._told.get(timeout=limit_s)
        except Empty:
            return None

    def start(self, address: str, key: bytes) -> None:
        """Have each node's actor start `sender.py`."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `ended` tells
            self._process.stdin.write(json.dumps([address, key.hex()]).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self, called: str) -> None:
        """Nothing: what is frozen is killed with its actor, at the end."""

    def ended(self) -> str | None:
        """Return on which node a foreman or its actor ended, and why."""
        while not self._ended and (told := self._next(0)):
            self._ended = f"--ray {self._address}: {told['problem']}"
        return self._ended

    def stop(self) -> None:
        """Let the process with Ray end, and all that it started."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="vbr-", dir=usual if len(usual) < LONGEST_FOLDER else "/tmp")


# ---- the process with Ray ----


def tend(asked: Mapping[str, Any]) -> None:
    """Place actors as asked, say so on standard output, and keep them until the input ends."""
    from ray.exceptions import RayError

    tell = _only_our_words()
    try:
        _tend(asked["address"], asked["machines"], tell)
    except BenchError as e:
        tell(problem=str(e), usage=isinstance(e, UsageError))
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as e:
        tell(problem=_in_a_line(e))
    finally:
        end_descendants(END_LIMIT_S / 2)
        if asked["folder"]:
            shutil.rmtree(asked["folder"], ignore_errors=True)
        os._exit(0)  # Ray's own end has nothing left to do, and would wait for it


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


def _tend(address: str, machines: int | None, tell: Tell) -> None:
    import ray

    with contextlib.ExitStack() as stack:
        if address.startswith("local:"):
            address = _own_cluster(int(address.removeprefix("local:")))
        elif address != "auto":
            _probe(address)
        code = stack.enter_context(_our_code())
        ray.init(
            address, log_to_driver=False, logging_level="ERROR", runtime_env={"working_dir": code}
        )
        stack.callback(ray.shutdown)
        set_handlers(lambda *_: None)  # Ray has set its own; the end of the input is our only end
        keepers = stack.enter_context(_placed(_nodes(machines)))
        tell(count=len(keepers), host=ray.util.get_node_ip_address())
        if line := sys.stdin.readline():
            dialled, key = json.loads(line)
            _watch(keepers, dialled, bytes.fromhex(key), tell)


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


def _probe(address: str) -> None:
    """Raise MachinesError where nobody listens; Ray itself would try for long."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_S).close()
    except OSError as e:
        raise MachinesError(f"no Ray there: {e.strerror or e}") from e


@contextlib.contextmanager
def _our_code() -> Iterator[str]:
    """Make a folder with what a sender needs of this project, and nothing that lies beside it."""
    with tempfile.TemporaryDirectory(prefix="vbr-") as folder:
        shutil.copy(SENDER, folder)
        package = SENDER.parent / "vllm_bench"
        shutil.copytree(package, Path(folder, package.name), ignore=_all_but_python)
        yield folder


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

    made = ray.remote(Keeper)
    keepers = {
        made.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            num_cpus=0,
            max_restarts=0,
        ).remote(): name
        for node, name in nodes.items()
    }
    try:
        facts = {keeper.facts.remote(NEEDED): name for keeper, name in keepers.items()}
        ray.wait(list(facts), num_returns=len(facts), timeout=PLACE_LIMIT_S)
        for ref, name in facts.items():
            _check(name, ref)
        yield keepers
    finally:
        for keeper in keepers:
            ray.kill(keeper)


def _check(name: str, ref: Any) -> None:
    import ray

    try:
        facts: NodeFacts = ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError as e:
        raise MachinesError(f"{name}: no actor within {PLACE_LIMIT_S:g} s") from e
    except ray.exceptions.RayError as e:
        raise MachinesError(f"{name}: {_in_a_line(e)}") from e
    if facts.lacking:
        lacking = ", ".join(facts.lacking)
        raise MachinesError(f"{name} lacks {lacking}: give it the environment that is here")


def _watch(keepers: Mapping[Any, str], address: str, key: bytes, tell: Tell) -> None:
    """Have foremen started, tell of those that end, and of dead actors, until the input ends."""
    import ray

    left = {keeper.serve.remote(address, key): name for keeper, name in keepers.items()}
    while not select.select([sys.stdin], [], [], 0 if left else LOOK_S)[0]:
        done = ray.wait(list(left), timeout=LOOK_S)[0] if left else []
        for ref in done:
            tell(problem=f"{left.pop(ref)}: {_how_it_ended(ref)}")
    if left:
        ray.wait(list(left), num_returns=len(left), timeout=LET_END_S)


def _how_it_ended(ref: Any) -> str:
    import ray

    try:
        code, words = ray.get(ref)
    except ray.exceptions.RayError as e:  # ActorDiedError: it, or its node
        return _in_a_line(e)
    return f"sender.py ended with exit code {code}: {printable(words, 300) or 'no word'}"


if __name__ == "__main__":
    tend(json.loads(sys.argv[1]))
