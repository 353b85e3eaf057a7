"""The kinds of faults: what happens to whom, how often, and what may be demanded afterwards."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

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
SENDER = Rules(FAILS, one_sender=True)
SERVER = Rules(FAILS, spoils=True)
SERVER_KILLED = replace(SERVER, record_cut=True)
NETWORK = SERVER
DISK = Rules(FAILS, rows_cut=True, silent=True)
CONTROL = Rules(frozenset({0, 1, 2, 4}), spoils=True)

_client, _server, _disk = (partial(Kind, group) for group in ("client", "server", "disk"))
_network = partial(Kind, "network", proxied=True)

KINDS: Mapping[str, Kind] = {
    "kill_bench": _client("kill -9 of bench.py", do.kill_bench, KILLED, ANY, often=3),
    "kill_sender": _client("kill -9 of a sender", do.kill_sender, SENDER, ANY, often=2),
    "stop_sender": _client("a sender stands still for a while", do.stop_sender),
    "freeze_sender": _client(
        "a sender stands still for ever", do.freeze_sender, replace(SENDER, rows_cut=True)
    ),
    "stop_bench": _client("bench.py stands still for a while", do.stop_bench),
    "stop_all": _client("all of the client stands still", do.stop_all),
    "int": _client("Ctrl-C", do.signalled(signal.SIGINT), INTERRUPTED, ANY, often=2),
    "int_group": _client("Ctrl-C, as a terminal sends it", do.ctrl_c, INTERRUPTED, ANY),
    "int_twice": _client("Ctrl-C twice", do.signalled(signal.SIGINT, 2), INTERRUPTED, ANY, often=2),
    "term": _client("SIGTERM", do.signalled(signal.SIGTERM), INTERRUPTED, ANY, often=2),
    "hup": _client("SIGHUP", do.signalled(signal.SIGHUP), INTERRUPTED, ANY, often=2),
    "kill_server": _server("kill -9, for good", do.kill_server, SERVER_KILLED, ANY),
    "restart_server": _server(
        "kill -9, and back in a second", do.restart(signal.SIGKILL), SERVER_KILLED, often=2
    ),
    "term_server": _server("SIGTERM, for good", do.term_server, SERVER, ANY),
    "redeploy_server": _server("SIGTERM, and back in a second", do.restart(signal.SIGTERM), SERVER),
    "stop_server": _server("it stands still for a while", do.stop_server),
    "crash": _server("it dies in a request", rules=SERVER_KILLED, flags=do.one("crash")),
    "stall": _server("no token for 0.6 s", flags=do.some("stall@3=600ms")),
    "silent": _server("no token ever comes", flags=do.one("silent")),
    "refusal": _server("429, 500, 503", flags=do.some("http_429", "http_500", "http_503")),
    "error_event": _server("an error in the stream", flags=do.some("error_event@3")),
    "cut_stream": _server("streams end early", flags=do.some("no_done@3", "cut@3", "reset@3")),
    "malformed": _server("JSON cut short", flags=do.some("malformed@3")),
    "framing": _server(
        "the same bytes, cut otherwise",
        flags=do.some("split_bytes", "split_utf8", "merge=4", "crlf", "comments"),
    ),
    "odd_counts": _server(
        "other tokens than asked for, or told",
        flags=do.some("short=3", "long=4", "claim=1000", "claim_prompt=100", "no_usage"),
    ),
    "net_cut": _network("all connections close", lambda s: s.net.cut(), NETWORK),
    "net_reset": _network("all are reset", lambda s: s.net.cut(reset=True), NETWORK),
    "net_half_close": _network("nothing more comes", lambda s: s.net.half_close(), NETWORK),
    "net_mute": _network("nothing passes, for ever", do.mute, NETWORK),
    "net_hold": _network("all bytes wait", do.hold),
    "net_dribble": _network("byte by byte", do.dribble),
    "net_refuse": _network("refused for a while", do.refuse, NETWORK),
    "net_corrupt": _network("bytes are spoilt", lambda s: do.garble(s, inserting=False), NETWORK),
    "net_garbage": _network("garbage between", lambda s: do.garble(s, inserting=True), NETWORK),
    "net_portal": _network("another server answers", do.another_server, NETWORK),
    "metrics_stop": _network(
        "/metrics ends in mid-run", do.metrics_page("silent", "trickle", "endless", "bytes")
    ),
    "metrics_garbage": _network(
        "/metrics is garbage", prepare=do.metrics_page("bytes", "html", "numbers", "json")
    ),
    "metrics_silent": _network("/metrics never ends", prepare=do.metrics_page("silent", "trickle")),
    "metrics_endless": _network("/metrics without end", prepare=do.metrics_page("endless")),
    "control_page": _network("another page is garbage", rules=CONTROL, prepare=do.control_page),
    "disk_full": _disk("no room left", do.fill_disk, DISK, prepare=do.small_disk, often=2),
    "file_limit": _disk("files may not grow", do.limit_files, DISK),
    "read_only": _disk("the folder is read-only", do.read_only, DISK),
    "folder_moved": _disk("the folder is renamed", do.move, DISK, mend=do.move_back),
    "folder_deleted": _disk("the folder is deleted", do.delete, replace(DISK, takes_all=True)),
    "litter": _disk(
        "strange files in the folder", rules=Rules(FAILS, litter=True), prepare=do.litter
    ),
    "descriptors": _disk("no descriptor left", do.limit_descriptors, replace(SERVER, silent=True)),
    "reader_gone": _disk(
        "nobody reads what it says", do.leave, Rules(FAILS, spoils=True), piped=True
    ),
    "twins": _disk("two at once in one folder", prepare=do.twin, rules=Rules(FAILS)),
}
