"""How every script starts, reports errors and ends; how scripts that read runs load them."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .errors import BenchError
from .flags import Parser
from .interrupts import INTERRUPTED, INTERRUPTS, end_at_once, hear_no_more, set_handlers
from .outputs import discard, finish, open_outputs, takes_more

if TYPE_CHECKING:
    from .records.find_runs import Chosen, Run

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
SCENARIOS = ROOT / "bench" / "scenarios.yaml"
LAST_WORDS_S = 0.5  # for them to appear on a terminal that may be stuck, after a signal
OWN = ("vllm_bench", "sim")  # packages of ours: when one is missing, the clone is broken
ACTIVATE = ". .venv/bin/activate"  # in the clone's folder
LINE_LIMIT = 1000  # characters of a complaint


def run(main: Callable[[], int], *, aside: bool = False) -> int:
    """Run a script's main, its imports included, and return its exit code.

    With `aside` nobody waits for standard error: see outputs.py.
    """
    open_outputs(aside=aside)
    set_handlers(end_at_once)  # before the work, and after it: Python's own shutdown follows
    atexit.register(hear_no_more)
    try:
        with INTERRUPTS.answered():
            return _status_of(main)
    finally:
        _finish_errors()


def _status_of(main: Callable[[], int]) -> int:
    try:
        return _flushed(_main_status(main))
    except BenchError as e:
        return complain(e, e.exit_code)
    except ModuleNotFoundError as e:
        return without(e)
    except KeyboardInterrupt as e:
        return _interrupted(e)
    except BrokenPipeError:  # the reader of a listing, head say, has seen enough
        discard(1)
        return 0
    except OSError as e:
        discard(1)
        return complain(f"{e.filename or 'the output'}: {e.strerror or e}")


def without(missing: ModuleNotFoundError) -> int:
    """Complain of a library that isn't there, and return the exit code."""
    if not missing.name or missing.name.split(".")[0] in OWN:
        raise missing
    return complain(f"the library {missing.name} is missing: run make install, then {ACTIVATE}")


