"""A load generator: how it is installed, started, and its result read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import BenchError
from ..script import ROOT

MODEL = "exact"  # as the simulator serves it
ID_PREFIX = "told-"  # of the ids of requests, by which the server's record is found


class PeerError(BenchError):
    """A load generator that couldn't be installed, run or read; the text is one line."""


@dataclass(frozen=True, slots=True)
class Load:
    """What each of them is asked for: a closed loop whose streams begin together."""

    streams: int
    requests: int
    tokens: int  # of each reply
    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run of a load generator finds what it needs, and leaves what it wrote."""

    base_url: str  # ends in /v1
    tokenizer: Path  # a folder
    folder: Path  # of this run alone


@dataclass(frozen=True, slots=True)
class Told:
    """One request as a load generator told it, in ns."""

    ttft_ns: float
    gaps_ns: tuple[float, ...]  # between each token's event and the one before


@dataclass(frozen=True, slots=True)
class Peer:
    """A load generator. `words` are its command line, with fields of a load and a place in it."""

    name: str
    what: str
    words: str
    install: Callable[[Path], Path]  # into a folder; returns the command
    read: Callable[[Path], Mapping[str, Told]]  # the files of a run, by request id
    prepare: Callable[[Load, Place], None] = lambda load, place: None
    fine: tuple[int, ...] = (0,)  # exit codes of a run that was measured
    places_itself: bool = False  # chooses its cores; else it gets those that the server hasn't

    def command_line(self, command: Path, load: Load, place: Place) -> list[str]:
        """Return the words of one run."""
        fields = {
            "command": command,
            "root": ROOT,
            "root_url": place.base_url.removesuffix("/v1"),
            "tokenizer": place.tokenizer,
            "folder": place.folder,
            "model": MODEL,
            "ids": ID_PREFIX,
            "streams": load.streams,
            "requests": load.requests,
            "tokens": load.tokens,
        }
        return [word.format(**fields) for word in self.words.split()]
