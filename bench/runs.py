#!/usr/bin/env python3
"""List the runs in results/, name them, and remove them: with all of their files.

    python bench/runs.py                        every run, the newest last
    python bench/runs.py 'short_chat-*'         some of them
    python bench/runs.py --label seqs64 RUN…    set their label, as bench.py --label does
    python bench/runs.py --rm RUN…              remove them, with all that was made of them
    python bench/runs.py --prune                what could go; --prune --yes removes it

A run has two lines: when it began (UTC), scenario, load, label, verdict, output tokens/s and TTFT
p95 in ms (of an open loop from the schedule; a dash: not measured, or too few requests), and
its id.
Runs are named as for summarize.py: by id, file or glob.

A run's files are its rows and its JSON, those under its name in tokens/, telemetry/,
server_metrics/, plans/, answers/, calibration/, cache/, vllm/, summaries/ and reports/, and its
pictures in plots/. --prune has the older runs, which summarize.py, plot.py and report.py leave out
(of each scenario, label and level all but those of the newest session), and orphans: files under
the name of a run that isn't there. A run that goes on is never touched, and neither is any other
file.

Exit codes: 0 done; 1 a run that isn't there, can't be read or goes on, or a file that can't be
removed (a line says which; the rest is still done); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P

from vllm_bench.errors import UsageError
from vllm_bench.script import add_results, complain, each_run, parser_of, run

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.records.run_info import RunInfo
    from vllm_bench.summary.summary import RunSummary

GOES_ON = "goes on, or may be beginning: left as it is"
Files = dict[tuple[Path, str], list[Path]]  # by the folder and the id of their run


def main() -> int:
    """Do what the flags say; without any list the runs."""
    args = _parse()
    folder: Path = args.results_dir
    if args.prune:
        return _prune(folder, yes=args.yes)
    if args.rm:
        return _remove_named(args.runs, folder)
    if args.label is not None:
        return _label(args.label, args.runs, folder)
    return _list(args.runs, folder)


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="runs: ids, files, globs (default: all)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rm", action="store_true", help="remove these runs, with all their files")
    what.add_argument("--label", metavar="WORD", help="set the label of these runs; '': none")
    what.add_argument("--prune", action="store_true", help="list older runs and orphans")
    add("--yes", action="store_true", help="with --prune: remove them")
    add_results(parser, "folder with the runs")
    args = parser.parse_args()
    if args.prune and args.runs:
        parser.error(f"{args.runs[0]}: --prune takes no runs; --rm does")
    if (args.rm or args.label is not None) and not args.runs:
        parser.error(f"{'--rm' if args.rm else '--label WORD'} RUN: which runs?")
    if args.yes and not args.prune:
        parser.error("--yes: only --prune asks")
    return args


# ---- a list ----


def _list(names: Sequence[str], folder: Path) -> int:
    from vllm_bench.answers.together import with_answers_judged
    from vllm_bench.records.find_runs import find_runs
    from vllm_bench.records.run_files import orphans
    from vllm_bench.summary.kept import Kept

    found, kept = find_runs(names, folder), Kept()
    for problem in found.problems:
        complain(problem)
    damaged = 0
    print(_line("began (UTC)", "scenario", "load", "label", "verdict", "tok/s", "TTFT p95"))
    for rows, info in _by_time(found.paths):
        read, bad = each_run([rows], kept.summarized, kept.run)
        summaries = with_answers_judged(read)
        damaged += bad
        print(_line(*(_cells(summaries[0], rows, info) if summaries else _damaged(info))))
        print(f"  {_shown(rows.stem)}")
    if lost := sum(map(len, orphans(folder).values())):
        files = "1 file is" if lost == 1 else f"{lost} files are"
        print(f"\n{files} of no run: --prune lists what could go")
    return 1 if found.problems or damaged else 0


def _by_time(paths: Sequence[Path]) -> list[tuple[Path, RunInfo | None]]:
    """Return the runs, the newest last, with what their JSONs say first."""
    from vllm_bench.records.find_runs import head_of

    heads = [(rows, head_of(rows)) for rows in paths]
    return sorted(heads, key=lambda it: (it[1].clock_start.wall_s if it[1] else 0.0, it[0].name))


def _cells(summary: RunSummary, rows: Path, info: RunInfo | None) -> Iterator[str]:
    """Yield what the list says of a run."""
    from vllm_bench.figures.digits import short
    from vllm_bench.figures.metrics import headline_metric
    from vllm_bench.records.find_runs import label_of
    from vllm_bench.records.text import ABSENT
    from vllm_bench.summary.levels import output_tokens_per_s

    yield summary.started("%Y-%m-%d %H:%M") or ABSENT
    yield from (summary.scenario, _load(summary), label_of(info) or ABSENT)
    yield "running" if info and _goes_on(rows) else summary.verdict.level
    yield short(output_tokens_per_s(summary))
    yield short(summary.percentile(headline_metric("ttft_ms", summary.load), 95))


def _goes_on(rows: Path) -> bool:
    """Whether a process still writes a run: the JSON of one that was killed says so, too."""
    from vllm_bench.records.run_files import ended

    with ended(rows.parent, rows.stem, [rows]) as has_ended:
        return not has_ended


def _damaged(info: RunInfo | None) -> Iterator[str]:
    """Yield what the list says of a run whose rows can't be read."""
    from vllm_bench.records.find_runs import label_of
    from vllm_bench.records.text import ABSENT

    name = info.scenario.get("name") if info else None
    yield from (ABSENT, name or ABSENT, ABSENT, label_of(info) or ABSENT, "damaged")
    yield from (ABSENT, ABSENT)


