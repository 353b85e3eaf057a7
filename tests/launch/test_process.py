"""A server as a process: started, waited for, stopped, with nothing left of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from vllm_bench.launch import process as module
from vllm_bench.launch.env import Settings, settings_of
from vllm_bench.launch.ports import members, sockets_on
from vllm_bench.launch.process import PortTakenError, ServerProcess, StartFailedError
from vllm_bench.launch.said import said

from tests.support.beside.ports import free_port
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import TinyVllm
from tests.support.reading import one_line
from tools.hostile.processes import lives

pytestmark = pytest.mark.process

SECRET = "s3cret-of-nobody"


def settings(**values: str) -> Settings:
    given = {"HOST": "127.0.0.1", "PORT": str(free_port()), "MODEL": "tiny", **values}
    return settings_of(Path("a.env"), given, {"PATH": os.environ["PATH"]})


def simulated(**values: str) -> Settings:
    return settings(SIMULATOR="tiny-cpu", MAX_MODEL_LEN="2k", MAX_NUM_SEQS="8", **values)


def launcher(folder: Path, script: str) -> Path:
    """A launcher that is a Python program in the place of vLLM."""
    body = folder / "server.py"
    body.write_text("import os, signal, socket, subprocess, sys, time\n" + textwrap.dedent(script))
    path = folder / "launch.sh"
    path.write_text(f'exec "{sys.executable}" "{body}"\n')
    return path


def wait_for_file(path: Path) -> str:
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "a.log"


def test_it_starts_serves_tells_and_ends(log: Path) -> None:
    asked = simulated(VLLM_API_KEY=SECRET)
    server = ServerProcess(asked, log)
    for _ in range(2):  # a process may be started again
        with server:
            assert server.ready(LIMIT_S) > 0
            assert server.is_alive
            assert server.pid is not None
            assert members(server.pid) == [server.pid]
            pid = server.pid
            with closing(server.server()) as control:
                assert [model.id for model in control.models()] == ["tiny"]
                told = said(control, log)
        assert not lives(pid)
        assert not sockets_on(asked.port)
        assert not server.is_alive
    assert (told["max_num_seqs"], told["max_model_len"]) == (8, 2000)
    assert told["told_by"] == "log"
    assert SECRET not in log.read_text()
    server.stop()  # again: nothing


def test_in_development_mode_it_tells_more(log: Path) -> None:
    with ServerProcess(simulated(VLLM_SERVER_DEV_MODE="1"), log) as server:
        server.ready(LIMIT_S)
        with closing(server.server()) as control:
            told = said(control, log)
    assert told["told_by"] == "server_info"
    assert told["max_num_batched_tokens"] == 2048


def test_a_port_that_another_holds_is_refused_and_its_holder_named(log: Path) -> None:
    asked = simulated()
    with socket.create_server(("127.0.0.1", asked.port)):
        server = ServerProcess(asked, log)
        with pytest.raises(PortTakenError) as refusal, server:
            pass
    words = one_line(str(refusal.value))
    assert str(asked.port) in words
    assert str(os.getpid()) in words
    assert refusal.value.exit_code == 2
    assert not log.exists()


def test_another_that_takes_the_port_meanwhile_does_not_answer_for_it(
    log: Path, tmp_path: Path
) -> None:
    asked = settings()
    ours = launcher(tmp_path, "time.sleep(600)")
    other = ServerProcess(simulated(PORT=str(asked.port)), tmp_path / "b.log")
    with ServerProcess(asked, log, ours) as server, other:
        other.ready(LIMIT_S)
        with closing(server.server()) as control:
            assert control.models()  # of the other
        with pytest.raises(StartFailedError, match="not ready after"):
            server.ready(1.0)


class Aged(TinyVllm):
    """A server that began long ago, or just now."""

    began_s = 1e9

    def _metrics(self) -> str:
        return f"process_start_time_seconds {self.began_s}\n{super()._metrics()}"


def test_where_proc_does_not_tell_whose_port_it_is_an_older_server_is_seen_by_its_age(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sockets_on", lambda _: None)
    monkeypatch.setattr(module, "is_free", lambda *_: True)
    with Aged() as far:
        ours = launcher(tmp_path, "time.sleep(600)")
        with ServerProcess(settings(PORT=str(far.port)), log, ours) as server:
            with pytest.raises(StartFailedError, match="is not what answers"):
                server.ready(LIMIT_S)
            far.began_s = time.time()
            assert server.ready(LIMIT_S) > 0


@pytest.mark.parametrize(
    ("script", "status", "first"),
    [
        ("print('ValueError: no memory', flush=True); print('bye'); sys.exit(3)",
         3, "ValueError: no memory"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        (f"sys.exit('last {SECRET}')", 1, "last ***"),
    ],
)  # fmt: skip
def test_one_that_dies_says_why(
    log: Path, tmp_path: Path, script: str, status: int, first: str
) -> None:
    server = ServerProcess(settings(VLLM_API_KEY=SECRET), log, launcher(tmp_path, script))
    with pytest.raises(StartFailedError) as failure, server:
        server.ready(LIMIT_S)
    assert failure.value.status == status
    assert failure.value.lines[:1] == ([first] if first else [])
    assert first in one_line(str(failure.value))
    assert SECRET not in str(failure.value) + log.read_text()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"SIMULATOR": "h1000"}, "SIMULATOR=h1000"),
        ({"VLLM_COMMAND": "/nowhere/vllm"}, "VLLM_COMMAND=/nowhere/vllm"),
        ({"SIMULATOR": "tiny-cpu", "EXTRA_ARGS": "--enforce-eager"}, "--enforce-eager"),
        ({"SIMULATOR": "tiny-cpu", "TENSOR_PARALLEL_SIZE": "2"}, "TENSOR_PARALLEL_SIZE"),
    ],
)
def test_what_the_launcher_refuses_is_the_reason(
    log: Path, values: dict[str, str], words: str
) -> None:
    with pytest.raises(StartFailedError) as failure, ServerProcess(settings(**values), log) as own:
        own.ready(LIMIT_S)
    assert words in failure.value.lines[0]


def test_one_that_is_never_ready_ends_at_the_limit(log: Path, tmp_path: Path) -> None:
    script = "print('loading', flush=True); time.sleep(600)"
    server = ServerProcess(settings(), log, launcher(tmp_path, script))

    def told(waited_s: float) -> None:
        assert waited_s > 0
        raise TimeoutError

    with server:
        wait_for_file(log)
        pid = server.pid
        with pytest.raises(TimeoutError):
            server.ready(LIMIT_S, told)
        with pytest.raises(StartFailedError) as failure:
            server.ready(0.0)
    assert failure.value.status is None
    assert failure.value.lines == ["loading"]
    assert pid is not None
    assert not lives(pid)


CHILDREN = """
for group in (False, True):
    subprocess.Popen([sys.executable, "-c", "import signal, time\\n"
        "for n in (15, 2, 1): signal.signal(n, signal.SIG_IGN)\\n"
        "time.sleep(600)"], preexec_fn=os.setpgrp if group else None)
