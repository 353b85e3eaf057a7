"""Machines behind ssh, for real: an sshd of our own on loopback, with fresh keys."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machines.running import ONE, load, over, run_load, said, started
from tests.sim.simulated import Simulated
from tests.support.beside.ports import free_port
from tests.support.beside.waiting import wait_until
from tests.support.frames import read_frame

pytestmark = pytest.mark.process

SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
LogLevel DEBUG3
"""
CLIENT = """\
Host far
  IdentityFile {folder}/user
Host barred
  IdentityFile {folder}/other
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known
"""

EIGHT = ("--concurrency", 8)


@dataclass(frozen=True)
class Far:
    """A host that ssh reaches."""

    folder: Path

    def by(self, host: str = "far", command: str = ONE) -> str:
        """Return a command for --senders; options of ssh may stand before the host."""
        return f"ssh -F {self.folder / 'config'} {host} {command}"


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    with Simulated("--exact", "--ttft-ms", "5", "--itl-ms", "5") as running:
        yield running


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here (Debian: openssh-server)")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user", "other"):
        key = folder / name
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", key], check=True)
    port = free_port()
    filled = {"port": port, "folder": folder, "user": getpass.getuser()}
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(CLIENT.format(**filled))
    (folder / "sshd_config").write_text(SERVER.format(**filled))
    words = [program, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    (folder / "log").touch()
    process = subprocess.Popen(words)
    try:
        wait_until(lambda: "Server listening" in (folder / "log").read_text() or process.poll())
        if process.poll() is not None:
            pytest.skip(f"sshd doesn't start here: {(folder / 'log').read_text()[-200:]}")
        yield Far(folder)
    finally:
        process.terminate()
        process.wait()


def test_a_machine_behind_ssh_sends_its_half(far: Far, tmp_path: Path, server: Simulated) -> None:
    key = tmp_path / "key"
    key.write_text("4d" * 32)
    words = (*over(1), *over(1, far.by()), "--num-requests", 40, *EIGHT)
    done = run_load(tmp_path, server.url, *words, "--key-file", key)
    assert done.returncode in (0, 4), done.stderr
    [path] = (tmp_path / "results").glob("*.csv")
    assert sorted(read_frame(path)["machine"].value_counts()) == [20, 20]
    assert key.read_text() not in (far.folder / "log").read_text() + done.stderr + done.stdout


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ("barred", "Permission denied"),
        ("-o UserKnownHostsFile=/dev/null far", "Host key verification failed"),
        ("-p 9 far", "refused"),
    ],
)
def test_who_is_not_let_in_is_told_in_a_line_and_asked_nothing(
    far: Far, tmp_path: Path, server: Simulated, host: str, word: str
) -> None:
    done = run_load(tmp_path, server.url, *over(1, far.by(host)), *EIGHT)
    assert done.returncode == 1
    assert word in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_far_side_ends_with_the_head(
    far: Far, tmp_path: Path, server: Simulated, number: signal.Signals
) -> None:
    """Ssh passes no signal on; `sender.py` sees its connections end."""
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    command = far.by(command=f"{ONE} --keep-in {kept}")
    words = load(tmp_path, server.url, *over(1, command), "--num-requests", 4000, *EIGHT)
    with started(words, tmp_path) as process:
        wait_until(lambda: having(f"sender.py --keep-in {kept}") and any(kept.iterdir()))
        process.send_signal(number)
        code, _ = said(process)
    assert code == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: not having(str(kept)))


def having(word: str) -> list[Path]:
    """Return the living processes whose command line has a word."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if word in os.fsdecode(cmdline.read_bytes()).replace("\0", " "):
                found.append(cmdline)
    return found
