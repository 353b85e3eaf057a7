"""The faults: what happens to whom, how often, and what may be demanded afterwards."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from .check import Rules
from .processes import lives
from .stage import Stage, kill

Strike = Callable[[Stage], None]
ANY = ("start", "middle", "end")
FAILS = frozenset({0, 1, 4})
ASKED = frozenset({0, 4, 130})
SLOW = (0.3, 1.5)  # seconds that something stands still


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    group: str
    what: str
    strike: Strike | None = None  # None: it is there from the start on
    rules: Rules = field(default_factory=Rules)
    phases: tuple[str, ...] = ("middle",)
    flags: Callable[[Stage], tuple[str, ...]] | None = None  # faults of the simulator
    prepare: Strike | None = None  # before bench.py starts
    mend: Strike | None = None  # before its files are read
    proxied: bool = False
    piped: bool = False  # what it says goes to a pipe
    often: int = 1  # how many of a round are of this kind


def _pause(stage: Stage) -> None:
    time.sleep(stage.rng.uniform(*SLOW))


# -- the client ------------------------------------------------------------------------------


def _kill_bench(stage: Stage) -> None:
    kill(stage.pid, signal.SIGKILL)


def _kill_sender(stage: Stage) -> None:
    victim = stage.sender()
    if victim is not None:
        kill(victim, signal.SIGKILL)


def _freeze_sender(stage: Stage) -> None:
    victim = stage.sender()
    if victim is not None:
        kill(victim, signal.SIGSTOP)


def _stop_sender(stage: Stage) -> None:
    victim = stage.sender()
    if victim is not None:
        _stop([victim], stage)


def _stop_bench(stage: Stage) -> None:
    _stop([stage.pid], stage)


def _stop_all(stage: Stage) -> None:
    _stop([stage.pid, *stage.senders()], stage)


def _stop(pids: list[int], stage: Stage) -> None:
    for pid in pids:
        kill(pid, signal.SIGSTOP)
    _pause(stage)
    for pid in pids:
        kill(pid, signal.SIGCONT)


def _signalled(number: int, times: int = 1) -> Strike:
    def strike(stage: Stage) -> None:
        for _ in range(times):
            kill(stage.pid, number)
            time.sleep(stage.rng.uniform(0.05, 0.5) if times > 1 else 0)

    return strike


def _ctrl_c(stage: Stage) -> None:
    """Interrupt the whole process group, as a terminal does."""
    if lives(stage.pid):
        os.killpg(stage.pid, signal.SIGINT)


# -- the server ------------------------------------------------------------------------------


def _kill_server(stage: Stage) -> None:
    stage.simulator.end(signal.SIGKILL)


def _term_server(stage: Stage) -> None:
    stage.simulator.end(signal.SIGTERM)


def _restart(number: int) -> Strike:
    def strike(stage: Stage) -> None:
        stage.simulator.end(number)
        time.sleep(stage.rng.uniform(0.0, 1.0))
        stage.simulator.start()

    return strike


def _stop_server(stage: Stage) -> None:
    stage.simulator.signal(signal.SIGSTOP)
    _pause(stage)
    stage.simulator.signal(signal.SIGCONT)


def _some(*kinds: str) -> Callable[[Stage], tuple[str, ...]]:
    """Return the flags of one of these faults, for a part of the requests."""

    def flags(stage: Stage) -> tuple[str, ...]:
        kind = stage.rng.choice(kinds)
        name = re.split("[@=]", kind)[0]
        return (f"{name}:{stage.rng.uniform(0.05, 0.4):.2f}{kind[len(name) :]}",)

    return flags


def _one(kind: str) -> Callable[[Stage], tuple[str, ...]]:
    """Return the flags of a fault of one request in the middle."""
    return lambda stage: (f"{kind}:#{stage.rng.randint(20, 70)}",)


# -- the network -----------------------------------------------------------------------------


def _mute(stage: Stage) -> None:
    stage.net.mute()


def _hold(stage: Stage) -> None:
    stage.net.holding = True
    _pause(stage)
    stage.net.holding = False


def _dribble(stage: Stage) -> None:
    stage.net.dribbling = True
    _pause(stage)
    stage.net.dribbling = False


def _refuse(stage: Stage) -> None:
    stage.net.refuse()
    stage.net.cut()
    _pause(stage)
    stage.net.listen_again()


def _garble(stage: Stage, *, inserting: bool) -> None:
    stage.net.inserting = inserting
    stage.net.garbling = stage.rng.randint(1, 12)


def _page(path: bytes, *ways: str) -> Strike:
    def prepare(stage: Stage) -> None:
        stage.net.pages = {path: stage.rng.choice(ways)}

    return prepare


def _another_server(stage: Stage) -> None:
    stage.net.pages = {b"/v1/": "html"}
    stage.net.cut()


def _control_page(stage: Stage) -> None:
    path = stage.rng.choice((b"/v1/models", b"/version", b"/tokenize", b"/health"))
    stage.net.pages = {path: stage.rng.choice(("bytes", "html", "json", "silent", "endless"))}


# -- the disk and the system -----------------------------------------------------------------


def _small_disk(stage: Stage) -> None:
    stage.mount_disk()


def _fill_disk(stage: Stage) -> None:
    if not stage.mounted:
        _limit_files(stage)
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


def _limit_files(stage: Stage) -> None:
    written = sum(path.stat().st_size for path in stage.results.glob("*.csv"))
    limit = written + stage.rng.randint(0, 2000)
    _limit([stage.pid], resource.RLIMIT_FSIZE, limit)


def _limit_descriptors(stage: Stage) -> None:
    for pid in (stage.pid, *stage.senders()):
        _limit([pid], resource.RLIMIT_NOFILE, stage.rng.randint(3, 12))


def _limit(pids: list[int], which: int, limit: int) -> None:
    for pid in pids:
        if lives(pid):
            try:
                resource.prlimit(pid, which, (limit, resource.prlimit(pid, which)[1]))
            except ProcessLookupError:
                continue


def _read_only(stage: Stage) -> None:
    if stage.results.is_dir() and not stage.mount_read_only():
        for path in (stage.results, *stage.results.glob("*/")):
            path.chmod(0o555)


def _move(stage: Stage) -> None:
    if stage.results.is_dir():
        stage.results.rename(stage.results.with_name("moved"))


def _move_back(stage: Stage) -> None:
    moved = stage.results.with_name("moved")
    if not moved.is_dir():
        return
    if stage.results.is_dir():  # made anew meanwhile
        shutil.copytree(stage.results, moved, dirs_exist_ok=True)
        shutil.rmtree(stage.results)
    moved.rename(stage.results)


def _delete(stage: Stage) -> None:
    shutil.rmtree(stage.results, ignore_errors=True)


def _litter(stage: Stage) -> None:
    stage.results.mkdir(exist_ok=True)
    os.mkfifo(stage.results / "pipe.json")
    os.mkfifo(stage.results / "pipe.csv")
    (stage.results / "folder.csv").mkdir()
    (stage.results / "nowhere.json").symlink_to("/nowhere/at/all")
    (stage.results / "bytes.csv").write_bytes(stage.rng.randbytes(500))
    (stage.results / "bytes.json").write_bytes(stage.rng.randbytes(500))
    (stage.results / "odd.json").write_text('{"schema_version": NaN, "status": ["running"]}')


def _leave(stage: Stage) -> None:
    assert stage.bench is not None
    assert stage.bench.stdout is not None
    stage.bench.stdout.close()


def _twin(stage: Stage) -> None:
    stage.twin = stage.start("twin")


# -- all of them -----------------------------------------------------------------------------

KILLED = Rules(frozenset({-signal.SIGKILL}), rows_cut=True, silent=True)
INTERRUPTED = Rules(ASKED, stops=True)
TWICE = replace(INTERRUPTED, codes=ASKED | {-signal.SIGINT})  # a shell makes 130 of it
SENDER = Rules(FAILS, one_sender=True)
SERVER = Rules(FAILS, spoils=True)
SERVER_KILLED = replace(SERVER, record_cut=True)
NETWORK = SERVER
DISK = Rules(FAILS, rows_cut=True, silent=True)
CONTROL = Rules(frozenset({0, 1, 2, 4}), spoils=True)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "kill_bench": Kind("client", "kill -9 of bench.py", _kill_bench, KILLED, ANY, often=3),
        "kill_sender": Kind("client", "kill -9 of a sender", _kill_sender, SENDER, ANY, often=2),
        "stop_sender": Kind("client", "a sender stands still for a while", _stop_sender),
        "freeze_sender": Kind(
            "client",
            "a sender stands still for ever",
            _freeze_sender,
            replace(SENDER, rows_cut=True),
        ),
        "stop_bench": Kind("client", "bench.py stands still for a while", _stop_bench),
        "stop_all": Kind("client", "all of the client stands still", _stop_all),
        "int": Kind("client", "Ctrl-C", _signalled(signal.SIGINT), INTERRUPTED, ANY, often=2),
        "int_group": Kind("client", "Ctrl-C, as a terminal sends it", _ctrl_c, INTERRUPTED, ANY),
        "int_twice": Kind(
            "client", "Ctrl-C twice", _signalled(signal.SIGINT, 2), TWICE, ANY, often=2
        ),
        "term": Kind("client", "SIGTERM", _signalled(signal.SIGTERM), INTERRUPTED, ANY, often=2),
        "hup": Kind("client", "SIGHUP", _signalled(signal.SIGHUP), INTERRUPTED, ANY, often=2),
        "kill_server": Kind("server", "kill -9, for good", _kill_server, SERVER_KILLED, ANY),
        "restart_server": Kind(
            "server",
            "kill -9, and back in a second",
            _restart(signal.SIGKILL),
            SERVER_KILLED,
            often=2,
        ),
        "term_server": Kind("server", "SIGTERM, for good", _term_server, SERVER, ANY),
        "redeploy_server": Kind(
            "server", "SIGTERM, and back in a second", _restart(signal.SIGTERM), SERVER
        ),
        "stop_server": Kind("server", "it stands still for a while", _stop_server),
        "crash": Kind("server", "it dies in a request", rules=SERVER_KILLED, flags=_one("crash")),
        "stall": Kind("server", "no token for 0.6 s", flags=_some("stall@3=600ms")),
        "silent": Kind("server", "no token ever comes", flags=_one("silent")),
        "refusal": Kind("server", "429, 500, 503", flags=_some("http_429", "http_500", "http_503")),
        "error_event": Kind("server", "an error in the stream", flags=_some("error_event@3")),
        "cut_stream": Kind(
            "server", "streams end early", flags=_some("no_done@3", "cut@3", "reset@3")
        ),
        "malformed": Kind("server", "JSON cut short", flags=_some("malformed@3")),
        "framing": Kind(
            "server",
            "the same bytes, cut otherwise",
            flags=_some("split_bytes", "split_utf8", "merge=4", "crlf", "comments"),
        ),
        "odd_counts": Kind(
            "server",
            "other tokens than asked for, or told",
            flags=_some("short=3", "long=4", "claim=1000", "claim_prompt=100", "no_usage"),
        ),
        "net_cut": Kind(
            "network", "all connections close", lambda s: s.net.cut(), NETWORK, proxied=True
        ),
        "net_reset": Kind(
            "network", "all are reset", lambda s: s.net.cut(reset=True), NETWORK, proxied=True
        ),
        "net_half_close": Kind(
            "network", "nothing more comes", lambda s: s.net.half_close(), NETWORK, proxied=True
        ),
        "net_mute": Kind("network", "nothing passes, for ever", _mute, NETWORK, proxied=True),
        "net_hold": Kind("network", "all bytes wait", _hold, proxied=True),
        "net_dribble": Kind("network", "byte by byte", _dribble, proxied=True),
        "net_refuse": Kind("network", "refused for a while", _refuse, NETWORK, proxied=True),
        "net_corrupt": Kind(
            "network",
            "bytes are spoilt",
            lambda s: _garble(s, inserting=False),
            NETWORK,
            proxied=True,
        ),
        "net_garbage": Kind(
            "network",
            "garbage between",
            lambda s: _garble(s, inserting=True),
            NETWORK,
            proxied=True,
        ),
        "net_portal": Kind(
            "network", "another server answers", _another_server, NETWORK, proxied=True
        ),
        "metrics_stop": Kind(
            "network",
            "/metrics ends in mid-run",
            _page(b"/metrics", "silent", "trickle", "endless", "bytes"),
            proxied=True,
        ),
        "metrics_garbage": Kind(
            "network",
            "/metrics is garbage",
            prepare=_page(b"/metrics", "bytes", "html", "numbers", "json"),
            proxied=True,
        ),
        "metrics_silent": Kind(
            "network",
            "/metrics never ends",
            prepare=_page(b"/metrics", "silent", "trickle"),
            proxied=True,
        ),
        "metrics_endless": Kind(
            "network", "/metrics without end", prepare=_page(b"/metrics", "endless"), proxied=True
        ),
        "control_page": Kind(
            "network", "another page is garbage", None, CONTROL, prepare=_control_page, proxied=True
        ),
        "disk_full": Kind("disk", "no room left", _fill_disk, DISK, prepare=_small_disk, often=2),
        "file_limit": Kind("disk", "files may not grow", _limit_files, DISK),
        "read_only": Kind("disk", "the folder is read-only", _read_only, DISK),
        "folder_moved": Kind("disk", "the folder is renamed", _move, DISK, mend=_move_back),
        "folder_deleted": Kind(
            "disk", "the folder is deleted", _delete, replace(DISK, takes_all=True)
        ),
        "litter": Kind("disk", "strange files in the folder", rules=Rules(FAILS), prepare=_litter),
        "descriptors": Kind(
            "disk", "no descriptor left", _limit_descriptors, replace(SERVER, silent=True)
        ),
        "reader_gone": Kind(
            "disk", "nobody reads what it says", _leave, Rules(FAILS, spoils=True), piped=True
        ),
        "twins": Kind("disk", "two at once in one folder", prepare=_twin, rules=Rules(FAILS)),
    }
)
