"""bench.py, killed at chosen moments: who is killed, when, and what the server had done by then.

Moments are told by the server's own record of the replies that it finished, so that they fall
where they are meant to on a machine of any speed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.running import start_bench, write_scenario
from tools.hostile.processes import lives, senders_of

Victim = Literal["parent", "worker", "both"]

STREAMS = (6, 7)  # of the levels; each has its own
REPLIES = 180  # of a level


@dataclass(frozen=True, slots=True)
class Blow:
    """One kill: `delay_s` after the server has finished so many replies of a level."""

    victim: Victim
    level: int
    replies: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Victims:
    """One bench.py to be: its levels, its sending processes, and what happens to it."""

    name: str
    workers: int
    blows: tuple[Blow, ...]


@dataclass(slots=True)
class Fate:
    """What became of one."""

    victims: Victims
    folder: Path
    struck: list[tuple[Blow, int, int]] = field(default_factory=list)  # when, and all were gone
    survivors: list[int] = field(default_factory=list)  # sending processes without a parent
    returncode: int = 0
    out: str = ""
    err: str = ""

    @property
    def parent_killed_ns(self) -> int | None:
        """When its parent was killed; None: it ended by itself."""
        return next((at for blow, at, _ in self.struck if blow.victim != "worker"), None)

    @property
    def worker_kills_ns(self) -> list[tuple[int, int]]:
        """When sending processes were killed, and when they were gone."""
        return [(at, gone) for blow, at, gone in self.struck if blow.victim != "parent"]

    @property
    def rows(self) -> list[Path]:
        """The runs' rows that it left."""
        return sorted((self.folder / "results").glob("*.csv"))


def planned(rng: random.Random) -> list[Victims]:
    """Return whom to kill, and when: 50 blows, sending processes and parents in turn."""
    seconds: list[Victim] = ["parent"] * 13 + ["both"] * 5
    made = [(2, _one_after_the_other(rng, second)) for second in seconds]
    for _ in range(4):  # a level each, and then the end
        made.append((2, tuple(_inside(rng, "worker", level) for level in (0, 1))))
    for _ in range(2):
        made.append((1, (_inside(rng, "worker", 0),)))
    for _ in range(4):  # before there is anything to lose
        made.append((2, (Blow("parent", 0, 0, rng.uniform(0.0, 1.2)),)))
    rng.shuffle(made)
    return [Victims(f"k{i:02}", workers, blows) for i, (workers, blows) in enumerate(made)]


def _one_after_the_other(rng: random.Random, second: Victim) -> tuple[Blow, ...]:
    first = _inside(rng, "worker", 0)
    if rng.random() < 0.25:  # where a level ends, and the next one begins
        return first, Blow(second, 0, REPLIES - 20, rng.uniform(0.0, 1.0))
    replies = rng.randint(first.replies, REPLIES - 20)
    return first, Blow(second, 0, replies, rng.uniform(0.0, 0.3))


def _inside(rng: random.Random, victim: Victim, level: int) -> Blow:
    return Blow(victim, level, rng.randint(1, REPLIES * 2 // 3), rng.uniform(0.0, 0.3))


class Truth:
    """The server's record while it grows: when it finished which reply."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._torn = b""
        self._lock = threading.Lock()
        self._ended: dict[str, list[tuple[str, int]]] = {}  # by level; request id, ns
        self._last_came_ns: dict[str, int] = {}  # by scenario

    def read(self) -> None:
        """Take note of what it has written until now."""
        with self._lock:
            *lines, self._torn = (self._torn + self._file.read()).split(b"\n")
            for line in lines:
                told = orjson.loads(line)
                scenario, streams, *_ = told["request_id"].split("-")
                came_ns = max(told["t_received_ns"], self._last_came_ns.get(scenario, 0))
                self._last_came_ns[scenario] = came_ns
                if told["outcome"] == "ok":
                    ended = self._ended.setdefault(f"{scenario}-{streams}", [])
                    ended.append((told["request_id"], told["t_end_ns"]))

    def ended(self, name: str, level: int) -> list[tuple[str, int]]:
        """Return the replies of a level that were finished when it was last read, and when."""
        with self._lock:
            return list(self._ended.get(f"{name}-cc{STREAMS[level]}", ()))

    def last_came_ns(self, name: str) -> int:
        """Return when the last request of a scenario had come."""
        with self._lock:
            return self._last_came_ns.get(name, 0)

    def close(self) -> None:
        """Read to the end and close the file."""
        self.read()
        self._file.close()


def kill(victims: Victims, folder: Path, base_url: str, truth: Truth) -> Fate:
    """Start it, strike it as planned, and wait for what is left of it."""
    folder.mkdir()
    scenarios = write_scenario(
        folder,
        base_url=base_url,
        model="simulated",
        max_new_tokens=4,
        concurrencies=list(STREAMS),
        num_requests=REPLIES,
        warmup_requests=0,
    )
    renamed = scenarios.read_text().replace('"one"', f'"{victims.name}"')
    scenarios.write_text(renamed)
    fate = Fate(victims, folder)
    process = start_bench(folder, scenarios, "--workers", str(victims.workers))
    try:
        for blow in victims.blows:
            _strike(blow, process, truth, fate)
        fate.out, fate.err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.communicate()
    fate.returncode = process.returncode
    return fate


def _strike(blow: Blow, process: subprocess.Popen[str], truth: Truth, fate: Fate) -> None:
    def is_time() -> bool:
        truth.read()
        enough = len(truth.ended(fate.victims.name, blow.level)) >= blow.replies
        return enough or process.poll() is not None

    wait_until(is_time)
    time.sleep(blow.delay_s)
    if process.poll() is not None:
        return
    workers = senders_of(process.pid)
    targets = [*workers[:1]] if blow.victim != "parent" else []
    targets += [process.pid] if blow.victim != "worker" else []
    if not targets:
        return
    struck_ns = time.perf_counter_ns()
    for target in targets:
        _kill(target)
    # One whose end has to wait for a core has open connections until then.
    wait_until(lambda: not any(map(lives, targets)))
    fate.struck.append((blow, struck_ns, time.perf_counter_ns()))
    if blow.victim != "worker":
        fate.survivors = _outliving(workers)


def _kill(target: int) -> None:
    try:
        os.kill(target, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself, this very moment


def _outliving(workers: Sequence[int]) -> list[int]:
    """Give the processes time to end; return those that don't."""
    give_up_s = time.monotonic() + LIMIT_S
    left = list(workers)
    while left and time.monotonic() < give_up_s:
        time.sleep(0.05)
        left = [pid for pid in left if lives(pid)]
    return left
