#!/usr/bin/env python3
"""Say what runs measured, whether to believe it, and whether it was good enough.

    python bench/summarize.py                            every run in results/
    python bench/summarize.py results/smoke_test-*.csv   some of them
    python bench/summarize.py --check RUN_ID             for CI: exit 4 INVALID, 3 objective missed
    python bench/summarize.py --format vllm              also as `vllm bench serve` writes it
    python bench/summarize.py --columns                  what the columns mean
    python bench/summarize.py --codes                    what the verdicts' codes mean

Reads results/<run_id>.csv, a row a request, <run_id>.json, what the run was, and, where it is
there, tokens/<run_id>.npz, when each token came. A run may be named by either file, by its id, by
a glob (quoted or not) or by its folder; CSV files that aren't runs are passed over where a glob
or a folder brought them, and refused where named.

Writes summary.csv (a row a run), summary_levels.csv (a row a level, over its repeats),
summary.md (to paste into a pull request) and summary.json (all of it; docs/summary.schema.json)
into the folder of the first run, or into --results-dir; with --format vllm also vllm/<run_id>.json.
Figures are computed from these files alone, at any time.

A verdict is VALID, SUSPECT (the figures may mislead) or INVALID (they don't mean what they
say), with the reasons and what to do about each. Times are of successful requests, in an open
loop from when they were due; failures stay in every count. A percentile is shown only with the
samples for it: p99 needs 368.

Exit codes: 0 done; 1 no run, or one that can't be read (the others are still summed up);
2 wrong usage; with --check 4, when a run is INVALID, else 3, when an objective was missed;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_bench.script import ended

if TYPE_CHECKING:  # heavy: --help answers at once without them
    from vllm_bench.summary.summary import RunSummary

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    """Say what was asked for, to whoever goes on reading."""
    args = _parse()
    _show_any_text()
    try:
        status = _summarize(args)
        sys.stdout.flush()  # here, where a closed pipe is caught
    except BrokenPipeError:  # the reader, head say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _summarize(args: argparse.Namespace) -> int:
    """Find the runs, sum them up, write, print."""
    if args.columns:
        return _print_columns()
    if args.codes or args.schema:
        return _print_reference(codes=args.codes)
    from vllm_bench.records.find_runs import find_runs, results_folder

    found = find_runs(args.files, args.results_dir or RESULTS)
    summaries, problems = _summarize_all(found.paths)
    _complain([*found.problems, *problems])
    if not summaries:
        return 1
    folder = results_folder(found.paths[0], args.results_dir)
    written = _write(folder, summaries, vllm=args.format == "vllm")
    _print(summaries, written)
    if not written or found.problems or problems:
        return 1
    return _verdict_code(summaries) if args.check else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="runs; none: all of them")
    where = "where runs and results lie (default: results, beside bench)"
    parser.add_argument("--results-dir", type=Path, metavar="D", help=where)
    parser.add_argument("--columns", action="store_true", help="explain the columns and stop")
    parser.add_argument("--codes", action="store_true", help="explain the verdicts and stop")
    parser.add_argument("--schema", action="store_true", help="print summary.json's and stop")
    parser.add_argument("--check", action="store_true", help="exit 4 INVALID, 3 objective missed")
    parser.add_argument("--format", choices=["vllm"], help="write vllm/<run_id>.json as well")
    return parser.parse_args()


def _show_any_text() -> None:
    """Let a terminal that lacks a character show a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _print_columns() -> int:
    from vllm_bench.records import samples as rows
    from vllm_bench.records.request_record import column_docs
    from vllm_bench.records.samples import GpuRow, ServerRow
    from vllm_bench.tables.columns import summary_column_docs
    from vllm_bench.tables.level_columns import level_column_docs

    for title, docs in (
        ("<run_id>.csv, a row a request", column_docs()),
        ("telemetry/<run_id>.csv, a row a GPU and sample", rows.column_docs(GpuRow)),
        ("server_metrics/<run_id>.csv, a row an engine and second", rows.column_docs(ServerRow)),
        ("summary.csv, a row a run", summary_column_docs()),
        ("summary_levels.csv, a row a level of load", level_column_docs()),
    ):
        print(title)
        width = max(len(name) for name, _ in docs)
        print(*(f"  {name:{width}}  {doc}" for name, doc in docs), "", sep="\n")
    return 0


def _print_reference(*, codes: bool) -> int:
    from vllm_bench.tables.summary_schema import schema_text
    from vllm_bench.verdict.verdict import codes_table

    print(codes_table() if codes else schema_text().decode(), end="\n" * codes)
    return 0


def _summarize_all(paths: Iterable[Path]) -> tuple[list[RunSummary], list[str]]:
    """Return the summaries and, a line each, what could not be read. One run in memory at once."""
    from vllm_bench.records.find_runs import load_run
    from vllm_bench.records.request_record import RecordsError
    from vllm_bench.summary.summary import sorted_summaries, summarize

    summaries, problems = [], []
    for path in paths:
        try:
            run = load_run(path)
            summaries.append(summarize(run))
        except RecordsError as e:
            problems.append(str(e))
            continue
        problems += [run.info_problem] if run.info_problem else []
    return sorted_summaries(summaries), problems


def _write(folder: Path, summaries: list[RunSummary], *, vllm: bool) -> list[Path]:
    """Write all files; say so and return none where the folder doesn't take them."""
    from vllm_bench.records.whole_file import write_whole

    written = []
    try:
        for path, data in _files(folder, summaries, vllm=vllm):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
            written.append(path)
    except OSError as e:
        _complain([f"{folder}: summary not written: {e.strerror}"])
        return []
    return written


def _files(
    folder: Path, summaries: list[RunSummary], *, vllm: bool
) -> Iterator[tuple[Path, bytes]]:
    from vllm_bench.summary.levels import series_of
    from vllm_bench.tables.columns import to_csv
    from vllm_bench.tables.document import to_json
    from vllm_bench.tables.level_columns import levels_to_csv
    from vllm_bench.tables.markdown import to_markdown
    from vllm_bench.tables.vllm_format import to_vllm

    yield folder / "summary.csv", to_csv(summaries)
    yield folder / "summary_levels.csv", levels_to_csv(series_of(summaries))
    yield folder / "summary.md", to_markdown(summaries).encode()
    yield folder / "summary.json", to_json(summaries)
    for summary in summaries if vllm else ():
        yield folder / "vllm" / f"{summary.name}.json", to_vllm(summary)


def _print(summaries: list[RunSummary], written: list[Path]) -> None:
    from vllm_bench.tables.terminal import print_summary, wide_console

    print_summary(summaries, wide_console())
    if written:
        names = ", ".join(p.relative_to(written[0].parent).as_posix() for p in written)
        print(f"\nWrote to {written[0].parent}: {names}")


def _complain(problems: Iterable[str]) -> None:
    from vllm_bench.records.text import printable

    for problem in problems:
        print(f"summarize.py: {printable(problem, 500)}", file=sys.stderr)


def _verdict_code(summaries: list[RunSummary]) -> int:
    """Return 4 where a run is INVALID, else 3 where an objective was missed, else 0."""
    from vllm_bench.summary.levels import series_of
    from vllm_bench.tables.lines import missed

    if any(s.verdict.level == "INVALID" for s in summaries):
        return 4
    return 3 if missed(series_of(summaries)) else 0


if __name__ == "__main__":
    sys.exit(ended(main))