def _main_status(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as e:  # --help, or wrong usage
        return e.code if isinstance(e.code, int) else 0


def _interrupted(asked: KeyboardInterrupt) -> int:
    """Say so, and let nothing keep the script: no reader that is stuck, no call in a thread."""
    set_handlers(end_at_once)
    if asked.args:
        complain(asked)
    for number in (1, 2):
        if not takes_more(number):
            discard(number)
    others = set(threading.enumerate()) - {threading.main_thread()}
    if any(not thread.daemon for thread in others):  # Python would wait for them
        _finish_errors()
        os._exit(_flushed(INTERRUPTED))
    return _flushed(INTERRUPTED)


def _flushed(status: int) -> int:
    """Return the status of a main that has ended, even if its reader has left."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(1)
    return status


def _finish_errors() -> None:
    """Let what was said on standard error appear; where it can't, that fails nothing."""
    try:
        finish(sys.stderr, LAST_WORDS_S if INTERRUPTS.asked else None)
    except OSError:
        discard(2)


def complain(problem: object, status: int = 1) -> int:
    """Print what is wrong on one line of standard error, and return the exit code."""
    from .records.text import printable

    say(f"{Path(sys.argv[0]).name}: {printable(problem, LINE_LIMIT)}")
    return status


def say(line: str) -> None:
    """Print a line for people on standard error; if nobody can read it, go on."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def notes_once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return what tells lines, and a note that is true of many runs only once."""
    told: set[str] = set()

    def each(line: str) -> None:
        if not line.startswith("note: ") or line not in told:
            tell(line)
        told.add(line)

    return each


@contextmanager
def answering() -> Iterator[None]:
    """Print an answer in the block: its exit code holds even if the reader has left.

    Raises BenchError where the output can't be written, a full disk say.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(1)
    except OSError as e:
        discard(1)
        raise BenchError(f"the output: {e.strerror or e}") from e


@contextmanager
def writing_to(folder: Path, kept: str = "") -> Iterator[None]:
    """Tell what can't be written in the block as of this folder, and at Ctrl-C what is kept.

    Raises BenchError, KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as e:
        raise (KeyboardInterrupt(f"interrupted; {kept}") if kept else e) from None
    except OSError as e:
        raise BenchError(f"{e.filename or folder}: {e.strerror or e}") from e


@contextmanager
def working_folder(keep: Path | None, prefix: str) -> Iterator[Path]:
    """Yield the folder that is kept, made if need be; None: one that goes at the block's end."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as made:
        yield Path(made)


def read_env() -> None:
    """Set what .env gives (HF_TOKEN, say) and the environment lacks. Raises EnvFileError."""
    from .env_file import load_env_file
    from .launcher import PLACEHOLDER

    load_env_file(ROOT / ".env", os.environ)
    if os.environ.get("HF_TOKEN", "").startswith(PLACEHOLDER):
        del os.environ["HF_TOKEN"]  # the hub would refuse it, for public sets too


def parser_of(manual: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help begins with the script's docstring."""
    return Parser(description=manual, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_results(parser: argparse.ArgumentParser, what: str = "folder for results") -> None:
    """Add the flag for the folder of the results."""
    folder = f"{what} (default: results, next to bench)"
    parser.add_argument("--results-dir", type=Path, default=RESULTS, metavar="D", help=folder)


def add_runs(parser: argparse.ArgumentParser, where: str) -> None:
    """Add the arguments that name runs; `where` says what their folder contains."""
    runs = "runs: ids, files, globs, folders (default: of each level the newest session's)"
    parser.add_argument("files", nargs="*", metavar="RUN", help=runs)
    which = parser.add_mutually_exclusive_group()
    last = "only the newest session: all runs of bench.py's last call"
    which.add_argument("--last", action="store_true", help=last)
    which.add_argument("--all", action="store_true", help="older runs of a level too")
    parser.add_argument("--label", metavar="WORD", help="only runs with this label; '': with none")
    folder = f"folder with {where} (default: results, next to bench)"
    parser.add_argument("--results-dir", type=Path, metavar="D", help=folder)


def find(args: argparse.Namespace) -> Chosen:
    """Return the runs that are meant; what wasn't found, and what else lies there, is told."""
    from .records.find_runs import Asked, choose

    asked = Asked(names=args.files, last=args.last, label=args.label, every=args.all)
    chosen = choose(asked, args.results_dir or RESULTS)
    for problem in chosen.problems:
        complain(problem)
    if older := len(chosen.left_out):
        runs = "1 older run is" if older == 1 else f"{older} older runs are"
        say(f"{runs} left out: --all shows them")
    return chosen


def output(args: argparse.Namespace, chosen: Chosen) -> tuple[Path, str | None]:
    """Return the folder for what is written on runs, and what it is called.

    None: as what stands for the folder, which no file on a part of its runs replaces.
    """
    there = chosen.paths[0].parent
    folder: Path = args.results_dir or there
    return folder, chosen.name if folder.resolve() == there.resolve() else None


def each_run(
    paths: Iterable[Path], take: Callable[[Run], T], kept: Callable[[Path], T | None] | None = None
) -> tuple[list[T], int]:
    """Return what `take` makes of each run, and how many have a problem; each of those is told.

    One run's rows are in memory at once. A run is taken without those of its files that can't be
    believed; one without whole rows isn't. `kept` may have what `take` made of a run before.
    """
    from .records.find_runs import load_run
    from .records.request_record import RecordsError

    taken: list[T] = []
    damaged = 0
    for path in paths:
        if kept is not None and (before := kept(path)) is not None:
            taken.append(before)
            continue
        problems: list[str] = []
        try:
            run = load_run(path)
            problems = run.problems  # `take` may find more
            taken.append(take(run))
        except RecordsError as e:
            problems = [*problems, str(e)]
        for problem in dict.fromkeys(problems):
            complain(problem)
        damaged += bool(problems)
    return taken, damaged
