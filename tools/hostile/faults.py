"""The kinds of faults: what happens to whom, how often, and what may be demanded afterwards."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from . import strikes as do
from .check import Rules
from .strikes import Flags, Strike

ANY = ("start", "middle", "end")
FAILS = frozenset({0, 1, 4})
ASKED = frozenset({0, 4, 130})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    group: str
    what: str
    strike: Strike | None = None  # None: it is there from the start on
    rules: Rules = field(default_factory=Rules)
    phases: tuple[str, ...] = ("middle",)
    flags: Flags | None = None  # faults of the simulator
    prepare: Strike | None = None  # before bench.py starts
    mend: Strike | None = None  # before its files are read
    proxied: bool = False
    piped: bool = False  # what it says goes to a pipe
    often: int = 1  # how many of a round are of this kind


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
        "kill_bench": Kind("client", "kill -9 of bench.py", do.kill_bench, KILLED, ANY, often=3),
        "kill_sender": Kind("client", "kill -9 of a sender", do.kill_sender, SENDER, ANY, often=2),
        "stop_sender": Kind("client", "a sender stands still for a while", do.stop_sender),
        "freeze_sender": Kind(
            "client",
            "a sender stands still for ever",
            do.freeze_sender,
            replace(SENDER, rows_cut=True),
        ),
        "stop_bench": Kind("client", "bench.py stands still for a while", do.stop_bench),
        "stop_all": Kind("client", "all of the client stands still", do.stop_all),
        "int": Kind("client", "Ctrl-C", do.signalled(signal.SIGINT), INTERRUPTED, ANY, often=2),
        "int_group": Kind("client", "Ctrl-C, as a terminal sends it", do.ctrl_c, INTERRUPTED, ANY),
        "int_twice": Kind(
            "client", "Ctrl-C twice", do.signalled(signal.SIGINT, 2), TWICE, ANY, often=2
        ),
        "term": Kind("client", "SIGTERM", do.signalled(signal.SIGTERM), INTERRUPTED, ANY, often=2),
        "hup": Kind("client", "SIGHUP", do.signalled(signal.SIGHUP), INTERRUPTED, ANY, often=2),
        "kill_server": Kind("server", "kill -9, for good", do.kill_server, SERVER_KILLED, ANY),
        "restart_server": Kind(
            "server",
            "kill -9, and back in a second",
            do.restart(signal.SIGKILL),
            SERVER_KILLED,
            often=2,
        ),
        "term_server": Kind("server", "SIGTERM, for good", do.term_server, SERVER, ANY),
        "redeploy_server": Kind(
            "server", "SIGTERM, and back in a second", do.restart(signal.SIGTERM), SERVER
        ),
        "stop_server": Kind("server", "it stands still for a while", do.stop_server),
        "crash": Kind("server", "it dies in a request", rules=SERVER_KILLED, flags=do.one("crash")),
        "stall": Kind("server", "no token for 0.6 s", flags=do.some("stall@3=600ms")),
        "silent": Kind("server", "no token ever comes", flags=do.one("silent")),
        "refusal": Kind(
            "server", "429, 500, 503", flags=do.some("http_429", "http_500", "http_503")
        ),
        "error_event": Kind("server", "an error in the stream", flags=do.some("error_event@3")),
        "cut_stream": Kind(
            "server", "streams end early", flags=do.some("no_done@3", "cut@3", "reset@3")
        ),
        "malformed": Kind("server", "JSON cut short", flags=do.some("malformed@3")),
        "framing": Kind(
            "server",
            "the same bytes, cut otherwise",
            flags=do.some("split_bytes", "split_utf8", "merge=4", "crlf", "comments"),
        ),
        "odd_counts": Kind(
            "server",
            "other tokens than asked for, or told",
            flags=do.some("short=3", "long=4", "claim=1000", "claim_prompt=100", "no_usage"),
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
        "net_mute": Kind("network", "nothing passes, for ever", do.mute, NETWORK, proxied=True),
        "net_hold": Kind("network", "all bytes wait", do.hold, proxied=True),
        "net_dribble": Kind("network", "byte by byte", do.dribble, proxied=True),
        "net_refuse": Kind("network", "refused for a while", do.refuse, NETWORK, proxied=True),
        "net_corrupt": Kind(
            "network",
            "bytes are spoilt",
            lambda s: do.garble(s, inserting=False),
            NETWORK,
            proxied=True,
        ),
        "net_garbage": Kind(
            "network",
            "garbage between",
            lambda s: do.garble(s, inserting=True),
            NETWORK,
            proxied=True,
        ),
        "net_portal": Kind(
            "network", "another server answers", do.another_server, NETWORK, proxied=True
        ),
        "metrics_stop": Kind(
            "network",
            "/metrics ends in mid-run",
            do.page(b"/metrics", "silent", "trickle", "endless", "bytes"),
            proxied=True,
        ),
        "metrics_garbage": Kind(
            "network",
            "/metrics is garbage",
            prepare=do.page(b"/metrics", "bytes", "html", "numbers", "json"),
            proxied=True,
        ),
        "metrics_silent": Kind(
            "network",
            "/metrics never ends",
            prepare=do.page(b"/metrics", "silent", "trickle"),
            proxied=True,
        ),
        "metrics_endless": Kind(
            "network", "/metrics without end", prepare=do.page(b"/metrics", "endless"), proxied=True
        ),
        "control_page": Kind(
            "network",
            "another page is garbage",
            None,
            CONTROL,
            prepare=do.control_page,
            proxied=True,
        ),
        "disk_full": Kind(
            "disk", "no room left", do.fill_disk, DISK, prepare=do.small_disk, often=2
        ),
        "file_limit": Kind("disk", "files may not grow", do.limit_files, DISK),
        "read_only": Kind("disk", "the folder is read-only", do.read_only, DISK),
        "folder_moved": Kind("disk", "the folder is renamed", do.move, DISK, mend=do.move_back),
        "folder_deleted": Kind(
            "disk", "the folder is deleted", do.delete, replace(DISK, takes_all=True)
        ),
        "litter": Kind(
            "disk",
            "strange files in the folder",
            rules=Rules(FAILS, litter=True),
            prepare=do.litter,
        ),
        "descriptors": Kind(
            "disk", "no descriptor left", do.limit_descriptors, replace(SERVER, silent=True)
        ),
        "reader_gone": Kind(
            "disk", "nobody reads what it says", do.leave, Rules(FAILS, spoils=True), piped=True
        ),
        "twins": Kind("disk", "two at once in one folder", prepare=do.twin, rules=Rules(FAILS)),
    }
)