print(flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", ["stop", "leader killed"])
def test_no_child_is_left_not_even_of_a_group_of_its_own(
    log: Path, tmp_path: Path, end: str
) -> None:
    with ServerProcess(settings(), log, launcher(tmp_path, CHILDREN)) as server:
        wait_for_file(log)
        assert server.pid is not None
        found = members(server.pid)
        assert len(found) == 3
        if end == "leader killed":
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(StartFailedError):
                server.ready(LIMIT_S)
            assert len(members(server.pid)) == 2
    assert not any(map(lives, found))


def test_one_that_hears_no_sigterm_is_killed(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TERM_S", 0.2)
    script = "signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with ServerProcess(settings(), log, launcher(tmp_path, script)) as server:
        wait_for_file(log)
        pid = server.pid
    assert pid is not None
    assert not lives(pid)


DRIVER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from vllm_bench.launch.env import settings_of
from vllm_bench.launch.process import ServerProcess
from vllm_bench.script import run


def main():
    values = {"PORT": sys.argv[2], "VLLM_API_KEY": "k3y-of-nobody"}
    server = ServerProcess(settings_of(Path("a.env"), values, os.environ), Path(sys.argv[3]),
        Path(sys.argv[4]))
    with server:
        print(server.pid, flush=True)
        server.ready(600)
    return 0

sys.exit(run(main))
"""


@pytest.fixture
def driver(log: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "driver.py").write_text(DRIVER)
    script = launcher(
        tmp_path, "signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    )
    bench = str(Path(module.__file__).resolve().parents[2])
    words = [bench, str(free_port()), str(log), str(script)]
    command = [sys.executable, str(tmp_path / "driver.py"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_ctrl_c_leaves_no_server_and_a_second_one_hurries(
    driver: subprocess.Popen[str], log: Path
) -> None:
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    wait_for_file(log)
    driver.send_signal(signal.SIGINT)  # the server doesn't hear it, nor SIGTERM
    time.sleep(0.5)
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    assert driver.wait(LIMIT_S) == 130
    assert not lives(pid)
