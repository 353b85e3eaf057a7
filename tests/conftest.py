"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from hypothesis import settings
from vllm_bench.interrupts import SIGNALS

from tests.support.far_end import FarEnd, TinyVllm

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = "tests/machines/ray/"  # its tests share one
APART = "tests/experiments/test_ab.py"  # is long, and its tests share nothing
SERVED = "tests/e2e/"  # its tests are for two kinds of servers
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn"}
# Enough for properties of this size; how long one takes says something of the machine alone.
settings.register_profile("house", max_examples=50, deadline=None, derandomize=True)
# For `make fuzz`: other inputs each time.
settings.register_profile("fuzz", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("house")
fast = {"now": False}  # whether the test that runs now said that it starts no process


def _refuse(what: str) -> None:
    if fast["now"]:
        fast["now"] = False  # told once: what it leads to may be swallowed
        pytest.fail(f"{what}: a test that starts a process is marked `process`")


def _audit(event: str, _: object) -> None:
    if event in STARTS:
        _refuse(event)


def _start(self: BaseProcess) -> None:
    _refuse("multiprocessing")
    _started(self)


_started = BaseProcess.start
BaseProcess.start = _start  # type: ignore[method-assign]
sys.addaudithook(_audit)
# A shell has what it runs in the background ignore Ctrl-C, and nohup a hang-up: so would all that
# tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # ignored here alone


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half of the time a test waits for what it started; a process takes 250 MB."""
    return min(2 * (os.cpu_count() or 1), 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """What a file's tests start they share, for each kind of server, and in a folder a cluster."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class Together(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(CLUSTER):
                return CLUSTER
            if nodeid.startswith(APART):
                return nodeid
            kind = "vllm" if nodeid.startswith(SERVED) and "[vllm" in nodeid else ""
            return super()._split_scope(nodeid) + kind

    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, files that start processes come first, so that no long one is the last."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("process")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: a sixth of the time of all fast tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _processes_are_told(request: pytest.FixtureRequest) -> Iterator[None]:
    """`make test-fast` leaves out what is marked, so what isn't must not start any."""
    fast["now"] = request.node.get_closest_marker("process") is None
    yield
    fast["now"] = False


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    """A server that plays bytes."""
    with FarEnd() as server:
        yield server


@pytest.fixture
def tiny_vllm() -> Iterator[TinyVllm]:
    """A server with vLLM's endpoints and one word a token."""
    with TinyVllm() as server:
        yield server


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of captures and data beside the checkout; skips where it is missing."""
    folder = ROOT.parent / "shared"
    if not (folder / "wire").is_dir():
        pytest.skip("no folder ../shared with captures of a real server")
    return folder


@pytest.fixture(autouse=True)
def _signals_are_left_alone() -> Iterator[None]:
    """A handler that a test leaves would end all tests after it, without a word."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    left = {number for number, handler in before.items() if signal.getsignal(number) != handler}
    for number in left:
        signal.signal(number, before[number])
    assert not left
