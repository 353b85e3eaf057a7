#!/usr/bin/env python3
"""Say what runs measured, and whether to believe it: a table, summary.csv and summary.md.

    python bench/summarize.py                            every run in results/
    python bench/summarize.py results/smoke_test-*.csv   some of them
    python bench/summarize.py --check RUN_ID             for CI: exit 4 where it is INVALID
    python bench/summarize.py --columns                  what the columns mean

Reads results/<run_id>.csv, a row a request, and <run_id>.json, what the run was. A run may be
named by either file, by its id, by a glob (quoted or not) or by its folder; CSV files that
aren't runs are passed over where a glob or a folder brought them, and refused where named.

Writes summary.csv (a row a run) and summary.md (to paste into a pull request) into the folder
of the first run, or into --results-dir. Figures are computed from the rows alone, at any time.

A verdict is VALID, SUSPECT (the figures may mislead) or INVALID (they don't mean what they
say), with the reasons and what to do about each. Times are of successful requests; failures
stay in every count. A percentile is shown only with the samples for it: p99 needs 368.

Exit codes: 0 done; 1 no run, or one that can't be read (the others are still summed up);
2 wrong usage; 4 with --check, when a run is INVALID.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from analysis.summary import RunSummary

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    """Find the runs, sum them up, write, print."""
    args = _parse()
    _show_any_text()
    if args.columns:
        return _print_columns()
    from analysis.runs import find_runs, results_folder

    found = find_runs(args.files, args.results_dir or RESULTS)
    summaries, problems = _summarize_all(found.paths)
    _complain([*found.problems, *problems])
    if not summaries:
        if not found.problems and not problems:
            _complain([f"no runs in {args.results_dir or RESULTS}: make some with make bench"])
        return 1
    folder = results_folder(found.paths[0], args.results_dir)
    written = _write(folder, summaries)
    _print(summaries, folder)
    return _exit_code(summaries, clean=written and not found.problems + problems, args=args)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="runs; none: all of them")
    parser.add_argument("--results-dir", type=Path, metavar="D", help="where runs and results lie")
    parser.add_argument("--columns", action="store_true", help="explain the columns and stop")
    parser.add_argument("--check", action="store_true", help="exit 4 when a run is INVALID")
    return parser.parse_args()


def _show_any_text() -> None:
    """Let a terminal that lacks a character show a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _print_columns() -> int:
    from analysis.summary_csv import summary_column_docs
    from loadgen.records import column_docs

    for title, docs in (
        ("<run_id>.csv, a row a request", column_docs()),
        ("summary.csv, a row a run", summary_column_docs()),
    ):
        print(title)
        width = max(len(name) for name, _ in docs)
        print(*(f"  {name:{width}}  {doc}" for name, doc in docs), "", sep="\n")
    return 0


def _summarize_all(paths: Iterable[Path]) -> tuple[list[RunSummary], list[str]]:
    """Return the summaries and, a line each, what could not be read. One run in memory at once."""
    from analysis.runs import load_run
    from analysis.summary import sorted_summaries, summarize
    from loadgen.records import RecordsError

    summaries, problems = [], []
    for path in paths:
        try:
            run = load_run(path)
        except RecordsError as e:
            problems.append(str(e))
            continue
        summaries.append(summarize(run))
        problems += [run.info_problem] if run.info_problem else []
    return sorted_summaries(summaries), problems


def _write(folder: Path, summaries: list[RunSummary]) -> bool:
    """Write both files; say so and return False where the folder doesn't take them."""
    from analysis.summary_csv import to_csv
    from analysis.summary_md import to_markdown
    from loadgen.records import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "summary.csv", to_csv(summaries))
        write_whole(folder / "summary.md", to_markdown(summaries).encode())
    except OSError as e:
        _complain([f"{folder}: summary not written: {e.strerror}"])
        return False
    return True


def _print(summaries: list[RunSummary], folder: Path) -> None:
    from analysis.terminal import print_summary, wide_console

    print_summary(summaries, wide_console())
    print(f"\nWrote {folder / 'summary.csv'} and {folder / 'summary.md'}")


def _complain(problems: Iterable[str]) -> None:
    from analysis.foreign import printable

    for problem in problems:
        print(f"summarize.py: {printable(problem, 500)}", file=sys.stderr)


def _exit_code(summaries: list[RunSummary], *, clean: bool, args: argparse.Namespace) -> int:
    if not clean:
        return 1
    invalid = any(s.verdict.level == "INVALID" for s in summaries)
    return 4 if args.check and invalid else 0


if __name__ == "__main__":
    sys.exit(main())
