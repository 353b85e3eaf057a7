"""What is done to a client, a server, the network between them, and the disk."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable

from .processes import lives
from .stage import Stage, kill

Strike = Callable[[Stage], None]
Flags = Callable[[Stage], tuple[str, ...]]  # of the simulator
SLOW_S = (0.3, 1.5)  # that something stands still


def _pause(stage: Stage) -> None:
    time.sleep(stage.rng.uniform(*SLOW_S))


# -- the client ------------------------------------------------------------------------------


def kill_bench(stage: Stage) -> None:
    """Kill bench.py."""
    kill(stage.pid, signal.SIGKILL)


def kill_sender(stage: Stage) -> None:
    """Kill a sender."""
    _to_a_sender(stage, signal.SIGKILL)


def freeze_sender(stage: Stage) -> None:
    """Stop a sender for good."""
    _to_a_sender(stage, signal.SIGSTOP)


def _to_a_sender(stage: Stage, number: int) -> None:
    victim = stage.sender()
    if victim is not None:
        kill(victim, number)


def stop_sender(stage: Stage) -> None:
    """Stop a sender for a while."""
    victim = stage.sender()
    if victim is not None:
        _stop([victim], stage)


def stop_bench(stage: Stage) -> None:
    """Stop bench.py for a while."""
    _stop([stage.pid], stage)


def stop_all(stage: Stage) -> None:
    """Stop bench.py and its senders for a while."""
    _stop([stage.pid, *stage.senders()], stage)


def _stop(pids: list[int], stage: Stage) -> None:
    for pid in pids:
        kill(pid, signal.SIGSTOP)
    _pause(stage)
    for pid in pids:
        kill(pid, signal.SIGCONT)


def signalled(number: int, times: int = 1) -> Strike:
    """Return a strike that sends bench.py a signal so many times."""

    def strike(stage: Stage) -> None:
        for _ in range(times):
            kill(stage.pid, number)
            time.sleep(stage.rng.uniform(0.05, 0.5) if times > 1 else 0)

    return strike


def ctrl_c(stage: Stage) -> None:
    """Interrupt the whole process group, as a terminal does."""
    if lives(stage.pid):
        os.killpg(stage.pid, signal.SIGINT)


# -- the server ------------------------------------------------------------------------------


def kill_server(stage: Stage) -> None:
    """Kill the server."""
    stage.simulator.end(signal.SIGKILL)


def term_server(stage: Stage) -> None:
    """Ask the server to end."""
    stage.simulator.end(signal.SIGTERM)


def restart(number: int) -> Strike:
    """Return a strike that ends the server with a signal, and starts it again soon."""

    def strike(stage: Stage) -> None:
        stage.simulator.end(number)
        time.sleep(stage.rng.uniform(0.0, 1.0))
        stage.simulator.start()

    return strike


def stop_server(stage: Stage) -> None:
    """Stop the server for a while."""
    stage.simulator.signal(signal.SIGSTOP)
    _pause(stage)
    stage.simulator.signal(signal.SIGCONT)


def some(*kinds: str) -> Flags:
    """Return the flags of one of these faults, for a part of the requests."""

    def flags(stage: Stage) -> tuple[str, ...]:
        kind = stage.rng.choice(kinds)
        name = re.split("[@=]", kind)[0]
        return (f"{name}:{stage.rng.uniform(0.05, 0.4):.2f}{kind[len(name) :]}",)

    return flags


def one(kind: str) -> Flags:
    """Return the flags of a fault of one request in the middle."""
    return lambda stage: (f"{kind}:#{stage.rng.randint(20, 70)}",)


# -- the network -----------------------------------------------------------------------------


def mute(stage: Stage) -> None:
    """Let nothing more pass on the connections that there are."""
    stage.net.mute()


def hold(stage: Stage) -> None:
    """Hold all bytes for a while."""
    stage.net.holding = True
    _pause(stage)
    stage.net.holding = False


def dribble(stage: Stage) -> None:
    """Pass single bytes for a while."""
    stage.net.dribbling = True
    _pause(stage)
    stage.net.dribbling = False


def refuse(stage: Stage) -> None:
    """Hang up, and refuse connections for a while."""
    stage.net.refuse()
    stage.net.cut()
    _pause(stage)
    stage.net.listen_again()


def garble(stage: Stage, *, inserting: bool) -> None:
    """Spoil some of the next pieces of replies."""
    stage.net.inserting = inserting
    stage.net.garbling = stage.rng.randint(1, 12)


def metrics_page(*ways: str) -> Strike:
    """Return a strike by which /metrics is answered in one of these ways."""

    def prepare(stage: Stage) -> None:
        stage.net.pages = {b"/metrics": stage.rng.choice(ways)}

    return prepare


def another_server(stage: Stage) -> None:
    """Answer everything as another server would."""
    stage.net.pages = {b"/v1/": "html"}
    stage.net.cut()


def control_page(stage: Stage) -> None:
    """Spoil one of the pages that are asked for before a run."""
    path = stage.rng.choice((b"/v1/models", b"/version", b"/tokenize", b"/health"))
    stage.net.pages = {path: stage.rng.choice(("bytes", "html", "json", "silent", "endless"))}


# -- the disk and the system -----------------------------------------------------------------


def small_disk(stage: Stage) -> None:
    """Put the results on a small disk, where that is possible."""
    stage.mount_disk()


def fill_disk(stage: Stage) -> None:
    """Leave no room on the small disk; without one, limit the files."""
    if not stage.mounted:
        limit_files(stage)
        return
    ballast = os.open(stage.results.parent / "ballast", os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 4096):
            _write_until_full(ballast, size)
        os.ftruncate(ballast, max(0, os.fstat(ballast).st_size - 4096 * stage.rng.randint(0, 2)))
    finally:
        os.close(ballast)


def _write_until_full(descriptor: int, size: int) -> None:
    try:
        while os.write(descriptor, b"\0" * size):
            pass
    except OSError:
        return


def limit_files(stage: Stage) -> None:
    """Let no file of bench.py grow much further."""
    rows = sorted(stage.results.glob("*.csv"), key=lambda path: path.stat().st_mtime)
    written = rows[-1].stat().st_size if rows else 0
    _limit([stage.pid], resource.RLIMIT_FSIZE, written + stage.rng.randint(0, 2000))


def limit_descriptors(stage: Stage) -> None:
    """Let bench.py and its senders open nothing more."""
    for pid in (stage.pid, *stage.senders()):
        _limit([pid], resource.RLIMIT_NOFILE, stage.rng.randint(3, 12))


def _limit(pids: list[int], which: int, limit: int) -> None:
    for pid in pids:
        if lives(pid):
            try:
                resource.prlimit(pid, which, (limit, resource.prlimit(pid, which)[1]))
            except ProcessLookupError:
                continue


def read_only(stage: Stage) -> None:
    """Make the results read-only."""
    if stage.results.is_dir() and not stage.mount_read_only():
        for path in (stage.results, *stage.results.glob("*/")):
            path.chmod(0o555)


def move(stage: Stage) -> None:
    """Rename the results folder."""
    if stage.results.is_dir():
        stage.results.rename(stage.results.with_name("moved"))


def move_back(stage: Stage) -> None:
    """Give the results folder its name back."""
    moved = stage.results.with_name("moved")
    if not moved.is_dir():
        return
    if stage.results.is_dir():  # made anew meanwhile
        shutil.copytree(stage.results, moved, dirs_exist_ok=True)
        shutil.rmtree(stage.results)
    moved.rename(stage.results)


def delete(stage: Stage) -> None:
    """Delete the results folder."""
    shutil.rmtree(stage.results, ignore_errors=True)


def litter(stage: Stage) -> None:
    """Put files into the results folder that no run writes."""
    stage.results.mkdir(exist_ok=True)
    os.mkfifo(stage.results / "pipe.json")
    os.mkfifo(stage.results / "pipe.csv")
    (stage.results / "folder.csv").mkdir()
    (stage.results / "nowhere.json").symlink_to("/nowhere/at/all")
    (stage.results / "bytes.csv").write_bytes(stage.rng.randbytes(500))
    (stage.results / "bytes.json").write_bytes(stage.rng.randbytes(500))
    (stage.results / "odd.json").write_text(
        '{"schema_version": NaN, "status": ["running"]}', encoding="utf-8"
    )


def leave(stage: Stage) -> None:
    """Stop reading what bench.py says."""
    assert stage.bench is not None
    assert stage.bench.stdout is not None
    stage.bench.stdout.close()


def twin(stage: Stage) -> None:
    """Start another bench.py on the same folder."""
    stage.twin = stage.start("twin")
