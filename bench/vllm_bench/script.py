"""How every script starts, reports errors and ends; how scripts that read runs load them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .errors import BenchError
from .flags import Parser

if TYPE_CHECKING:
    from .records.find_runs import Run

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it
OWN = ("vllm_bench", "sim")  # packages of ours: when one is missing, the clone is broken
ACTIVATE = ". .venv/bin/activate"  # in the clone's folder
LINE_LIMIT = 1000  # characters of a complaint


def run(main: Callable[[], int]) -> int:
    """Run a script's main, its imports included, and return its exit code."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the caller
        # A question mark where a terminal lacks a character.
        stream.reconfigure(errors="replace")
    try:
        return _flushed(main())
    except BenchError as e:
        return complain(e, e.exit_code)
    except ModuleNotFoundError as e:
        if not e.name or e.name.split(".")[0] in OWN:
            raise
        return complain(f"the library {e.name} is missing: run make install, then {ACTIVATE}")
    except KeyboardInterrupt as e:
        return complain(e, INTERRUPTED) if e.args else INTERRUPTED
    except BrokenPipeError:  # the reader of a listing, head say, has seen enough
        _discard_output()
        return 0
    except OSError as e:
        return complain(f"{e.filename or 'the output'}: {e.strerror or e}")
    finally:
        # Python's own shutdown follows: another Ctrl-C there ends it silently.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _flushed(status: int) -> int:
    """Return the status of a main that has ended, even if its reader has left."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    return status


def _discard_output() -> None:
    """Let Python's own last flush succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(problem: object, status: int = 1) -> int:
    """Print what is wrong on one line of standard error, and return the exit code."""
    from .records.text import printable

    say(f"{Path(sys.argv[0]).name}: {printable(problem, LINE_LIMIT)}")
    return status


def say(line: str) -> None:
    """Print a line for people on standard error."""
    print(line, file=sys.stderr, flush=True)


def read_env() -> None:
    """Set what .env gives (HF_TOKEN, say) and the environment lacks. Raises EnvFileError."""
    from .env_file import load_env_file

    load_env_file(ROOT / ".env", os.environ)


def parser_of(manual: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help begins with the script's docstring."""
    return Parser(description=manual, formatter_class=argparse.RawDescriptionHelpFormatter)


def count(text: str) -> int:
    """Return a flag's number of streams or of runs."""
    if not text.isdecimal() or not 1 <= int(text) <= 16384:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 16384")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Return a flag's numbers, with commas between them."""
    return tuple(count(part) for part in text.split(","))


def add_runs(parser: argparse.ArgumentParser, where: str) -> None:
    """Add the arguments that name runs; `where` says what their folder contains."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="runs (default: all)")
    folder = f"folder with {where} (default: results, next to bench)"
    parser.add_argument("--results-dir", type=Path, metavar="D", help=folder)


def find(given: Sequence[str], results_dir: Path | None) -> tuple[list[Path], int]:
    """Return the runs that were asked for, and how many are missing; those are reported."""
    from .records.find_runs import find_runs

    found = find_runs(given, results_dir or RESULTS)
    for problem in found.problems:
        complain(problem)
    return found.paths, len(found.problems)


def each_run(paths: Iterable[Path], take: Callable[[Run], T]) -> tuple[list[T], int]:
    """Return what `take` makes of each run, and how many are damaged; each of those is reported.

    One run's rows are in memory at once. A run whose JSON can't be read is taken and counted.
    """
    from .records.find_runs import load_run
    from .records.request_record import RecordsError

    taken: list[T] = []
    damaged = 0
    for path in paths:
        try:
            run = load_run(path)
            taken.append(take(run))
            problem: object = run.info_problem
        except RecordsError as e:
            problem = e
        if problem:
            complain(problem)
            damaged += 1
    return taken, damaged