def _load(summary: RunSummary) -> str:
    load = summary.load
    if not load.is_open:
        return load.words
    return f"trace x{load.speed:g}" if load.speed else f"{load.number}/s"


def _line(*cells: str) -> str:
    """Return a line of 80 columns; what is cut off is in the run's id, and no figure is."""
    from vllm_bench.records.text import printable

    widths = (16, 13, 13, 9, 7)
    words = [
        printable(cell, width).ljust(width) for cell, width in zip(cells, widths, strict=False)
    ]
    return " ".join([*words, *(cell.rjust(8) for cell in cells[len(widths) :])])


def _shown(name: str) -> str:
    from vllm_bench.records.text import printable

    return printable(name, 1000)


# ---- what changes ----


def _label(word: str, names: Sequence[str], folder: Path) -> int:
    """Set the label of runs. Raises UsageError where it is none."""
    from vllm_bench.records.request_record import RecordsError
    from vllm_bench.records.run_files import ended, files_of
    from vllm_bench.records.run_info import read_head, read_run_info, write_run_info
    from vllm_bench.scenario.mistakes import short_word

    try:
        label = short_word(word) if word else None
    except ValueError as e:
        raise UsageError(f"--label {word}: {e}") from e
    paths, failed = _named(names, folder)
    for rows in paths:
        json = rows.with_suffix(".json")
        with ended(rows.parent, rows.stem, files_of(rows.parent, rows.stem)) as has_ended:
            if not has_ended:
                failed += complain(f"{rows.stem}: {GOES_ON}")
                continue
            try:
                read_head(json)  # it may be another run's
                info = read_run_info(json)
                labelled = {**info.scenario, "label": label}
                write_run_info(json, dataclasses.replace(info, scenario=labelled))
                print(f"{_shown(rows.stem)}: {f'label {label}' if label else 'no label'}")
            except RecordsError as e:
                failed += complain(e)
            except OSError as e:
                failed += complain(f"{json}: not written: {e.strerror}")
    return 1 if failed else 0


def _remove_named(names: Sequence[str], folder: Path) -> int:
    from vllm_bench.records.run_files import files_of, orphans

    lost = orphans(folder)
    paths, failed = _named([name for name in names if name not in lost], folder)
    files: Files = {(rows.parent, rows.stem): files_of(rows.parent, rows.stem) for rows in paths}
    files.update({(folder, name): lost[name] for name in names if name in lost})
    return 1 if _remove(files) + failed else 0


def _named(names: Sequence[str], folder: Path) -> tuple[list[Path], int]:
    """Return the rows of the runs that are named, and how many names are none. A folder is none."""
    from vllm_bench.records.find_runs import find_runs

    folders = [name for name in names if Path(name).is_dir()]
    single = [name for name in names if name not in folders]
    found = find_runs(single, folder) if single else None
    problems = [f"{name}: a folder: name its runs, as {Path(name) / '*.csv'}" for name in folders]
    for problem in (*problems, *(found.problems if found else ())):
        complain(problem)
    return (found.paths if found else []), len(problems) + len(found.problems if found else ())


def _remove(files: Files) -> int:
    """Remove files, run by run; return how many runs are still there."""
    from vllm_bench.records.run_files import remove

    failed = 0
    for (folder, run_id), of_it in files.items():
        size = _size(of_it)
        try:
            gone = remove(folder, run_id, of_it)
        except OSError as e:
            failed += complain(f"{e.filename or folder}: not removed: {e.strerror}")
            continue
        if gone:
            print(f"removed {_shown(run_id)}: {size}")
        else:
            failed += complain(f"{run_id}: {GOES_ON}")
    return failed


def _size(files: Sequence[Path]) -> str:
    size = sum(path.lstat().st_size for path in files if path.is_symlink() or path.exists())
    many = f"{len(files)} file{'s' * (len(files) != 1)}"
    return f"{many}, {size / 1e6:.1f} MB" if size else many


def _prune(folder: Path, *, yes: bool) -> int:
    from vllm_bench.records.find_runs import Asked, choose
    from vllm_bench.records.run_files import files_of, orphans

    chosen = choose(Asked(), folder)
    lost = orphans(folder)
    for problem in chosen.problems if not lost else ():
        complain(problem)
    older: Files = {(p.parent, p.stem): files_of(p.parent, p.stem) for p in chosen.left_out}
    orphaned: Files = {(folder, run_id): of_it for run_id, of_it in lost.items()}
    if yes:
        return 1 if _remove({**older, **orphaned}) else 0
    for what, files in (("older runs", older), ("files of no run", orphaned)):
        print(f"{what}: {'' if files else 'none'}")
        for (_, run_id), of_it in files.items():
            print(f"  {_shown(run_id)}: {_size(of_it)}")
    if older or orphaned:
        print("--prune --yes removes them")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
